"""A project with a linear model, run step by step in one process; and one real server of its bundle."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from tests.conftest import LABELS, spec_data, unalike
from tunewright.config import Spec, load_spec
from tunewright.core.artifacts import MANIFEST, read_manifest
from tunewright.pipeline.runner import execute_step, run_pipeline
from tunewright.pipeline.steps import Step

DATED = ("README.md", "model_card.md", "report.html", "report.md")
"""Files of outputs that say when they were written."""


def project(folder: Path) -> Spec:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"text": f"{label} {unalike(f'{label} {n}')}", "label": label} for n in range(14) for label in LABELS]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    spec = spec_data(model="linear", evaluate={"max_examples": 6})
    (folder / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")
    return load_spec(folder)


def bring_up_to_date(spec: Spec, to: str = "bundle") -> None:
    """The pipeline up to a step, each step in this process."""

    def place(step: Step, done: Mapping[str, Path], target: Path) -> None:
        execute_step(step, spec, {name: done[name] for name in step.inputs_of(spec)}, target)

    run_pipeline(spec, place, runs=spec.folder / "runs", to=to)


@contextmanager
def steady(address: str) -> Iterator[None]:
    """Inside, every clock that a step reads goes a millisecond a look, and the bundle's server is one that runs
    already, so that steps always give the same. Versions of libraries, which are looked up for long, are none."""
    ticks = itertools.count()

    @contextmanager
    def running(*_: object) -> Iterator[str]:
        yield address

    with (
        mock.patch.object(time, "perf_counter", lambda: next(ticks) / 1000),
        mock.patch("tunewright.parity.served.running_server", running),
        mock.patch("tunewright.core.artifacts.library_versions", dict),
    ):
        yield


def outputs(spec: Spec) -> dict[str, Any]:
    """Of each step what `runs/latest` leads to: the content of each of its files."""
    latest, found = spec.folder / "runs" / "latest", dict[str, Any]()
    for link in sorted(latest.glob("*")):
        manifest = read_manifest(link)
        assert manifest, f"{link} is not whole"
        files = {name: (link / name).read_bytes() for name in manifest.files if Path(name).name not in DATED}
        found[link.name] = {name: text for name, text in files.items() if name != MANIFEST}, sorted(manifest.files)
    return found


def whole_outputs(spec: Spec) -> dict[str, Any]:
    """The manifests of all outputs that are there, but for what each took of time and memory."""
    found = dict[str, Any]()
    for folder in sorted((spec.folder / "runs").glob("[!.]*-*")):
        manifest = read_manifest(folder)
        assert manifest, f"{folder} is there and not whole"
        found[folder.name] = manifest.content
    return found
