from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import binom

from tunewright.evaluation.candidates.cascade import (
    DELTA,
    MIN_ACCEPTED,
    Drawing,
    Threshold,
    _chance,
    apply_threshold,
    cascade_curve,
    choose_threshold,
)
from tunewright.evaluation.evidence import Record
from tunewright.evaluation.statistics.intervals import wilson


def records(*parts: tuple[int, bool, float | None]) -> list[Record]:
    """(how many, right, confidence) each."""
    flat = [(right, confidence) for count, right, confidence in parts for _ in range(count)]
    return [Record(str(n), "v", "a", "a" if right else "b", c, 1.0, 10, 2) for n, (right, c) in enumerate(flat)]


def suggested(validation: list[Record], least: float) -> float | None:
    """The threshold where it can't be proven that answers reach a primary metric."""
    result = choose_threshold(validation, least)
    assert result is None or not result.guaranteed
    return result.value if result else None


def test_the_lowest_confidence_that_keeps_the_accuracy_is_chosen() -> None:
    # 0.9: 20 of 20; 0.8: 38 of 40; 0.7: 38 of 42.
    validation = records((20, True, 0.9), (18, True, 0.8), (2, False, 0.8), (2, False, 0.7))
    assert suggested(validation, 0.95) == 0.8
    assert suggested(validation, 0.98) == 0.9
    assert suggested(validation, 0.9) == 0.7


def test_no_threshold_where_none_keeps_the_accuracy() -> None:
    assert suggested(records((10, True, 0.9), (30, False, 0.9)), 0.9) is None


def test_a_mistake_among_the_surest_does_not_hide_the_right_ones_below() -> None:
    assert suggested(records((1, False, 0.99), (99, True, 0.9)), 0.985) == 0.9


def test_answers_of_equal_confidence_are_accepted_together() -> None:
    assert suggested(records((30, True, 0.9), (30, False, 0.9)), 0.9) is None


@pytest.mark.parametrize(("count", "threshold"), [(MIN_ACCEPTED - 1, None), (MIN_ACCEPTED, 0.9)])
def test_too_few_accepted_answers_prove_nothing(count: int, threshold: float | None) -> None:
    assert suggested(records((count, True, 0.9)), 0.9) == threshold


def test_without_validation_there_is_no_threshold() -> None:
    assert choose_threshold([], 0.9) is None


def test_the_order_of_the_records_does_not_matter() -> None:
    validation = records((20, True, 0.9), (18, True, 0.8), (2, False, 0.8), (2, False, 0.7))
    assert suggested(validation[::-1], 0.95) == 0.8
    proven = records((100, True, 0.9), (30, False, 0.8), (30, False, 0.7))
    assert choose_threshold(proven[::-1], 0.9) == choose_threshold(proven, 0.9)


def test_coverage_and_accuracy_are_those_at_or_above_the_threshold() -> None:
    result = apply_threshold(records((40, True, 0.9), (10, False, 0.8), (50, False, 0.7)), Threshold(0.8, True, 100))
    assert result.coverage == 0.5
    assert result.primary_metric == wilson(40, 50)


def test_nothing_accepted_has_no_accuracy() -> None:
    result = apply_threshold(records((5, True, 0.3)), Threshold(0.8, True, 100))
    assert (result.coverage, result.primary_metric) == (0, None)


def test_an_answer_without_confidence_is_never_trusted() -> None:
    assert apply_threshold(records((5, True, None)), Threshold(0.01, True, 100)).coverage == 0


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


FEWEST = 22
"""Answers that prove 90 %, if all are right: 0.9 ** 22 is just below 0.1."""


@pytest.mark.parametrize(("count", "proven"), [(FEWEST - 1, False), (FEWEST, True)])
def test_it_takes_a_number_of_right_answers_to_prove_a_threshold(count: int, proven: bool) -> None:
    result = choose_threshold(records((count, True, 0.9)), 0.9)
    assert result
    assert (result.value, result.guaranteed, result.examples) == (0.9, proven, count)
    assert proven or "21 independent answers are too few, it takes 22" in result.doubt


def test_an_error_among_the_surest_takes_more_answers() -> None:
    result = choose_threshold(records((200, True, 0.9), (5, False, 0.9)), 0.9)
    assert result == Threshold(0.9, True, 205)
    unproven = choose_threshold(records((30, True, 0.9), (3, False, 0.9)), 0.9)
    assert unproven
    assert "too many errors to prove it with so few" in unproven.doubt


def test_the_steps_of_a_proof_end_at_the_first_that_fails() -> None:
    """Below it lie answers that are right again: a threshold there would be found by looking often enough."""
    validation = records((500, True, 0.9), (100, False, 0.8), (1000, True, 0.7))
    assert choose_threshold(validation, 0.93) == Threshold(0.9, True, len(validation))


def test_one_error_among_many_sure_answers_does_not_end_the_proof() -> None:
    assert choose_threshold(records((1, False, 0.99), (199, True, 0.9)), 0.9) == Threshold(0.9, True, 200)


def test_copies_prove_no_more_than_one_of_them() -> None:
    validation = records((100, True, 0.9))
    pairs = Drawing({record.id: int(record.id) // 5 for record in validation})
    result = choose_threshold(validation, 0.9, pairs)
    assert result
    assert (result.guaranteed, result.examples) == (False, 20)
    assert "20 independent answers are too few" in result.doubt
    assert choose_threshold(records((110, True, 0.9)), 0.9, Drawing({str(n): n // 5 for n in range(110)})) == Threshold(
        0.9, True, FEWEST
    )


def test_nothing_is_guaranteed_where_there_is_doubt() -> None:
    result = choose_threshold(records((100, True, 0.9)), 0.9, Drawing(doubt="it was long ago"))
    assert result == Threshold(0.9, False, 100, "it was long ago")


@pytest.mark.parametrize(("least", "why"), [(1.0, "no answer is ever wrong"), (0.999, "100 independent answers")])
def test_a_goal_nobody_can_prove_is_not_proven(least: float, why: str) -> None:
    result = choose_threshold(records((100, True, 0.9)), least)
    assert result
    assert not result.guaranteed
    assert why in result.doubt


@pytest.mark.parametrize(
    ("lost", "count", "binary", "chance"),
    [
        # The binomial's: 0.9^22; 0.9^30 + 30 * 0.1 * 0.9^29.
        (0.0, 22, True, 0.9**22),
        (1.0, 30, True, 0.9**30 + 30 * 0.1 * 0.9**29),
        # Hoeffding's exp(-n KL(mean || 0.1)); with nothing lost it is 0.9^n.
        (0.0, 22, False, 0.9**22),
        (1.5, 60, False, math.exp(-60 * (0.025 * math.log(0.25) + 0.975 * math.log(0.975 / 0.9)))),
        # Bentkus', where it is the smaller: e P(Bin(n, 0.1) <= lost).
        (3.0, 100, False, math.e * float(binom.cdf(3, 100, 0.1))),
        # As much lost as allowed says nothing.
        (10.0, 100, False, 1.0),
    ],
)
def test_the_chance_is_the_one_of_the_papers(lost: float, count: int, binary: bool, chance: float) -> None:
    assert _chance(lost, count, 0.1, binary=binary) == pytest.approx(chance, rel=1e-6)


Numbers = np.ndarray
Draw = Callable[[np.random.Generator, int], tuple[Numbers, Numbers, Numbers]]
"""Draws answers: confidence, what each is worth, and what it is worth on average."""
RESAMPLINGS = 200


def right_or_wrong(random: np.random.Generator, count: int) -> tuple[Numbers, Numbers, Numbers]:
    """The model is as sure as it should be."""
    sure = random.beta(4, 0.7, count)
    return sure, random.binomial(1, sure), sure


def at_the_edge(random: np.random.Generator, count: int) -> tuple[Numbers, Numbers, Numbers]:
    """Whatever the threshold, answers are right just too seldom."""
    expected = np.full(count, 0.8999)
    return random.random(count), random.binomial(1, expected), expected


def in_part(random: np.random.Generator, count: int) -> tuple[Numbers, Numbers, Numbers]:
    """Records, whose fields are in part right."""
    sure = random.beta(4, 0.5, count)
    return sure, random.binomial(5, sure) / 5, sure


@pytest.mark.slow
@pytest.mark.parametrize("draw", [right_or_wrong, at_the_edge, in_part])
@pytest.mark.parametrize("count", [60, 300, 1000])
def test_the_guarantee_holds_over_many_validation_parts(draw: Draw, count: int) -> None:
    least, random = 0.9, np.random.default_rng(count)
    everything, _, expected = draw(random, 300_000)
    broken, made = dict.fromkeys((True, False), 0), dict.fromkeys((True, False), 0)
    for _ in range(RESAMPLINGS):
        sure, score, _ = draw(random, count)
        validation = [
            Record(str(n), "v", "a", "a", float(c), 1.0, 10, 2, measures={"f1": (float(w), 1)})
            for n, (c, w) in enumerate(zip(sure, score, strict=True))
        ]
        if result := choose_threshold(validation, least):
            made[result.guaranteed] += 1
            broken[result.guaranteed] += expected[everything >= result.value].mean() < least
    chance = 3 * (DELTA * (1 - DELTA) / RESAMPLINGS) ** 0.5
    assert broken[True] / RESAMPLINGS <= DELTA + chance
    if draw is at_the_edge:
        assert broken[True] > 0, "a proof fails now and then, or it asks for too much"
        assert broken[False] / RESAMPLINGS > 0.5, "what is only suggested keeps no promise"
    elif count == 1000:
        assert made[True] > 0.95 * RESAMPLINGS
