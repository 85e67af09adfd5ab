from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tunewright.drift.accuracy import FEWEST_DRAWN, FEWEST_REVIEWS, Reviewed, accuracy_now, fall_of_accuracy

ANSWERS = 5000


def _reviewed(
    right: npt.ArrayLike,
    confidence: npt.ArrayLike,
    day: npt.ArrayLike = 0,
    drawn: npt.ArrayLike = False,
) -> Reviewed:
    right = np.asarray(right, float)
    days, by_lot = np.broadcast_to(day, right.shape), np.broadcast_to(drawn, right.shape)
    return Reviewed(right, np.asarray(confidence, float), days.astype(np.int64), by_lot.astype(bool))


def _answers(random: np.random.Generator, loss: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Confidences, and whether answers are right: as often as the confidence says, less a loss."""
    confidence = random.beta(5, 1, ANSWERS)
    return confidence, (random.random(ANSWERS) < confidence - loss).astype(float)


def test_a_queue_that_shows_the_unsure_first_does_not_make_a_model_look_bad() -> None:
    random, inside, naive, gaps = np.random.default_rng(0), 0, [], []
    for _ in range(200):
        confidence, right = _answers(random)
        weight = 1.05 - confidence
        chosen = random.choice(ANSWERS, 300, replace=False, p=weight / weight.sum())
        result = accuracy_now(_reviewed(right[chosen], confidence[chosen]), confidence, {})
        assert result is not None
        inside += result.share.low <= right.mean() <= result.share.high
        naive.append(right[chosen].mean() - right.mean())
        gaps.append(result.share.value - right.mean())
    assert np.mean(naive) < -0.08
    assert abs(np.mean(gaps)) < 0.015
    assert inside >= 0.92 * 200


def test_without_confidences_accuracy_is_that_of_the_reviews() -> None:
    right = np.array([1.0] * 90 + [0.0] * 30)
    untold = np.full(120, np.nan)
    result = accuracy_now(_reviewed(right, untold), untold, {})
    assert result is not None
    assert result.share.value == 0.75


def test_all_right_is_no_proof_of_perfection() -> None:
    sure = np.full(150, 0.9)
    result = accuracy_now(_reviewed(np.ones(150), sure), sure, {})
    assert result is not None
    assert result.share.value == 1
    assert result.share.low < 0.99


def test_few_reviews_tell_nothing() -> None:
    few = FEWEST_REVIEWS - 1
    assert accuracy_now(_reviewed(np.ones(few), np.ones(few)), np.ones(1000), {}) is None
    assert fall_of_accuracy(_reviewed(np.ones(few), np.ones(few), np.arange(few))) is None
    assert fall_of_accuracy(_reviewed([], [], [])) is None


def test_reviews_of_one_day_show_no_fall() -> None:
    assert fall_of_accuracy(_reviewed(np.ones(200), np.ones(200), np.zeros(200, np.int64))) is None


@pytest.mark.slow
def test_a_fall_is_found_on_its_day() -> None:
    random = np.random.default_rng(1)
    (before, first), (after, second) = _answers(random), _answers(random, loss=0.2)
    confidence = np.concatenate([before[:400], after[:400]])
    day = np.repeat(np.arange(20), 40)
    result = fall_of_accuracy(_reviewed(np.concatenate([first[:400], second[:400]]), confidence, day))
    assert result is not None
    assert abs(result.day - 10) <= 1
    assert result.counts(0.001)
    assert 0.1 < result.loss < 0.3


def test_a_rise_is_no_fall() -> None:
    right = np.concatenate([np.zeros(100), np.ones(100)])
    result = fall_of_accuracy(_reviewed(right, np.full(200, 0.5), np.repeat(np.arange(10), 20)))
    assert result is not None
    assert not result.counts(0.05)


def test_a_queue_that_turns_to_the_unsure_is_no_fall() -> None:
    random = np.random.default_rng(2)
    confidence, right = _answers(random)
    sure, unsure = np.argsort(-confidence)[:2000], np.argsort(confidence)[:2000]
    chosen = np.concatenate([random.choice(sure, 300), random.choice(unsure, 300)])
    result = fall_of_accuracy(_reviewed(right[chosen], confidence[chosen], np.repeat(np.arange(20), 30)))
    assert result is not None
    assert not result.counts(0.001)


@pytest.mark.slow
def test_without_a_change_one_is_rarely_found() -> None:
    random, result = np.random.default_rng(3), 0
    for _ in range(100):
        confidence, right = _answers(random)
        change = fall_of_accuracy(_reviewed(right[:200], confidence[:200], np.repeat(np.arange(10), 20)))
        result += change is not None and change.p <= 0.05
    assert result <= 12  # 5 are expected; 1 in 200 draws has more than 12


@pytest.mark.slow
def test_random_draws_correct_a_queue_that_chooses_by_more_than_confidence() -> None:
    """Disputed answers come first and are wrong more often than others of their confidence."""
    random, inside, weighted, drawn_gaps = np.random.default_rng(4), 0, [], []
    for _ in range(200):
        confidence, right = _answers(random)
        disputed = random.random(ANSWERS) < np.where(right == 1, 0.05, 0.4)
        day = random.integers(0, 28, ANSWERS)
        weight = (1.05 - confidence) * np.where(disputed, 5, 1)
        queue = random.choice(ANSWERS, 300, replace=False, p=weight / weight.sum())
        lot = np.concatenate([random.choice(np.flatnonzero(day == each), 5, replace=False) for each in range(28)])
        chosen, by_lot = np.union1d(queue, lot), np.isin(np.union1d(queue, lot), lot)
        answered = {each: float(count) for each, count in enumerate(np.bincount(day))}
        about = right[chosen], confidence[chosen], day[chosen]
        result = accuracy_now(_reviewed(*about, by_lot), confidence, answered)
        assert result is not None
        assert (result.drawn, result.reviews) == (True, 140)
        inside += result.share.low <= right.mean() <= result.share.high
        drawn_gaps.append(result.share.value - right.mean())
        without = accuracy_now(_reviewed(*about), confidence, answered)
        assert without is not None
        weighted.append(without.share.value - right.mean())
    assert np.mean(weighted) < -0.05
    assert abs(np.mean(drawn_gaps)) < 0.01
    assert inside >= 0.92 * 200


def test_a_day_counts_by_what_it_answered() -> None:
    day = np.repeat([1, 2], FEWEST_DRAWN // 2)
    busy, quiet = (
        accuracy_now(_reviewed(day == 1, np.full(len(day), 0.5), day, drawn=True), np.empty(0), answered)
        for answered in ({1: 900.0, 2: 100.0}, {1: 100.0, 2: 900.0})
    )
    assert busy and quiet
    assert (busy.share.value, quiet.share.value) == (pytest.approx(0.9), pytest.approx(0.1))


def test_an_estimate_from_one_of_two_days_is_less_sure() -> None:
    day, right = np.repeat([1, 2], 20), np.tile([0, 1], 20)
    one, both = (
        accuracy_now(_reviewed(right, np.full(40, 0.5), day, drawn=True), np.empty(0), answered)
        for answered in ({1: 900.0, 2: 100.0}, {1: 500.0, 2: 500.0})
    )
    assert one and both
    assert one.share.value == both.share.value == 0.5
    assert one.share.high - one.share.low > 1.2 * (both.share.high - both.share.low)


def test_too_few_drawn_ones_do_not_count_alone() -> None:
    few = FEWEST_DRAWN - 1
    assert accuracy_now(_reviewed(np.ones(few), np.ones(few), drawn=True), np.ones(1000), {}) is None
