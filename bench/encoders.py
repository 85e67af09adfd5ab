"""Encoders: which settings are best, what they reach, how fast they train beside others, how fast they serve.

    python bench/encoders.py recipes banking77 [NAME…]   # settings, on a fifth of the training part; no test is read
    python bench/encoders.py frozen banking77 [SEED…]    # a head alone, on the rows that `recipes` holds out
    python bench/encoders.py mixed banking77 [SEED…]     # with a linear model's logits added, on the same rows
    python bench/encoders.py rates banking77 [SEED…]     # by how slowly lower layers learn, on the same rows
    python bench/encoders.py few banking77 [ROWS…]       # by texts of a batch, where few rows of a label are taught
    python bench/encoders.py accuracy banking77 [SEED…]  # the official test, with the settings that ship
    python bench/encoders.py training [ARM…]             # an epoch, beside transformers and sentence-transformers
    python bench/encoders.py serving banking77           # the bundle of `accuracy`: batch, HTTP, start
    python bench/encoders.py errors clinc150             # those that all seeds of its rows of the scoreboard make

bench/data_sets.py says where the data lie (CLINC150 without its questions out of scope). The base is
all-MiniLM-L6-v2. An epoch of BANKING77 takes half a minute on two cores with bfloat16.
"""

from __future__ import annotations

import itertools
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from data_sets import DATA

import tunewright as tw
from tunewright import api
from tunewright.config import Spec
from tunewright.core.artifacts import read_jsonl, read_manifest, write_jsonl
from tunewright.data import load_dataset
from tunewright.data.curve.classical import fit_linear
from tunewright.data.dataset import Dataset
from tunewright.evaluation.evidence import VALIDATION, Record, load_records
from tunewright.inference.runtimes.base import FOLDERS, runtime_in
from tunewright.inference.runtimes.beside import Beside
from tunewright.models.resolve import resolve_encoder
from tunewright.models.tokenizer import TextTokenizer
from tunewright.serving.batch import answer_file
from tunewright.serving.child import running_server
from tunewright.tasks import Example, task_of
from tunewright.training.encoders.beside import weight_beside
from tunewright.training.encoders.settings import for_encoder

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "bench" / "runs" / "encoders"
SETS = {"banking77": "banking77", "clinc150": "clinc150_oos"}
OUT_OF_SCOPE = "oos"
RECIPES: dict[str, tuple[str, ...]] = {
    "shipped": (),
    "read once": ("train.encoder.consistency=0",),
    "4 epochs": ("train.encoder.epochs=4",),
    "10 epochs": ("train.encoder.epochs=10",),
    "lr 2e-4": ("train.encoder.lr=2e-4",),
    "lr 5e-4": ("train.encoder.lr=5e-4",),
    "no smoothing": ("train.encoder.label_smoothing=0",),
    "smoothing 0.1": ("train.encoder.label_smoothing=0.1",),
    "batch 64, lr 4e-4": ("train.encoder.batch_size=64", "train.encoder.lr=4e-4"),
    "3 averaged": ("train.num_seeds=3",),
    "3 averaged, 5 epochs": ("train.num_seeds=3", "train.encoder.epochs=5"),
}
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Of a linear model's logits beside an encoder's."""
LOWEST = (1.0, 0.38, 0.12, 0.016)
"""Shares of the uppermost layer's learning rate that the embeddings get: of six layers 1, 0.85, 0.7 and 0.5 a layer."""
SEEDS = (0, 1)
"""Of `recipes`."""
BATCHES, ASKED = (32, 8), 2000
"""Of `few`: texts of a batch, and rows of the training part that are not taught and asked."""
ROUNDS, STEPS, WARM = 3, 40, 5
"""Of `training`: each candidate in turn so often, steps of each round, and of those the first, which are not timed."""


def project(name: str) -> Path:
    """A job on a data set, made once."""
    folder = RUNS / name
    if not (folder / "tunewright.yaml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        for part in ("train", "test"):
            rows = [row for row in read_jsonl(DATA / SETS[name] / f"{part}.jsonl") if row["label"] != OUT_OF_SCOPE]
            write_jsonl(folder / f"{part}.jsonl", rows)
        labels = sorted({row["label"] for row in read_jsonl(folder / "train.jsonl")})
        spec = {
            "name": name,
            "model": "all-minilm",
            "task": {"kind": "classify", "instruction": "Choose the intent.\n{labels}", "labels": labels},
            "data": {"train": "train.jsonl", "test": {"official": "test.jsonl"}, "validation_fraction": 0.05},
        }
        (folder / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")
    return folder


def on_a_part(name: str, seed: int | str, *changes: str) -> Spec:
    """The job, trained on four fifths of the training part."""
    part = ["data.validation_fraction=0.2", "train.num_evaluations=0", "train.num_checkpoints=0", f"seed={seed}"]
    return tw.load_spec(project(name), [*part, *changes])


def recipes(name: str, *wanted: str) -> None:
    """Accuracy on a fifth of the training part, for some settings and two seeds, each with a split of its own."""
    print(f"{'settings':20} {'seed':>4} {'right':>7} {'minutes':>7}")
    for recipe in wanted or RECIPES:
        for seed in SEEDS:
            trained = tw.train(on_a_part(name, seed, *RECIPES[recipe]))
            manifest = read_manifest(trained)
            assert manifest
            right = held_out(trained, RUNS / name / "runs" / "latest" / "split")
            print(f"{recipe:20} {seed:4} {100 * right:7.2f} {manifest.wall_seconds / 60:7.1f}", flush=True)


def held_out(trained: Path, split: Path) -> float:
    """Accuracy on the validation part."""
    logits, gold = logits_on(trained, load_dataset(split).validation)
    return float((logits.argmax(1) == gold).mean())


def logits_on(trained: Path, examples: Sequence[Example], *, whole: bool = True) -> tuple[Any, Any]:
    """(logits of a trained encoder [texts, labels], the number of each right label).

    Args:
        whole: with the linear model that may stand beside it.
    """
    from tunewright.training.encoders.network import Network
    from tunewright.training.encoders.passes import logits_of

    network, tokenizer = Network.load(trained / "encoder"), TextTokenizer(trained / "encoder")
    if not whole:
        network.beside = None
    found = logits_of(network, [tokenizer.encode_framed(each.request) for each in examples])
    return found.numpy(), np.array([network.labels.index(each.answer) for each in examples])


def mixed(name: str, *seeds: str) -> None:
    """Accuracy, as in `recipes`, of an encoder's logits with a linear model's added, by the weight of those; and the
    weight that training would choose on these rows, with the loss before and after."""
    print(f"{'seed':>4} {'linear':>7} " + " ".join(f"{weight:7}" for weight in WEIGHTS) + "  chosen  loss")
    for seed in seeds or SEEDS:
        spec = on_a_part(name, seed)
        trained = tw.train(spec)
        dataset = load_dataset(RUNS / name / "runs" / "latest" / "split")
        logits, gold = logits_on(trained, dataset.validation, whole=False)
        beside = of_linear(spec, dataset)
        found = [(logits + weight * beside).argmax(1) for weight in WEIGHTS]
        shares = [100 * float((answers == gold).mean()) for answers in (beside.argmax(1), *found)]
        chosen, before, after = weight_beside(logits.astype(float), beside.astype(float), gold, range(len(gold)))
        print(
            f"{seed:>4} "
            + " ".join(f"{share:7.2f}" for share in shares)
            + f" {chosen:7.2f}  {before:.3f} → {after:.3f}",
            flush=True,
        )


def of_linear(spec: Spec, dataset: Dataset) -> Any:
    """The logits [texts, labels] of a linear model on the validation part."""
    texts, answers = ([getattr(each, key) for each in dataset.train] for key in ("request", "answer"))
    linear = fit_linear(texts, answers, task_of(spec.task).answers)
    return np.array(linear.of_texts(each.request for each in dataset.validation))


def rates(name: str, *seeds: str) -> None:
    """Accuracy, as in `recipes`, by how slowly lower layers learn: of an encoder alone and with a linear model."""
    from tunewright.training.encoders.objectives import OneLabel
    from tunewright.training.encoders.steps import prepare_encoder

    for seed, lowest in itertools.product(seeds or SEEDS, LOWEST):
        OneLabel.lowest = lowest
        spec = on_a_part(name, seed)
        split = api.split(spec)
        dataset = load_dataset(split)
        with tempfile.TemporaryDirectory() as folder:
            home, trained = Path(folder) / "home", Path(folder) / "trained"
            members = prepare_encoder(spec, split, home)
            trainer = members.build(members, home, int(seed))
            trainer.train()
            trainer.model.save_pretrained(trained / "encoder")
            logits, gold = logits_on(trained, dataset.validation)
        beside = of_linear(spec, dataset)
        weight, before, after = weight_beside(logits.astype(float), beside.astype(float), gold, range(len(gold)))
        alone, both = (100 * float((each.argmax(1) == gold).mean()) for each in (logits, logits + weight * beside))
        print(
            f"seed {seed}, lowest {lowest}: {alone:.2f}, loss {before:.3f}; with a linear model {both:.2f}, "
            f"loss {after:.3f}",
            flush=True,
        )


def few(name: str, *counts: str) -> None:
    """Accuracy on untaught rows of the training part, by the texts of a batch, where few rows of a label are taught."""
    for count in counts or ("5", "10"):
        folder = RUNS / f"{name}-{count}"
        if not (folder / "tunewright.yaml").exists():
            rows, taught, others = read_jsonl(project(name) / "train.jsonl"), [], []
            seen: Counter[str] = Counter()
            for row in rows:
                seen[row["label"]] += 1
                (taught if seen[row["label"]] <= int(count) else others).append(row)
            folder.mkdir()
            write_jsonl(folder / "train.jsonl", taught)
            write_jsonl(folder / "others.jsonl", random.Random(0).sample(others, ASKED))
            spec = json.loads((project(name) / "tunewright.yaml").read_text("utf-8"))
            spec["data"] |= {"test": {"others": "others.jsonl"}, "validation_fraction": 0.1}
            (folder / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")
        for batch, seed in itertools.product(BATCHES, SEEDS):
            changes = [f"train.encoder.batch_size={batch}", "train.num_evaluations=0", "train.num_checkpoints=0"]
            trained = tw.train(tw.load_spec(folder, [*changes, f"seed={seed}"]))
            manifest = read_manifest(trained)
            assert manifest
            dataset = load_dataset(folder / "runs" / "latest" / "split")
            logits, gold = logits_on(trained, dataset.test_examples)
            print(
                f"{count} rows a label, {len(dataset.train)} in all, batches of {batch}, seed {seed}: "
                f"{100 * float((logits.argmax(1) == gold).mean()):.2f}, {manifest.wall_seconds:.0f} s",
                flush=True,
            )


def frozen(name: str, *seeds: str) -> None:
    """Accuracy, as in `recipes`, of logistic regression on the vectors of the body as it comes; how much it is
    regularised is chosen on three folds of what it is taught."""
    from sklearn.linear_model import LogisticRegressionCV

    from tunewright.training.encoders.network import Network
    from tunewright.training.encoders.passes import vectors_of

    base = resolve_encoder("all-minilm", Path())
    network, tokenizer = Network.of(base, ["any"], half=False).eval(), TextTokenizer(base.folder)
    for seed in seeds or SEEDS:
        dataset = load_dataset(api.split(on_a_part(name, seed)))
        train, held = (
            (vectors_of(network, [tokenizer.encode_framed(each.request) for each in part]), [e.answer for e in part])
            for part in (dataset.train, dataset.validation)
        )
        head = LogisticRegressionCV(Cs=[1, 3, 10, 30], cv=3, max_iter=1000).fit(train[0].numpy(), train[1])
        print(f"head alone, seed {seed}: {100 * head.score(held[0].numpy(), held[1]):.2f}", flush=True)


def accuracy(name: str, *seeds: str) -> None:
    """The official test after training on the training part, of which a twentieth is held out: as it was trained, in
    int8, and the minutes."""
    for seed in seeds or ("0", "1", "2"):
        spec = tw.load_spec(project(name), ["train.num_evaluations=0", "train.num_checkpoints=0", f"seed={seed}"])
        answers = tw.evaluate(spec)
        shown = read_manifest(answers)
        trained = read_manifest((RUNS / name / "runs" / "latest" / "train").resolve())
        assert shown
        assert trained
        found = {key: value for key, value in shown.result.items() if not key.startswith("majority")}
        print(f"{name} seed {seed}: {found}, trained in {trained.wall_seconds / 60:.1f} min", flush=True)


def training(*wanted: str) -> None:
    """Seconds an epoch of BANKING77, each candidate in a process of its own, in turn. `once` is Tunewright with each
    text read once, as the others do; transformers-best has bfloat16 and batches of equally long texts."""
    candidates = wanted or ("once", "tunewright", "transformers", "transformers-best", "sentence-transformers")
    found: dict[str, list[float]] = {candidate: [] for candidate in candidates}
    for _ in range(ROUNDS):
        for candidate in candidates:
            done = subprocess.run(
                [sys.executable, __file__, "candidate", candidate], capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(done.stderr[-2000:])
            found[candidate].append(float(done.stdout.split()[-1]))
    own = statistics.median(found[candidates[0]])
    for candidate, seconds in found.items():
        print(f"{candidate:24} {statistics.median(seconds):6.1f} s an epoch, {statistics.median(seconds) / own:4.2f} x")


def candidate(name: str) -> None:
    """Train some steps; prints the seconds that an epoch of them would take."""
    import torch
    from torch import nn
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from tunewright.core.progress import quiet_libraries
    from tunewright.inference.runtimes.torch_model import compute_type

    quiet_libraries()
    short = [f"train.max_steps={STEPS}", "train.num_evaluations=0", "train.num_checkpoints=0"]
    short += ["train.encoder.consistency=0"] if name == "once" else []
    spec = tw.load_spec(project("banking77"), short)
    rows, labels = list(read_jsonl(project("banking77") / "train.jsonl")), list(spec.task.labels)
    base, times = resolve_encoder("all-minilm", Path()), list[float]()
    tokenizer = TextTokenizer(base.folder)
    encoded = [{"input_ids": tokenizer.encode_framed(r["text"]), "labels": labels.index(r["label"])} for r in rows]

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            times.append(time.perf_counter())

    half = compute_type("auto") == "bfloat16"
    settings: dict[str, Any] = {
        "output_dir": str(RUNS / "scratch"),
        "max_steps": STEPS,
        "per_device_train_batch_size": 32,
        "learning_rate": 3e-4,
        "warmup_steps": 0.1,
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "use_cpu": not torch.cuda.is_available(),
        "dataloader_pin_memory": False,
        "logging_steps": 10,
    }
    if name in ("once", "tunewright"):
        from tunewright.tasks import task_of
        from tunewright.training.encoders.objectives import objective_of
        from tunewright.training.encoders.trainer import build_encoder_trainer

        own = for_encoder(spec, len(rows))
        objective = objective_of(task_of(own.task), own.train.encoder)
        ready = [{"input_ids": row["input_ids"], "labels": [row["labels"]]} for row in encoded]
        trainer: Any = build_encoder_trainer(own, base, objective, ready, [], RUNS / "scratch", 0, STEPS)
        trainer.add_callback(Clock())
    elif name.startswith("transformers"):
        from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

        best = name.endswith("best")
        more = {"bf16": half, "train_sampling_strategy": "group_by_length"} if best else {}
        model = AutoModelForSequenceClassification.from_pretrained(base.folder, num_labels=len(labels))
        collate = DataCollatorWithPadding(AutoTokenizer.from_pretrained(base.folder))
        trainer = Trainer(
            model=model,
            args=TrainingArguments(**settings, **more),
            train_dataset=encoded,
            data_collator=collate,
            callbacks=[Clock()],
        )
    else:
        from datasets import Dataset
        from sentence_transformers import (
            SentenceTransformer,
            SentenceTransformerTrainer,
            SentenceTransformerTrainingArguments,
        )

        class HeadLoss(nn.Module):
            """A linear head on the sentence's vector: what the library lacks for labels of single texts."""

            def __init__(self, model: Any):
                super().__init__()
                self.model, self.head = model, nn.Linear(384, len(labels))

            def forward(self, features: Any, gold: Any) -> Any:
                vectors = self.model(features[0])["sentence_embedding"]
                return nn.functional.cross_entropy(self.head(vectors), gold)

        model = SentenceTransformer(str(base.folder), device="cpu")
        data = Dataset.from_dict({"text": [r["text"] for r in rows], "label": [labels.index(r["label"]) for r in rows]})
        trainer = SentenceTransformerTrainer(
            model=model,
            args=SentenceTransformerTrainingArguments(**settings),
            train_dataset=data,
            loss=HeadLoss(model),
            callbacks=[Clock()],
        )
    trainer.train()
    each = (times[-1] - times[WARM - 1]) / (len(times) - WARM)
    print(each * len(rows) / 32)


def serving(name: str) -> None:
    """Answers a second in batch, times over HTTP one after the other, and seconds from start to ready."""
    bundle = tw.export(tw.load_spec(project(name), ["seed=0"])) / "bundle"
    texts = [row["text"] for row in read_jsonl(project(name) / "test.jsonl")]
    source, target = RUNS / name / "asked.jsonl", RUNS / name / "answered.jsonl"
    write_jsonl(source, ({"text": text} for text in texts * 5))
    rates, starts = [], []
    for _ in range(ROUNDS):
        target.unlink(missing_ok=True)
        rates.append(answer_file(bundle, source, target).per_second)
    for _ in range(ROUNDS):
        began = time.perf_counter()
        with running_server(bundle):
            starts.append(time.perf_counter() - began)
    with running_server(bundle) as address, httpx.Client(base_url=address) as client:
        times = [_timed(client, name, text) for text in texts[:1000]]
    if beside := Beside.load(bundle / FOLDERS[runtime_in(bundle)], bundle):
        tokenizer = TextTokenizer(bundle)
        read = [tokenizer.encode_framed(text) for text in texts[:1000]]
        began = time.perf_counter()
        beside.logits(read)
        print(
            f"of which the linear model beside it {time.perf_counter() - began:.2f} ms an answer"
        )  # seconds of a thousand
    p50, p95 = np.quantile(times[50:], [0.5, 0.95])
    print(f"batch {max(rates):,.0f} answers/s of {len(texts) * 5:,} (rounds: {', '.join(f'{r:,.0f}' for r in rates)})")
    print(f"HTTP, one at a time: P50 {p50:.1f} ms, P95 {p95:.1f} ms; start to ready {statistics.median(starts):.2f} s")


def errors(name: str) -> None:
    """The errors on the official test that all seeds of the set's rows (bench/scoreboard.py) make, and the texts of
    those in which they give the same wrong answer, the surest first."""
    rows = sorted((RUNS.parent / "scoreboard" / name / "all-minilm").iterdir())
    runs = [row / "runs" / "latest" for row in rows]
    seeds = [_answers(run / "parity" / "answers" / "served.jsonl") for run in runs]
    linear = _answers(runs[0] / "evaluate" / "answers" / "svm.jsonl")
    texts = {each.meta.id: each.request for each in load_dataset(runs[0] / "split").test_examples}
    wrong = [{key for key, each in answers.items() if each.answer != each.gold} for answers in seeds]
    shared = set.intersection(*wrong)
    alike = [key for key in shared if len({answers[key].answer for answers in seeds}) == 1]
    simple = sum(linear[key].answer == seeds[0][key].answer for key in alike)
    votes = {key: Counter(answers[key].answer for answers in seeds).most_common(1)[0][0] for key in seeds[0]}
    right = sum(votes[key] == each.gold for key, each in seeds[0].items())
    print(f"{len(seeds)} seeds, {len(texts):,} questions, {', '.join(str(len(each)) for each in wrong)} errors")
    print(f"{len(shared)} errors of all, {len(alike)} of them with the same answer, {simple} the linear model's too")
    print(f"a vote is right on {right / len(texts):.1%}")
    for key in sorted(alike, key=lambda key: -seeds[0][key].confidence):
        print(f"{seeds[0][key].confidence:.2f}  {seeds[0][key].gold} → {seeds[0][key].answer}: {texts[key]}")


def _answers(file: Path) -> dict[str, Record]:
    """The answers to the test examples, by the examples' ids."""
    return {each.id: each for each in load_records(file) if each.split != VALIDATION}


def _timed(client: httpx.Client, model: str, text: str) -> float:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    began = time.perf_counter()
    client.post("/v1/chat/completions", json=body).raise_for_status()
    return 1000 * (time.perf_counter() - began)


COMMANDS: dict[str, Callable[..., None]] = {
    "recipes": recipes,
    "frozen": frozen,
    "mixed": mixed,
    "rates": rates,
    "few": few,
    "accuracy": accuracy,
    "training": training,
    "candidate": candidate,
    "serving": serving,
    "errors": errors,
}


def main(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] not in COMMANDS:
        sys.exit(__doc__)
    COMMANDS[arguments[0]](*arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
