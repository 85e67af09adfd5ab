"""Score settings of the ticket example on phrasings held out of its training part; the test parts are not read.

    python bench/folds.py train.epochs=1 train.loss=tokens

Each label's 128 training phrasings are cut, by a seeded shuffle, into four folds of 32. For each fold the product
trains on the others, with that fold's number as the seed, and its adapter answers the fold. Outputs stay in
examples/tickets/runs/folds, so that nothing is computed twice.
"""

from __future__ import annotations

import json
import random
import sys
from collections import defaultdict
from pathlib import Path

import tunewright as tw
from tunewright.core.artifacts import read_jsonl, write_jsonl
from tunewright.evaluation.evidence import load_records

EXAMPLE = Path(__file__).parents[1] / "examples" / "tickets"
FOLDS = EXAMPLE / "runs" / "folds"
SIZES = (32, 32, 32, 32)


def cut() -> list[set[str]]:
    """The phrasings of each fold."""
    by_label: dict[str, list[str]] = defaultdict(list)
    for phrasing in sorted({row["phrasing"] for row in read_jsonl(EXAMPLE / "data" / "train.jsonl")}):
        by_label[phrasing.split("/")[0]].append(phrasing)
    folds: list[set[str]] = [set() for _ in SIZES]
    shuffler = random.Random(7)
    for label in sorted(by_label):
        names = by_label[label]
        shuffler.shuffle(names)
        for fold, size in zip(folds, SIZES, strict=True):
            fold |= set(names[:size])
            names = names[size:]
    return folds


def accuracy(number: int, held: set[str], overrides: list[str]) -> float:
    """Accuracy in percent of the adapter on one fold after training on the rest."""
    folder = FOLDS / "ABCD"[number]
    folder.mkdir(parents=True, exist_ok=True)
    rows = read_jsonl(EXAMPLE / "data" / "train.jsonl")
    write_jsonl(folder / "train.jsonl", [row for row in rows if row["phrasing"] not in held])
    write_jsonl(folder / "fold.jsonl", [row for row in rows if row["phrasing"] in held])
    files = {"train": str(folder / "train.jsonl"), "test": {"fold": str(folder / "fold.jsonl")}}
    # No validation part: the fold is one.
    fixed = [f"data.{key}={json.dumps(value)}" for key, value in files.items()] + ["data.validation_fraction=0"]
    spec = tw.load_spec(EXAMPLE, ["model=smollm2-135m", *fixed, f"seed={number}", "evaluate.few_shot=0", *overrides])
    records = load_records(tw.evaluate(spec, runs=folder / "runs") / "answers" / "adapter.jsonl")
    return 100 * sum(record.right for record in records) / len(records)


if __name__ == "__main__":
    scores = [accuracy(number, held, sys.argv[1:]) for number, held in enumerate(cut())]
    print(" ".join(f"{name} {score:.1f}" for name, score in zip("ABCD", scores, strict=True)), end=" ")
    print(f"mean {sum(scores) / len(scores):.1f}")
