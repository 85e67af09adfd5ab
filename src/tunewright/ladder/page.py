"""The output of a search: `ladder.json`, and a page of all candidates side by side with links to their reports."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunewright.config import Spec, spec_sha256
from tunewright.core.artifacts import atomic_folder, read_manifest, sha256_json, write_json
from tunewright.core.page import render
from tunewright.ladder.search import Ladder
from tunewright.pipeline.fingerprint import code_version
from tunewright.pipeline.runner import point_latest
from tunewright.tasks import task_of

_NAME = "candidates"
_DIGITS = 12


def write_page(spec: Spec, ladder: Ladder, runs: Path) -> Path:
    """Write `ladder.json` and the page into `runs/candidates-…`, to which `runs/latest/candidates` leads.

    Args:
        runs: the folder of all outputs.

    Returns: the page's file.
    """
    manifests = {each.name: read_manifest(each.report.parent) for each in ladder.tried}
    inputs = {name: manifest.content for name, manifest in manifests.items() if manifest}
    data = plain(ladder)
    fingerprint = sha256_json([_NAME, inputs, data["dearer"], data["stopped"], code_version("parity")])
    target = runs / f"{_NAME}-{fingerprint[:_DIGITS]}"
    with atomic_folder(
        target,
        kind=_NAME,
        fingerprint=fingerprint,
        spec_sha256=spec_sha256(spec),
        inputs=inputs,
        seed=spec.seed,
        code_version=code_version("parity"),
    ) as output:
        write_json(output.path / "ladder.json", data)
        context = {
            **data,
            "name": spec.name,
            "spec": spec,
            "task": task_of(spec.task),
            "splits": list(ladder.tried[0].scores),
            "reports": [os.path.relpath(each.report, target) for each in ladder.tried],
        }
        page = render("tunewright.ladder", "candidates.html.jinja", context)
        (output.path / "report.html").write_text(page, "utf-8")
    point_latest(runs, _NAME, target)
    return target / "report.html"


def plain(ladder: Ladder) -> dict[str, Any]:
    """A ladder as JSON."""
    data = asdict(ladder)
    for each, candidate in zip(data["tried"], ladder.tried, strict=True):
        each["report"] = str(candidate.report)
    return data | {"summary": ladder.summary}
