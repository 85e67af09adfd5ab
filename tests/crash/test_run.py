"""A run may be cut off anywhere, step by step."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.crash.crashes import Case, crash_everywhere, in_fork
from tests.crash.linear import bring_up_to_date, outputs, project, steady, whole_outputs
from tunewright.config import Spec
from tunewright.pipeline.steps import STEPS

pytestmark = pytest.mark.slow
NAMES = [name for name, step in STEPS.items() if not step.only_with]
LONG = ("bundle", "check", "evaluate", "parity", "verdict")
"""Steps that write so often that all their crashes take ten seconds each, and in the same way as the others."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.nightly if name in LONG else ()) for name in NAMES]
)
def test_a_step(root: Path, home: Path, address: str, name: str) -> None:
    """From what the steps before it made. Once it is whole again, those behind it find what they would have found."""
    spec: Spec = project(root)
    before = NAMES[: NAMES.index(name)]

    def up_to(step: str) -> None:
        with steady(address):
            bring_up_to_date(spec, step)

    if before:
        assert in_fork(lambda: up_to(before[-1])) is None
    case = Case(spec.folder, lambda: up_to(name), lambda: whole_outputs(spec), lambda: outputs(spec))
    found = crash_everywhere(case, home, hiccups=False)
    assert not found.faults
    assert found.kills > 5 and found.full > 5
