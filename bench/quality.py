"""How well SmolLM2-135M answers BANKING77 and CLINC150 (in scope) when tuned on one CPU machine.

    python bench/quality.py choose banking77 train.lr=1e-3      # a setting, scored on held-out training rows
    python bench/quality.py choose banking77 twice              # each question written twice, so that its first words
                                                                # are read by a model that knows its last
    python bench/quality.py final banking77 seed=0              # the setting of the docs, scored on the official test

`choose` never reads the test: BANKING77's score is that of a tenth of its training rows, which the split holds
out, CLINC150's that of its official validation part. `final` trains on all training rows. Answers are the adapter's
likeliest labels, found as in serving. Outputs stay in bench/runs, so that nothing is trained twice. The data lie in
../shared/data beside the repository.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import tunewright as tw
from tunewright.artifacts import read_jsonl, read_manifest, write_jsonl
from tunewright.data import load_dataset
from tunewright.evaluate.statistics import wilson
from tunewright.models.torch_model import quiet_libraries
from tunewright.train.engine import fit_engine
from tunewright.train.prepare import Encoder
from tunewright.train.trainer import load_adapter

SHARED = Path(__file__).parents[2] / "shared" / "data"
RUNS = Path(__file__).parent / "runs"
INSTRUCTIONS = {
    "banking77": "Which intent is this banking question about?",
    "clinc150": "Which intent is this request about?",
}
SETTINGS = {
    "banking77": {"loss": "labels", "batch_size": 32, "lr": 1.5e-3, "epochs": 3, "schedule": "cosine"},
    "clinc150": {"loss": "labels", "batch_size": 32, "lr": 1.5e-3, "epochs": 3, "schedule": "cosine"},
}
"""Chosen with `choose`; docs/experiments.md says how."""


def project(name: str, final: bool, twice: bool) -> Path:
    """A folder with the data and a spec for one of the two."""
    folder = RUNS / f"{name}-{'final' if final else 'choose'}{'-twice' if twice else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"banking77": ("banking77", None), "clinc150": ("clinc150_oos", "valid")}
    source, validation = parts[name]
    asked = "test" if final else validation
    for part in filter(None, ("train", asked)):
        rows = [row for row in read_jsonl(SHARED / source / f"{part}.jsonl") if row["label"] != "oos"]
        written = [f"{row['text']}\n{row['text']}" if twice else row["text"] for row in rows]
        write_jsonl(
            folder / f"{part}.jsonl",
            # In words: "card arrival" is what a language model knows something about.
            [{"text": text, "label": row["label"].replace("_", " ")} for text, row in zip(written, rows, strict=True)],
        )
    labels = sorted({row["label"] for row in read_jsonl(folder / "train.jsonl")})
    spec = {
        "name": name,
        "task": {"kind": "classify", "instruction": INSTRUCTIONS[name], "labels": labels},
        "data": {
            "train": "train.jsonl",
            "test": {asked: f"{asked}.jsonl"} if asked else {},
            "test_fraction": 0.1,
            "validation_fraction": 0.0,
        },
        "train": SETTINGS[name],
    }
    (folder / "tunewright.yaml").write_text(json.dumps(spec, indent=1), "utf-8")
    return folder


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
    interval = wilson(answered.right.count("1"), len(examples))
    print(
        f"{mode} {name} {' '.join(overrides)}: {100 * answered.accuracy:.2f} % of {len(examples)} right "
        f"({100 * interval.low:.2f} to {100 * interval.high:.2f}), loss {answered.loss:.3f}; trained in "
        f"{manifest.wall_seconds / 60:.1f} min, {manifest.peak_memory_mb:.0f} MB; answered in "
        f"{(time.perf_counter() - started) / 60:.1f} min"
    )


if __name__ == "__main__":
    if not SHARED.is_dir():
        sys.exit("The data sets are not here: ../shared/data is absent.")
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
