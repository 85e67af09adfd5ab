from __future__ import annotations

import pytest

from tunewright.evaluate.cascade import MIN_ACCEPTED, apply_threshold, cascade_curve, choose_threshold
from tunewright.evaluate.evidence import Record
from tunewright.evaluate.statistics import wilson


def records(*parts: tuple[int, bool, float | None]) -> list[Record]:
    """(how many, right, confidence) each."""
    flat = [(right, confidence) for count, right, confidence in parts for _ in range(count)]
    return [Record(str(n), "v", "a", "a" if right else "b", c, 1.0, 10, 2) for n, (right, c) in enumerate(flat)]


def test_the_lowest_confidence_that_keeps_the_accuracy_is_chosen() -> None:
    # 0.9: 50 of 50; 0.8: 95 of 100; 0.7: 95 of 120.
    validation = records((50, True, 0.9), (45, True, 0.8), (5, False, 0.8), (20, False, 0.7))
    assert choose_threshold(validation, 0.95) == 0.8
    assert choose_threshold(validation, 0.96) == 0.9
    assert choose_threshold(validation, 0.5) == 0.7


def test_no_threshold_where_none_keeps_the_accuracy() -> None:
    assert choose_threshold(records((10, True, 0.9), (30, False, 0.9)), 0.9) is None


def test_a_mistake_among_the_surest_does_not_hide_the_right_ones_below() -> None:
    assert choose_threshold(records((1, False, 0.99), (99, True, 0.9)), 0.95) == 0.9


def test_answers_of_equal_confidence_are_accepted_together() -> None:
    assert choose_threshold(records((30, True, 0.9), (30, False, 0.9)), 0.9) is None


@pytest.mark.parametrize(("count", "threshold"), [(MIN_ACCEPTED - 1, None), (MIN_ACCEPTED, 0.9)])
def test_too_few_accepted_answers_prove_nothing(count: int, threshold: float | None) -> None:
    assert choose_threshold(records((count, True, 0.9)), 0.9) == threshold


def test_without_validation_there_is_no_threshold() -> None:
    assert choose_threshold([], 0.9) is None


def test_the_order_of_the_records_does_not_matter() -> None:
    validation = records((50, True, 0.9), (45, True, 0.8), (5, False, 0.8), (20, False, 0.7))
    assert choose_threshold(validation[::-1], 0.95) == 0.8


def test_coverage_and_accuracy_are_those_at_or_above_the_threshold() -> None:
    result = apply_threshold(records((40, True, 0.9), (10, False, 0.8), (50, False, 0.7)), 0.8)
    assert result.coverage == 0.5
    assert result.headline == wilson(40, 50)


def test_nothing_accepted_has_no_accuracy() -> None:
    result = apply_threshold(records((5, True, 0.3)), 0.8)
    assert (result.coverage, result.headline) == (0, None)


def test_an_answer_without_confidence_is_never_trusted() -> None:
    assert apply_threshold(records((5, True, None)), 0.01).coverage == 0


def test_the_curve_goes_from_the_surest_answers_to_all_of_them() -> None:
    own = records(*((1, n < 50, 1 - n / 100) for n in range(100)))
    first, *_, last = cascade_curve(own, [], own_usd=70, api_usd=1000)
    assert (first.coverage, first.inside, first.whole) == (0.05, 1.0, None)
    assert first.usd_per_month == pytest.approx(70 + 950)
    assert (last.coverage, last.inside, last.usd_per_month) == (1.0, 0.5, 70)


def test_answers_of_equal_confidence_are_one_point_of_the_curve() -> None:
    (only,) = cascade_curve(records((50, True, 0.9), (50, False, 0.9)), [], 70, 1000)
    assert (only.coverage, only.inside, only.threshold) == (1.0, 0.5, 0.9)


def test_with_the_apis_answers_the_curve_knows_the_whole() -> None:
    own = records(*((1, n < 50, 1 - n / 100) for n in range(100)))
    api = records((40, False, None), (60, True, None))
    points = {point.coverage: point for point in cascade_curve(own, api, 70, 1000)}
    assert points[0.5].whole == 1.0
    assert points[0.05].whole == pytest.approx((5 + 60) / 100)
    assert points[1.0].whole == 0.5
    assert cascade_curve(own, api[:99], 70, 1000)[0].whole is None
