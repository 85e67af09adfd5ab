"""Bundles that have all but weights."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import spec_data
from tests.drift.made import reference
from tunewright.core.artifacts import write_json
from tunewright.drift.reference import Reference

REFERENCE = reference()


def bundle_in(folder: Path, version: str = "v1", made: Reference | None = REFERENCE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(
        folder / "bundle.json",
        {
            "name": "tickets",
            "base_model": "tiny",
            "runtime": "onnxruntime",
            "precision": "int8",
            "version": version,
            "task": spec_data()["task"],
            "longest_answer": 3,
            "answer_lead": "",
            "context": 512,
            "template_sha256": "0",
        },
    )
    if made:
        made.save(folder)
    return folder
