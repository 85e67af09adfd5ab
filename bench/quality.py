"""How well SmolLM2-135M answers BANKING77 and CLINC150 (in scope) when tuned on one CPU machine.

    python bench/quality.py choose banking77 train.lr=1e-3      # a setting, scored on held-out training rows
    python bench/quality.py choose banking77 twice              # each question written twice, so that its first words
                                                                # are read by a model that knows its last
    python bench/quality.py final banking77 seed=0              # the setting of the docs, scored on the official test

`choose` never reads the test: BANKING77's score is that of a tenth of its training rows, which the split holds
out, CLINC150's that of its official validation part. `final` trains on all training rows. Answers are the adapter's
likeliest labels, found as in serving. Outputs stay in bench/runs, so that nothing is trained twice. The data lie in
bench/data_sets.py.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from data_sets import DATA as SHARED

import tunewright as tw
from tunewright.core.artifacts import read_jsonl, read_manifest, write_jsonl
from tunewright.core.progress import quiet_libraries
from tunewright.data import load_dataset
from tunewright.evaluation.statistics.intervals import wilson
from tunewright.training.engine.fast_paths import fit_engine
from tunewright.training.loop.prepare import Encoder
from tunewright.training.loop.trainer import load_adapter

RUNS = Path(__file__).parent / "runs"
INSTRUCTIONS = {
    "banking77": "Which intent is this banking question about?",
    "clinc150": "Which intent is this request about?",
}
COMMON: dict[str, object] = {
    "loss": "labels",
    "batch_size": 32,
    "lr": 1.5e-3,
    "epochs": 2,
    "schedule": "cosine",
    "lora": {"dropout": 0.1},
}
SETTINGS = {
    "banking77": COMMON | {"num_seeds": 3},
    "clinc150": COMMON,
}
"""Chosen with `choose`; docs/experiments.md says how."""


def project(name: str, final: bool, twice: bool) -> Path:
    """A folder with the data and a spec for one of the two."""
    folder = RUNS / f"{name}-{'final' if final else 'choose'}"
    source, asked = {"banking77": ("banking77", None), "clinc150": ("clinc150_oos", "valid")}[name]
    asked = "test" if final else asked
    parts = {part: in_words(SHARED / source / f"{part}.jsonl") for part in ("train", asked) if part}
    write_project(folder, name, parts)
    if not twice:
        return folder
    # Split before it is written twice, so that every setting is scored on the same rows.
    dataset = load_dataset(tw.split(tw.load_spec(folder)))
    held = {"train": dataset.train} | dataset.test
    doubled = {
        part: [{"text": f"{row.request}\n{row.request}", "label": row.answer} for row in rows]
        for part, rows in held.items()
    }
    folder = folder.with_name(f"{folder.name}-twice")
    write_project(folder, name, doubled)
    return folder


def in_words(path: Path) -> list[dict[str, str]]:
    """The rows in scope, their labels in words: "card arrival" is what a language model knows something about."""
    rows = [row for row in read_jsonl(path) if row["label"] != "oos"]
    return [{"text": row["text"], "label": row["label"].replace("_", " ")} for row in rows]


def write_project(folder: Path, name: str, parts: dict[str, list[dict[str, str]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, rows in parts.items():
        write_jsonl(folder / f"{part}.jsonl", rows)
    labels = sorted({row["label"] for row in parts["train"]})
    spec = {
        "name": name,
        "task": {"kind": "classify", "instruction": INSTRUCTIONS[name], "labels": labels},
        "data": {
            "train": "train.jsonl",
            "test": {part: f"{part}.jsonl" for part in parts if part != "train"},
            "test_fraction": 0.1,
            "validation_fraction": 0.0,
        },
        "train": SETTINGS[name],
    }
    (folder / "tunewright.yaml").write_text(json.dumps(spec, indent=1), "utf-8")


def main(mode: str, name: str, overrides: list[str]) -> None:
    quiet_libraries()
    twice = "twice" in overrides
    spec = tw.load_spec(project(name, mode == "final", twice), [text for text in overrides if text != "twice"])
    run = tw.train(spec)
    manifest = read_manifest(run)
    assert manifest
    split = tw.split(spec)
    dataset = load_dataset(split)
    (examples,) = dataset.test.values()
    encoder = Encoder(spec)
    model = load_adapter(spec, encoder.base.folder, run / "adapter")
    engine = fit_engine(model, encoder.rows(examples[:16]))
    started = time.perf_counter()
    answered = encoder.part(examples, most=len(examples)).score(model, engine)
    interval = wilson(round(sum(answered.score)), len(examples))
    print(
        f"{mode} {name} {' '.join(overrides)}: {100 * answered.primary_metric:.2f} % of {len(examples)} right "
        f"({100 * interval.low:.2f} to {100 * interval.high:.2f}), loss {answered.loss:.3f}; trained in "
        f"{manifest.wall_seconds / 60:.1f} min, {manifest.peak_memory_mb:.0f} MB; answered in "
        f"{(time.perf_counter() - started) / 60:.1f} min"
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
