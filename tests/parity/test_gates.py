from __future__ import annotations

import pytest

from tests.conftest import make_spec
from tunewright.evaluation.statistics.intervals import Interval
from tunewright.parity.step import Link, gate_failures


def failures(agreement: float, lost: tuple[float, float, float]) -> list[str]:
    adapter = Link("adapter", 1.0, 0.9, Interval(0, 0, 0), 0.0, 100)
    served = Link("served", agreement, 0.9 - lost[0], Interval(*lost), 0.1, 100)
    return gate_failures(make_spec(), [adapter, served])


@pytest.mark.parametrize(
    ("agreement", "lost", "failed"),
    [
        (0.97, (0.0, -0.01, 0.01), None),
        (0.97, (0.015, -0.005, 0.03), None),  # more than allowed, but it may be chance
        (0.97, (0.005, 0.001, 0.01), None),  # certainly lost, but within what is allowed
        (0.97, (0.02, 0.005, 0.035), "less accurate"),
        (0.94, (0.0, -0.02, 0.02), "disagrees"),  # as many right, but other ones
    ],
)
def test_a_gate_fails_on_a_loss_beyond_chance_or_on_too_many_changed_answers(
    agreement: float, lost: tuple[float, float, float], failed: str | None
) -> None:
    found = failures(agreement, lost)
    assert len(found) == (failed is not None)
    assert failed is None or failed in found[0]
