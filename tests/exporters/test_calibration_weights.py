"""A row of weight k counts as k rows do when confidence is calibrated."""

from __future__ import annotations

import pytest

from tests.conftest import example, unalike
from tunewright.data.dedup.blocks import blocks_of
from tunewright.exporters.calibration import weights_of
from tunewright.inference.calibration import MIN_EXAMPLES, UNCALIBRATED, fit_answers
from tunewright.tasks import Example


def weighted(weights: list[float], group: str | None = None) -> list[Example]:
    rows = [example(unalike(str(n)), group=group) for n in range(len(weights))]
    return [row.model_copy(update={"weight": weight}) for row, weight in zip(rows, weights, strict=True)]


def test_confidence_is_that_of_the_requests_that_the_rows_stand_for() -> None:
    """Of 60 rows of one confidence half are right, but the wrong ones stand for nine times as many requests."""
    rows = weighted([1.0, 9.0] * 30)
    weights = weights_of(rows, blocks_of(rows))
    assert weights[1] == pytest.approx(9 * weights[0])
    confidence = fit_answers([0.9] * 60, [1.0, 0.0] * 30, weights).of_answer(0.9)
    assert confidence == pytest.approx(0.1, abs=0.06)


def test_weights_that_are_alike_change_nothing() -> None:
    rows = weighted([0.1] * 30)
    assert weights_of(rows, blocks_of(rows)) == pytest.approx([1.0] * 30)
    shop = weighted([2.0] * 4, group="shop")
    assert weights_of(shop, blocks_of(shop)) == pytest.approx([0.25] * 4)


def test_a_few_heavy_rows_are_too_few_to_fit() -> None:
    rows = weighted([100.0] * 5 + [0.01] * 100)
    weights = weights_of(rows, blocks_of(rows))
    assert sum(weights) < MIN_EXAMPLES
    assert fit_answers([0.9] * 105, [1.0] * 105, weights) == UNCALIBRATED
