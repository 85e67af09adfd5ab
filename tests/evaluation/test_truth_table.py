"""The verdict on evidence whose truth is known: seldom harmful, mostly right (`bench/verdicts.py`, in small)."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

import pytest

from tests.conftest import REPOSITORY

DRAWINGS = 6


def bench() -> Any:
    spec = importlib.util.spec_from_file_location("verdicts", REPOSITORY / "bench" / "verdicts.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


VERDICTS = bench()
SCENARIOS = {truth.name: truth for truth in VERDICTS.scenarios()}


def test_there_are_scenarios_enough_each_with_its_own_name() -> None:
    assert len(SCENARIOS) == len(list(VERDICTS.scenarios())) >= 45


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.nightly if number % 3 else ()) for number, name in enumerate(SCENARIOS)],
)
def test_no_scenario_is_decided_wrongly_time_and_again(name: str) -> None:
    """Of decisions that are harmful one time in twenty, three or more of six come once in five hundred times."""
    result = VERDICTS.outcome(SCENARIOS[name], DRAWINGS, 1)
    assert result.harmful * DRAWINGS <= 2, result.decisions
    assert result.right * DRAWINGS >= 3, result.decisions
