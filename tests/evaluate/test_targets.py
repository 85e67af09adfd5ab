from __future__ import annotations

from typing import Any

import pytest

from tests.evaluate.scenario import arm, verdict
from tunewright.evaluate.evidence import Record


def missed(served: list[Record], **changes: Any) -> list[str]:
    return [target.name for target in verdict(served, arm(0.5), **changes).targets if not target.met]


def test_a_model_that_keeps_every_target_passes() -> None:
    assert missed(arm(0.98)) == []


@pytest.mark.parametrize(("served", "changes", "name"), [
    (arm(0.8), {}, "accuracy on test"),
    (arm(0.91), {"goal": {"accuracy": 0.9, "margin": 0.0}}, "accuracy on test"),
    (arm(0.98, ms=2000), {}, "P95"),
    (arm(0.98), {"parity_passed": False}, "parity"),
    (arm(0.93), {"api_answers": arm(1.0, splits=("test",)), "goal": {"accuracy": 0.8}}, "no worse than gpt-4o on test"),
])  # fmt: skip
def test_each_target_that_is_missed_is_named(served: list[Record], changes: dict[str, Any], name: str) -> None:
    assert missed(served, **changes) == [name]


def test_a_margin_of_nothing_is_no_fault() -> None:
    found = verdict(arm(0.88), arm(0.5), api_answers=arm(0.9, splits=("test",)), goal={"margin": 0.0})
    assert found.decision != "switch"
