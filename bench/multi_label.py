"""Several labels a text, derived from data sets that mark what stands where: which kinds of things a text names.

    python bench/multi_label.py slots [OVERRIDE…]   # SNIPS: 39 slots, 13,784 rows, the official test's 700
    python bench/multi_label.py pii [OVERRIDE…]     # Presidio's sentences: 17 kinds, 997 rows, templates held out

A row's labels are the kinds that occur in it, each once. bench/data_sets.py says where the data lie.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from data_sets import DATA

import tunewright as tw
from tunewright.core.artifacts import read_jsonl, write_jsonl

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "bench" / "runs" / "multi_label"
SETS: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]], dict[str, Any]]] = {
    "slots": ("snips", lambda row: {"label": sorted(row["entities"])}, {"test": {"official": "test.jsonl"}}),
    "pii": (
        "presidio_pii",
        lambda row: {"label": sorted({span["type"] for span in row["spans"]}), "template": str(row["template_id"])},
        {"group": "template"},
    ),
}
"""The folder, what of a row is kept beside its text, and what the spec says of the data."""


def project(name: str) -> Path:
    source, kept, data = SETS[name]
    folder = RUNS / name
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", *(("test",) if "test" in data else ())):
        rows = read_jsonl(DATA / source / f"{part}.jsonl")
        write_jsonl(folder / f"{part}.jsonl", ({"text": row["text"], **kept(row)} for row in rows))
    labels = sorted({label for row in read_jsonl(folder / "train.jsonl") for label in row["label"]})
    spec = {
        "name": name,
        "model": "all-minilm",
        "data": {"train": "train.jsonl", **data},
        "task": {"kind": "multi_label", "instruction": "Which does the text name?\n{labels}", "labels": labels},
    }
    (folder / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")
    return folder


def main() -> None:
    name, *overrides = sys.argv[1:]
    verdict = tw.run(tw.load_spec(project(name), overrides)).data
    for key, candidate in verdict["comparison"]["candidates"].items():
        for split, score in candidate["scores"].items():
            shown = {"micro-F1": score["primary_metric"], **score["others"]}
            figures = (
                f"{n} {100 * v['value']:.1f} ({100 * v['low']:.1f} to {100 * v['high']:.1f})" for n, v in shown.items()
            )
            print(f"{key:10} {split:10}", *figures)
    for split, found in verdict["details"]["reliability"].items():
        print(f"confidence {split}: error {100 * found['after']:.1f} %, by chance {100 * found['noise']:.1f} %")


if __name__ == "__main__":
    main()
