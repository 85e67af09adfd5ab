"""A retraining may be cut off anywhere, from the reviews to the new champion."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from tests.conftest import unalike
from tests.crash.crashes import Case, crash_everywhere, in_fork
from tests.crash.linear import bring_up_to_date, steady, whole_outputs
from tests.crash.test_day2 import stored
from tests.monitoring.test_corrections import asked, said
from tunewright.config import Spec, load_spec
from tunewright.data.corrections import corrections_in
from tunewright.inference.bundle import load_bundle, read_info
from tunewright.monitoring.corrections import collect_corrections
from tunewright.monitoring.retraining import run as module
from tunewright.monitoring.retraining.gate import Decision
from tunewright.monitoring.retraining.run import Course, Parts, retrain
from tunewright.monitoring.store import open_store, tables
from tunewright.monitoring.store.collect import collect
from tunewright.project import Project, read_serving

pytestmark = [pytest.mark.slow, pytest.mark.nightly]


def brought_into_service(spec: Spec, address: str) -> None:
    """A retraining without servers; the gate, which only reads, lets everything in."""
    runs = spec.folder / "runs"

    def made(each: Spec) -> Any:
        bring_up_to_date(each)
        return SimpleNamespace(bundle=(runs / "latest" / "bundle").resolve(), gate_failures=[])

    decision = Decision(True, "It may serve.", [], [], 1.0, 1.0, 0)
    with (
        steady(address),
        closing(open_store(spec)) as store,
        mock.patch.object(module, "contest", return_value=decision),
    ):
        parts = Parts(
            latest=lambda: Project(spec.folder).latest_bundle(),
            collect=lambda: collect(spec, store),
            collect_corrections=lambda: collect_corrections(spec, store).sha256 or "",
            freeze=lambda: None,
            run=made,
            appraise=lambda *_: None,
        )
        retrain(spec, store, runs, parts, Course(shadow=0, canary=None))


def test_a_retraining(root: Path, home: Path, done: Path, address: str) -> None:
    """The outputs of its run are there already: that a run may be cut off, and goes on, is shown beside it."""
    shutil.copytree(done, root, symlinks=True, dirs_exist_ok=True)
    spec = load_spec(root)
    with closing(open_store(spec)) as store:
        for number in range(3):
            said(store, asked(store, f"c{number}", unalike(f"asked {number}")), "refund")
    before = home / "before"
    shutil.copytree(root, before, symlinks=True)
    assert in_fork(lambda: brought_into_service(spec, address)) is None
    for folder in (root / "runs").glob("[!.]*-*"):
        if not (before / "runs" / folder.name).exists():
            shutil.copytree(folder, before / "runs" / folder.name, symlinks=True)
    shutil.rmtree(root)
    shutil.copytree(before, root, symlinks=True)
    shutil.rmtree(before)

    def serves() -> str:
        serving = read_serving(root / "runs")
        bundle = root / "runs" / serving.champion.bundle if serving else Project(root).latest_bundle()
        load_bundle(bundle)
        return read_info(bundle).version

    def kept() -> dict[str, Any]:
        rows = {f"correction {row.capture}": row for row in corrections_in(spec.corrections_folder).rows}
        return {"champion": serves(), **rows, **whole_outputs(spec)}

    def result() -> Any:
        serving = read_serving(root / "runs")
        assert serving
        events = stored(spec, tables.Deployment.event, tables.Deployment.version)
        return kept(), [each.version for each in serving.former], serving.challenger, events

    found = crash_everywhere(Case(root, lambda: brought_into_service(spec, address), kept, result), home, hiccups=False)
    assert not found.faults
    assert found.kills > 20 and found.full > 20
