"""How SmolLM2-135M reads invoices of a layout that it never saw, when lines of the training's stand in another order.

    python bench/layouts.py plain 0          # layout 0 of the training rows held out; the documents as they are
    python bench/layouts.py shuffled 0       # each beside two copies with its lines shuffled
    python bench/layouts.py half 0           # each copy shuffled with a chance of 0.6, else as it is
    python bench/layouts.py moved 2 train.epochs=2    # two lines of each copy at other places

Every training has one epoch over three copies of 225 documents, unless the arguments behind the layout say otherwise.
The test parts are not read. Outputs stay in bench/runs.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable

from data_sets import DATA

import tunewright as tw
from tasks import INVOICE, JOBS, RUNS, extract, tell, writing
from tunewright.core.artifacts import read_jsonl, read_manifest, write_jsonl
from tunewright.core.progress import quiet_libraries
from tunewright.data import load_dataset
from tunewright.tasks import task_of

COPIES = 3
RANDOM = random.Random(0)


def shuffled(text: str) -> str:
    lines = text.split("\n")
    RANDOM.shuffle(lines)
    return "\n".join(lines)


def half(text: str) -> str:
    return shuffled(text) if RANDOM.random() < 0.6 else text


def moved(text: str) -> str:
    lines = text.split("\n")
    for _ in range(2):
        line = lines.pop(RANDOM.randrange(len(lines)))
        lines.insert(RANDOM.randrange(len(lines) + 1), line)
    return "\n".join(lines)


FORMS: dict[str, Callable[[str], str]] = {"plain": str, "shuffled": shuffled, "half": half, "moved": moved}


def spec_of(form: str, held: int, arguments: list[str]) -> tw.Spec:
    """A project whose test are the training rows of one layout."""
    rows = list(read_jsonl(DATA / "demo_invoices" / "train.jsonl"))
    taught = [
        {"text": text, "label": row["entities"]}
        for row in rows
        if row["layout"] != held
        for text in (row["text"], *(FORMS[form](row["text"]) for _ in range(COPIES - 1)))
    ]
    RANDOM.shuffle(taught)
    folder = RUNS / f"layouts-{form}-{held}"
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "train.jsonl", taught)
    write_jsonl(
        folder / "held.jsonl",
        ({"text": row["text"], "label": row["entities"]} for row in rows if row["layout"] == held),
    )
    spec = {
        "name": "layouts",
        "task": extract("Fill in the fields of this invoice.", json.loads(INVOICE.read_text("utf-8"))),
        "data": {"train": "train.jsonl", "test": {"held": "held.jsonl"}, "validation_fraction": 0.0},
        "train": JOBS["invoices"]["train"] | {"epochs": 1, "num_evaluations": 0, "num_checkpoints": 0},
    }
    (folder / "tunewright.yaml").write_text(json.dumps(spec, indent=1), "utf-8")
    return tw.load_spec(folder, arguments)


def main(form: str, layout: str, *arguments: str) -> None:
    quiet_libraries()
    spec = spec_of(form, int(layout), list(arguments))
    dataset = load_dataset(tw.split(spec))
    run = tw.train(spec)
    held = dataset.test["held"]
    answers = writing(spec, run, dataset.train)(held)
    tell(
        f"{form}, {read_manifest(run).wall_seconds / 60:.1f} minutes",
        f"layout {layout}",
        task_of(spec.task),
        held,
        answers,
    )


if __name__ == "__main__":
    if len(sys.argv) < 3 or sys.argv[1] not in FORMS:
        sys.exit(__doc__)
    main(*sys.argv[1:])
