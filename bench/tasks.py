"""How well SmolLM2-135M extracts and generates when tuned on one CPU machine, on real data.

    python bench/tasks.py choose receipts train.lr=1e-3    # a setting, scored on held-out training rows
    python bench/tasks.py final receipts seed=0            # the setting of the docs, scored on the test parts
    python bench/tasks.py controls receipts                # the baselines alone; the base model shown eight examples
    python bench/tasks.py final receipts model=all-minilm  # the same of an encoder that marks values

Jobs: receipts (SROIE), slots (SNIPS), addresses (usaddress), pii (Presidio), invoices (examples/invoices), answers
(Bitext). `choose` never reads a test: it is scored on training rows that the split holds out, a tenth of them, of
invoices one of the four layouts, of pii a quarter of the templates. `final` trains on all, or on all but a few by which
the best adapter is kept (slots). Answers are the adapter's, written under the rules of serving, or the encoder's. The
data: bench/data_sets.py; outputs stay in bench/runs.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data_sets import DATA as SHARED
from schemas import all_fields, texts

import tunewright as tw
from tunewright.core.artifacts import read_jsonl, read_manifest, write_jsonl
from tunewright.core.progress import quiet_libraries
from tunewright.data import evenly, load_dataset
from tunewright.evaluation.candidates.classifiers import trained_encoder
from tunewright.evaluation.candidates.records import controls
from tunewright.evaluation.statistics.intervals import ratio
from tunewright.exporters.encoders import build_encoder, token_outputs
from tunewright.inference.predictors import Predictor, RecordTagger, language_model
from tunewright.inference.predictors.prompted import shots_of
from tunewright.inference.runtimes.encoder_model import EncoderModel
from tunewright.inference.runtimes.torch_model import TorchNextToken, load_torch_model
from tunewright.models.resolve import is_encoder, resolve, resolve_encoder
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, Task, task_of
from tunewright.tasks.measures import Ratio
from tunewright.training.encoders.network import Network
from tunewright.training.engine.fast_paths import fit_engine
from tunewright.training.loop.prepare import Encoder
from tunewright.training.loop.trainer import load_adapter

RUNS = Path(__file__).parent / "runs"
FEW_SHOT = 50
"""Test examples that the base model is asked: it answers one at a time."""
INVOICE = Path(__file__).parents[1] / "examples" / "invoices" / "invoice.json"


def fields_of(folder: str) -> dict[str, Any]:
    return all_fields(row["entities"] for row in read_jsonl(SHARED / folder / "train.jsonl"))


def extract(instruction: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "extract", "instruction": instruction, "schema": schema}


JOBS: dict[str, dict[str, Any]] = {
    "receipts": {
        "folder": "sroie_receipts",
        "tests": {"test": "test.jsonl", "new_vendor": "test_new_vendor.jsonl"},
        "task": lambda: extract("Fill in the fields of this receipt.", texts("company", "date", "total")),
        "train": {"batch_size": 8, "lr": 1e-3, "epochs": 2, "schedule": "cosine", "max_length": 2048},
    },
    "slots": {
        "folder": "snips",
        "tests": {"test": "test.jsonl"},
        "task": lambda: extract("Fill in the slots of this request.", fields_of("snips")),
        "train": {"batch_size": 32, "lr": 1e-3, "epochs": 3, "schedule": "cosine", "lora": {"dropout": 0.1}},
        "validation": 0.05,
    },
    "addresses": {
        "folder": "pkg_usaddress",
        "tests": {"test": "test.jsonl"},
        "task": lambda: extract("Name the parts of this address.", fields_of("pkg_usaddress")),
        "train": {"batch_size": 16, "lr": 1e-3, "epochs": 4, "schedule": "cosine"},
    },
    "pii": {
        "folder": "presidio_pii",
        "tests": {},  # none lies here: `choose` holds out templates
        "group": "template_id",
        "task": lambda: extract("Find the personal data.", all_fields("presidio_pii")),
        "train": {"batch_size": 16, "lr": 1e-3, "epochs": 4, "schedule": "cosine"},
    },
    "invoices": {
        "folder": "demo_invoices",
        "tests": {"seen": "test.jsonl", "unseen": "test_unseen_layout.jsonl"},
        "group": "layout",
        "task": lambda: extract("Fill in the fields of this invoice.", json.loads(INVOICE.read_text("utf-8"))),
        "train": {"batch_size": 16, "lr": 1e-3, "epochs": 6, "schedule": "cosine"},
    },
    "answers": {
        "folder": "bitext_support",
        "tests": {"test": "test.jsonl"},
        "task": lambda: {"kind": "generate", "instruction": "Answer this customer."},
        "answer": "answer",
        "most": 300,  # tests, evenly spaced: writing takes longer than choosing
        "train": {"batch_size": 16, "lr": 1e-3, "epochs": 1, "schedule": "cosine"},
    },
}


def project(name: str, final: bool) -> Path:
    """A folder with the data and a spec."""
    job = JOBS[name]
    folder = RUNS / f"{name}-{'final' if final else 'choose'}"
    folder.mkdir(parents=True, exist_ok=True)
    # Held-out rows are of other groups than the training's, so that a setting is chosen for what training never saw.
    group = None if final else job.get("group")
    files = {"train": "train.jsonl"} | (job["tests"] if final else {})
    for part, file in files.items():
        rows = read_jsonl(SHARED / job["folder"] / file)
        answer = job.get("answer", "entities")
        kept = {"text": "text", "label": answer} | ({"group": group} if group else {})
        write_jsonl(folder / f"{part}.jsonl", ({name: row[column] for name, column in kept.items()} for row in rows))
    spec = {
        "name": name,
        "task": job["task"](),
        "data": {
            "train": "train.jsonl",
            "test": {part: f"{part}.jsonl" for part in files if part != "train"},
            "test_fraction": 0.25 if group else 0.1,
            "group": "group" if group else None,
            "validation_fraction": job.get("validation", 0.0) if final else 0.0,
        },
        "train": job["train"],
    }
    (folder / "tunewright.yaml").write_text(json.dumps(spec, indent=1), "utf-8")
    return folder


def tell(candidate: str, part: str, task: Task, examples: Sequence[Example], answers: Sequence[str]) -> None:
    measured = [
        task.measures(example.request, example.answer, answer)
        for example, answer in zip(examples, answers, strict=True)
    ]
    names = list(dict.fromkeys(name for each in measured for name in each))
    figures = []
    for name in names:
        interval = ratio([each.get(name, Ratio(0, 0)) for each in measured], None)
        figures.append(f"{name} {100 * interval.value:.1f} ({100 * interval.low:.1f} to {100 * interval.high:.1f})")
    print(f"{candidate}, {part}, {len(examples)}: {'; '.join(figures[:12])}", flush=True)


def few_shot(spec: tw.Spec, task: Task, train: Sequence[Example]) -> Predictor:
    """The base model as it is, shown examples as `tunewright evaluate` shows them."""
    base = resolve(spec.model, spec.folder)
    tokenizer = TextTokenizer(base.folder)
    shots = shots_of(train, task.answers, spec.evaluate.few_shot, tokenizer.encode_verbatim)
    longest = max(len(tokenizer.encode_verbatim(example.answer)) for example in train)
    model = TorchNextToken(load_torch_model(base.folder))
    return language_model(model, task, base.template, tokenizer, longest, shots)


def writing(spec: tw.Spec, run: Path, train: Sequence[Example]) -> Callable[[Sequence[Example]], list[str]]:
    """What an adapter answers."""
    encoder = Encoder(spec)
    model = load_adapter(spec, encoder.base.folder, run / "adapter")
    engine = fit_engine(model, encoder.rows(train[:16]))
    return lambda examples: encoder.part(examples, most=len(examples)).answer(model, engine)


def tagging(spec: tw.Spec, task: Task, run: Path) -> Callable[[Sequence[Example]], list[str]]:
    """What an encoder answers."""
    tagger = trained_encoder(run / "encoder", task, resolve_encoder(spec.model, spec.folder).window)
    return lambda examples: [answer.text for answer in tagger.answers([example.request for example in examples])]


def tagging_in_int8(spec: tw.Spec, task: Task, run: Path) -> Callable[[Sequence[Example]], list[str]]:
    """What it answers as OpenVINO serves it, one text at a time."""
    window, tuned = resolve_encoder(spec.model, spec.folder).window, run / "encoder"
    with tempfile.TemporaryDirectory() as scratch:
        build_encoder(tuned, Path(scratch) / "graph", "openvino-encoder", "int8")
        model = EncoderModel(Path(scratch) / "graph", context=window)
    outputs, habits = token_outputs(tuned), Network.habits_in(tuned)
    tagger = RecordTagger(model.logits, task, TextTokenizer(tuned), outputs, window, habits=habits)
    return lambda examples: [tagger.answer(example.request).text for example in examples]


def main(mode: str, name: str, overrides: list[str]) -> None:
    quiet_libraries()
    spec = tw.load_spec(project(name, mode != "choose"), overrides)
    dataset = load_dataset(tw.split(spec))
    task = task_of(spec.task)
    tests = {part: evenly(examples, JOBS[name].get("most", len(examples))) for part, examples in dataset.test.items()}
    if mode == "controls":
        for candidate, predictor in {
            **controls(task, dataset.train),
            "few_shot": few_shot(spec, task, dataset.train),
        }.items():
            for part, examples in tests.items():
                asked = evenly(examples, FEW_SHOT) if candidate == "few_shot" else examples
                tell(candidate, part, task, asked, [predictor.answer(example.request).text for example in asked])
        return
    run = tw.train(spec)
    manifest = read_manifest(run)
    assert manifest
    if is_encoder(spec.model, spec.folder):
        candidates = {"": tagging(spec, task, run), " int8": tagging_in_int8(spec, task, run)}
    else:
        candidates = {"": writing(spec, run, dataset.train)}
    for (candidate, answering), (part, examples) in itertools.product(candidates.items(), tests.items()):
        started = time.perf_counter()
        answers = answering(examples)
        seconds = time.perf_counter() - started
        tell(f"{mode} {name} {' '.join(overrides)}{candidate}", part, task, examples, answers)
        print(
            f"  trained in {manifest.wall_seconds / 60:.1f} min, {manifest.peak_memory_mb:.0f} MB, last loss "
            f"{manifest.result['last_loss']}; {seconds / len(examples):.2f} s an answer",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
