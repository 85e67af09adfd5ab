"""Does the diagnosis name what is wrong with a training, and nothing where nothing is? Real trainings of SmolLM2-135M.

    python bench/diagnosis.py choose   # trainings on which the thresholds were chosen
    python bench/diagnosis.py report   # other seeds and mostly other data, on which none was
    python bench/diagnosis.py small    # the same of 96 rows
    python bench/diagnosis.py sound    # trainings to which nothing was done: warm, longer, the shipped settings
    python bench/diagnosis.py all      # these four, and what they say of each code
    python bench/diagnosis.py cascades # how much the sound trainings answer by themselves; for `assess fit`
    python bench/diagnosis.py record   # writes tests/training/histories.jsonl, from the first

Each cause is provoked on purpose, and clean trainings stand beside them. Whether one of these should have gone on for
longer is not guessed: it is trained again for three times the epochs, which is what T003 advises, and both adapters
answer rows that no training saw; T003 is expected where that gains beyond chance. Curves stay in bench/runs/diagnosis,
so that nothing is trained twice: delete the folder to do it all again. The tickets are the example's first set, from
the repository's history; bench/data_sets.py says where the others lie. Two hours of one core.
"""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

from data_sets import DATA as SHARED

from tunewright.config import Spec, parse_spec
from tunewright.config.sections import TrainSpec
from tunewright.core.artifacts import read_jsonl, write_jsonl
from tunewright.core.progress import quiet_libraries, say, track
from tunewright.data.dataset import Dataset, save_dataset
from tunewright.models.chat import answer_tokens
from tunewright.models.resolve import resolve
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, LabelTrie, Meta, task_of
from tunewright.training.diagnosis.chance import ScoreChange, change
from tunewright.training.diagnosis.diagnosis import CannotTrain
from tunewright.training.diagnosis.history import History, TrainingFacts
from tunewright.training.diagnosis.rules import diagnose
from tunewright.training.engine.fast_paths import fit_engine
from tunewright.training.loop.answering import likeliest_labels
from tunewright.training.loop.encode import IGNORED
from tunewright.training.loop.prepare import Encoder, prepare
from tunewright.training.loop.soup_training import Soup, curve_of
from tunewright.training.loop.trainer import load_adapter, planned_steps

ROOT = Path(__file__).parents[1]
KEPT = Path(__file__).parent / "runs" / "diagnosis"

Labelled = list[tuple[str, str, str]]
"""Text, label, group (empty: stands by itself)."""
Parts = tuple[Labelled, Labelled, Labelled]
"""To train on, to measure the training by, and to find out whether advice helps."""
FIRST = "19d7e51"
"""A commit of the time when the example had other tickets."""
TESTED = 240


def labelled(path: Path, label: str = "label") -> Labelled:
    return [(row["text"], row[label], "") for row in read_jsonl(path) if row[label] != "oos"]


def first_tickets(part: str) -> list[dict[str, Any]]:
    """The tickets that the example had until 2026-11-28: ten phrasings a route, so that few groups can be held out."""
    name = f"{FIRST}:examples/tickets/data/{part}.jsonl"
    kept = subprocess.run(["git", "show", name], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [json.loads(line) for line in kept.splitlines()]


def tickets(seed: int, size: int) -> Parts:
    """Training rows, a quarter as many held out, of phrasings that training does not see, and the shipped test."""
    rows = first_tickets("train")
    phrasings = sorted({row["phrasing"] for row in rows})
    random.Random(seed).shuffle(phrasings)
    held = set(phrasings[: len(phrasings) // 5])
    parts: tuple[Labelled, Labelled] = ([], [])
    for row in rows:
        parts[row["phrasing"] in held].append((row["text"], row["label"], row["phrasing"]))
    test = [(row["text"], row["label"], row["phrasing"]) for row in first_tickets("test_unseen_phrasing")]
    return parts[0][:size], parts[1][: size // 4], test


def drawn(path: Path, label: str = "label", most: int = 10) -> Callable[[int, int], Parts]:
    """Rows of at most so many labels."""

    def parts(seed: int, size: int) -> Parts:
        draw, rows = random.Random(seed), labelled(path, label)
        names = sorted({row[1] for row in rows})
        names = draw.sample(names, min(most, len(names)))
        rows = [row for row in rows if row[1] in names]
        picked = draw.sample(rows, size + size // 4)
        rest = [row for row in rows if row not in set(picked)]
        return picked[size // 4 :], picked[: size // 4], draw.sample(rest, min(TESTED, len(rest)))

    return parts


SETS: dict[str, Callable[[int, int], Parts]] = {
    "tickets": tickets,
    "snips": drawn(SHARED / "snips" / "train.jsonl"),
    "bitext": drawn(SHARED / "bitext_support" / "train.jsonl"),
    "domains": drawn(SHARED / "clinc150_oos" / "train.jsonl", "domain"),
    "banking77": drawn(SHARED / "banking77" / "train.jsonl"),
}
SETTINGS = {
    "lr": 1e-3,
    "epochs": 1,
    "max_length": 512,
    "num_evaluations": 3,
    "num_checkpoints": 0,
    "precision": "auto",
}
"""A good training of any of the sets."""


@dataclass(frozen=True)
class Case:
    """A cause to provoke: what is changed in settings, data or encoded rows."""

    expected: str
    """The code that names it; empty where nothing is wrong."""
    settings: dict[str, Any]
    data: Callable[[Labelled, random.Random], Labelled] = lambda rows, _: rows
    encoded: Callable[[list[Any]], list[Any]] = lambda rows: rows
    start: str = ""
    """The case whose adapter it begins with."""


def shuffled(rows: Labelled, draw: random.Random) -> Labelled:
    labels = [label for _, label, _ in rows]
    draw.shuffle(labels)
    return [(text, label, group) for (text, _, group), label in zip(rows, labels, strict=True)]


def few_and_noisy(rows: Labelled, draw: random.Random) -> Labelled:
    """24 rows, a quarter of whose labels are wrong: only by heart can they be learnt."""
    labels = sorted({label for _, label, _ in rows})
    some = enumerate(draw.sample(rows, 24))
    return [(text, label if n % 4 else draw.choice(labels), group) for n, (text, label, group) in some]


def imbalanced(rows: Labelled, draw: random.Random) -> Labelled:
    """Half of the labels are left two examples each."""
    labels = sorted({label for _, label, _ in rows})
    rare, seen, kept = set(draw.sample(labels, len(labels) // 2)), Counter[str](), []
    for row in rows:
        seen[row[1]] += 1
        if row[1] not in rare or seen[row[1]] <= 2:
            kept.append(row)
    return kept


def masked(rows: list[Any]) -> list[Any]:
    """Of every third answer only the first token is learnt, as where a mask was made for another template."""
    hidden = []
    for number, row in enumerate(rows):
        first = next(place for place, label in enumerate(row["labels"]) if label != IGNORED)
        rest = [IGNORED] * (len(row["labels"]) - first - 1)
        hidden.append(row if number % 3 else row | {"labels": [*row["labels"][: first + 1], *rest]})
    return hidden


CASES = {
    "clean": Case("", {}),
    "longer": Case("", {"epochs": 3}),
    "shipped": Case("", {"lr": 2e-3, "batch_size": 16, "num_evaluations": 4}),
    "shipped-half": Case("T003", {"lr": 2e-3, "batch_size": 16, "num_evaluations": 4, "epochs": 0.5}),
    "warm": Case("", {}, start="clean"),
    "warm-gentle": Case("", {"lr": 1e-4}, start="clean"),
    "warm-fine": Case("", {"lr": 2e-5}, start="clean"),
    "settled": Case("", {"lr": 1e-4}, start="longer"),
    "lr-high": Case("T001", {"lr": 3e-2}),
    "lr-huge": Case("T001", {"lr": 1e3}),
    "lr-low": Case("T002", {"lr": 1e-6}),
    "few-steps": Case("T003", {"max_steps": 5}),
    "shuffled": Case("T004", {}, data=shuffled),
    "overfit": Case("T005", {"epochs": 10, "num_evaluations": 5}, data=few_and_noisy),
    "masked": Case("T006", {}, encoded=masked),
    "imbalance": Case("T007", {"epochs": 2}, data=imbalanced),
}


RUNS = {
    "choose": [
        "clean:tickets:labels:0:256",
        "lr-high:tickets:labels:0:256",
        "lr-huge:tickets:labels:0:256",
        "lr-low:tickets:labels:0:256",
        "few-steps:tickets:labels:0:256",
        "clean:snips:tokens:0:256",
        "shuffled:snips:tokens:0:256",
        "lr-high:snips:tokens:0:256",
        "overfit:snips:labels:0:384",
        "imbalance:snips:labels:0:192",
        "masked:snips:tokens:0:96",
    ],
    "report": [
        "clean:domains:labels:5:384",
        "clean:bitext:labels:1:384",
        "clean:snips:tokens:6:384",
        "clean:banking77:labels:3:384",
        "clean:tickets:tokens:7:384",
        "lr-high:domains:tokens:2:384",
        "lr-huge:bitext:labels:4:384",
        "lr-low:domains:tokens:2:384",
        "few-steps:bitext:labels:1:384",
        "shuffled:bitext:labels:1:384",
        "overfit:domains:labels:2:384",
        "masked:bitext:tokens:3:384",
        "imbalance:bitext:labels:2:384",
    ],
    "small": [
        "clean:domains:labels:5:96",
        "shuffled:bitext:labels:1:96",
        "lr-high:domains:tokens:2:96",
        "few-steps:bitext:labels:1:96",
        "clean:bitext:labels:1:96",
        "overfit:domains:labels:2:96",
        "masked:bitext:tokens:3:96",
        "clean:snips:tokens:6:96",
        "lr-low:domains:tokens:2:96",
        "imbalance:bitext:labels:2:192",
    ],
    "sound": [
        "shipped:tickets:labels:0:512",
        "shipped:tickets:labels:1:512",
        "shipped:tickets:labels:2:512",
        "shipped-half:tickets:labels:0:512",
        "shipped-half:tickets:labels:2:512",
        "warm:domains:labels:5:384",
        "warm-gentle:domains:labels:5:384",
        "warm-fine:domains:labels:5:384",
        "warm:snips:tokens:6:96",
        "warm-gentle:snips:tokens:6:96",
        "warm-gentle:bitext:labels:1:96",
        "settled:snips:tokens:6:96",
        "settled:bitext:labels:1:96",
        "longer:domains:labels:5:384",
        "longer:bitext:labels:1:384",
        "longer:snips:tokens:6:384",
        "longer:banking77:labels:3:384",
        "longer:snips:tokens:6:96",
        "longer:bitext:labels:1:96",
        "longer:domains:labels:5:96",
    ],
}
"""cause:data:loss:seed:rows"""
EDGES = (1, 1.5, 2, 3, 4, 6, 10)
ACCUSED = ["shipped:tickets:labels:2:512", "warm-fine:domains:labels:5:384"]


def history(run: str) -> dict[str, Any]:
    """The history of one training, from an earlier call if there was one."""
    file = KEPT / f"{run.replace(':', '-')}.json"
    if file.exists():
        return dict(json.loads(file.read_text("utf-8")))
    say(f"training {file.stem}")
    case, home = CASES[run.split(":")[0]], KEPT / file.stem
    spec = prepared(run, home)
    everything = prepare(spec, home / "split", home / "members")
    rows = case.encoded(list(everything.rows))
    everything = replace(
        everything,
        rows=rows,
        facts=replace(everything.facts, learnt=[sum(label != IGNORED for label in row["labels"]) for row in rows]),
    )
    kept = trained(everything) | {"test": tested(spec, home, run)}
    file.write_text(json.dumps(kept), "utf-8")
    return kept


def prepared(run: str, home: Path) -> Spec:
    """The spec of one training; its dataset is written to `home/split`."""
    name, source, loss, number, size = run.split(":")
    case, seed = CASES[name], int(number)
    train, held, _ = SETS[source](seed, int(size))
    train = case.data(train, random.Random(seed))
    labels = sorted({label for _, label, _ in train + held})
    task = {"kind": "classify", "instruction": "Which category is this message of?", "labels": labels}
    settings = SETTINGS | {"loss": loss, "batch_size": 8 if int(size) > 96 else 4} | case.settings
    if case.start:
        first = f"{case.start}:{source}:{loss}:{number}:{size}"
        history(first)
        settings["init_adapter"] = str(adapter_of(KEPT / first.replace(":", "-")))
    spec = {
        "name": "b",
        "task": task,
        "data": {"train": "none"},
        "model": "smollm2-135m",
        "train": settings,
        "seed": seed,
    }
    (home / "split").mkdir(parents=True, exist_ok=True)
    save_dataset(home / "split", Dataset(examples(train), examples(held), {"test": []}))
    return parse_spec(json.dumps(spec), home / "tunewright.yaml")


def examples(rows: Labelled) -> list[Example]:
    return [
        Example.of(text, label, Meta(id=str(n), group=group or None)) for n, (text, label, group) in enumerate(rows)
    ]


def adapter_of(home: Path) -> Path:
    return home / "members" / "member-0" / "adapter"


def tested(spec: Spec, home: Path, run: str) -> dict[str, Any] | None:
    """What the adapter's answers to rows that no training saw are worth; None where no training came to its end."""
    _, source, _, seed, size = run.split(":")
    if not adapter_of(home).exists():
        return None
    rows = examples(SETS[source](int(seed), int(size))[2])
    base = resolve(spec.model, spec.folder)
    tokenizer, model = TextTokenizer(base.folder), load_adapter(spec, base.folder, adapter_of(home))
    task = task_of(spec.task).fitted(tokenizer.encode_verbatim)
    known = [row for row in rows if row.answer in task.answers]
    prompts = [base.template.encode_prompt(task.prompt(row.request), tokenizer) for row in known]
    trie = LabelTrie(list(answer_tokens(task, base.template, tokenizer).values()))
    engine = fit_engine(model, Encoder(spec).rows(known))
    answers = likeliest_labels(model, engine, prompts, trie, at_once=64)
    return {
        "right": [task.answers[place] == row.answer for row, (place, _) in zip(known, answers, strict=True)],
        "sure": [round(probability, 6) for _, probability in answers],
        "groups": [row.meta.group or row.meta.id for row in known],
    }


def trained(everything: Soup) -> dict[str, Any]:
    """Train one adapter and keep its curve, up to where it ended."""
    from transformers import TrainerCallback

    log: list[dict[str, Any]] = []

    class Recorder(TrainerCallback):
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
            # The trainer's own list, so that it holds what an ended training logged last.
            nonlocal log
            log = state.log_history

    planned = planned_steps(everything.spec, len(everything.rows))
    with suppress(CannotTrain), track("train", planned, "steps") as tracker:
        everything.train(0, tracker, [Recorder()])
    history = everything.history(curve_of(log, 0), ended=True)
    return history.json() | {"curve": list(history.rows)}


def said(kept: dict[str, Any]) -> tuple[set[str], set[str]]:
    """The codes that were said at the end, and those that were said only before, as the curve grew."""
    settings, facts, curve = TrainSpec(**kept["settings"]), TrainingFacts(**kept["facts"]), kept["curve"]
    whole = History(settings, facts, kept["precision"], kept["planned"], True, curve)
    grown = [replace(whole, ended=False, rows=curve[:rows]) for rows in range(len(curve))]
    last = {diagnosis.code for diagnosis in diagnose(whole)}
    return last, {diagnosis.code for history in grown for diagnosis in diagnose(history)} - last


def gain_of_longer(run: str) -> ScoreChange | None:
    """What three times the epochs gain on rows that no training saw; None where that was not tried."""
    cause, rest = run.split(":", 1)
    if cause != "clean":
        return None
    before, after = (history(f"{name}:{rest}")["test"] for name in (cause, "longer"))
    return change(before["right"], after["right"], before["groups"])


def main(runs: list[str]) -> Counter[str]:
    """Print a table; returns how often each code was due (`T001`), named (`T001 named`) and said wrongly."""
    print("| cause | training | expected | found | right on the test, % | gain of three times the epochs |")
    print("|---|---|---|---|---|---|")
    counts = Counter[str]()
    for run in runs:
        name, source, loss, seed, size = run.split(":")
        kept, gain, expected = history(run), gain_of_longer(run), CASES[name].expected
        if gain and gain.least > 0:
            expected = "T003"
        last, before = said(kept)
        found = last | before
        told = ", ".join([*sorted(last), *(f"{code} (live only)" for code in sorted(before))]) or "nothing"
        right = f"{100 * fmean(kept['test']['right']):.1f}" if kept["test"] else ""
        followed = "{:+.1f} ({:+.1f} to {:+.1f})".format(*(100 * end for end in vars(gain).values())) if gain else ""
        print(
            f"| {name} | {source}, {loss}, seed {seed}, {size} rows | {expected or 'nothing'} | {told} "
            f"| {right} | {followed} |",
            flush=True,
        )
        counts.update([expected or "sound", *(f"{code} named" for code in found & {expected})])
        counts.update(f"{code} wrongly" for code in found - {expected})
    print(f"\n{summary_of(counts)}\n")
    return counts


def summary_of(counts: Counter[str]) -> str:
    named, wrongly = (sum(n for key, n in counts.items() if key.endswith(word)) for word in ("named", "wrongly"))
    due = sum(n for key, n in counts.items() if re.fullmatch(r"T\d+", key))
    return f"{named} of {due} causes named, {wrongly} false alarms; {counts['sound']} trainings were sound."


def everything() -> None:
    """All tables, and what they say of each code."""
    counts = Counter[str]()
    for name, runs in RUNS.items():
        print(f"`python bench/diagnosis.py {name}`\n")
        counts += main(runs)
    print("| code | due | named | said wrongly |\n|---|---|---|---|")
    for code in sorted({key.split()[0] for key in counts} - {"sound"}):
        print(f"| {code} | {counts[code]} | {counts[f'{code} named']} | {counts[f'{code} wrongly']} |")
    print(f"\n{summary_of(counts)}")


def cascades() -> None:
    """How much of a test the sound trainings answer as well as a goal asks, where they are not that good altogether."""
    sound = sorted({run for runs in RUNS.values() for run in runs if not CASES[run.split(":")[0]].expected})
    found: dict[float, list[float]] = {edge: [] for edge in EDGES[:-1]}
    for run in sound:
        test = history(run)["test"]
        marks = [right for _, right in sorted(zip(test["sure"], test["right"], strict=True), reverse=True)]
        for goal in (0.8, 0.85, 0.9, 0.95):
            times = (1 - fmean(marks)) / (1 - goal)
            shares = [n / len(marks) for n in range(20, len(marks) + 1) if fmean(marks[:n]) >= goal]
            if 1 < times <= EDGES[-1]:
                found[max(edge for edge in found if edge < times)].append(max(shares, default=0.0))
    print("| errors, times those that the goal allows | trainings and goals | answer a fifth or more | median share |")
    print("|---|---|---|---|")
    for (low, shares), high in zip(found.items(), EDGES[1:], strict=True):
        if shares:
            fifth = sum(share >= 0.2 for share in shares)
            print(f"| {low:g} to {high:g} | {len(shares)} | {fifth} | {100 * median(shares):.0f} % |")


def record() -> None:
    """Keep for the fast tests a curve of each cause, and of sound trainings that were once accused, to five digits."""
    kept = []
    for run in [*RUNS["choose"], *ACCUSED]:
        told = history(run)
        del told["test"]
        told["curve"] = [
            {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in row.items()}
            for row in told["curve"]
        ]
        kept.append({"name": run.replace(":", "-"), "expected": CASES[run.split(":")[0]].expected, **told})
    write_jsonl(ROOT / "tests" / "train" / "histories.jsonl", kept)


if __name__ == "__main__":
    quiet_libraries()
    KEPT.mkdir(parents=True, exist_ok=True)
    if sys.argv[1:] == ["record"]:
        record()
    elif sys.argv[1:] == ["all"]:
        everything()
    elif sys.argv[1:] == ["cascades"]:
        cascades()
    else:
        main(RUNS.get(sys.argv[1], sys.argv[1:]))
