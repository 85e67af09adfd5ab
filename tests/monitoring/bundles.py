"""Bundles that have all but weights."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import spec_data
from tests.drift.made import reference
from tunewright.core.artifacts import write_json
from tunewright.drift.reference import Reference
from tunewright.project import served_from, write_serving

REFERENCE = reference()


def serving_bundle(runs: Path, made: Reference | None = REFERENCE) -> Path:
    """A bundle that a project's `serving.json` names."""
    bundle = bundle_in(runs / "latest" / "bundle", made=made)
    write_serving(runs, served_from("latest/bundle", "v1"))
    return bundle


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
