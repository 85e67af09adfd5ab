from __future__ import annotations

import numpy as np

from tunewright.drift.accuracy import FEWEST_REVIEWS, accuracy_now, fall_of_accuracy

ANSWERS = 5000


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
        found = accuracy_now(right[chosen], confidence[chosen], confidence)
        assert found is not None
        inside += found.low <= right.mean() <= found.high
        naive.append(right[chosen].mean() - right.mean())
        gaps.append(found.value - right.mean())
    assert np.mean(naive) < -0.08
    assert abs(np.mean(gaps)) < 0.015
    assert inside >= 0.92 * 200


def test_without_confidences_accuracy_is_that_of_the_reviews() -> None:
    right = np.array([1.0] * 90 + [0.0] * 30)
    untold = np.full(120, np.nan)
    found = accuracy_now(right, untold, untold)
    assert found is not None
    assert found.value == 0.75


def test_all_right_is_no_proof_of_perfection() -> None:
    sure = np.full(150, 0.9)
    found = accuracy_now(np.ones(150), sure, sure)
    assert found is not None
    assert found.value == 1
    assert found.low < 0.99


def test_few_reviews_tell_nothing() -> None:
    few = FEWEST_REVIEWS - 1
    assert accuracy_now(np.ones(few), np.ones(few), np.ones(1000)) is None
    assert fall_of_accuracy(np.ones(few), np.ones(few), np.arange(few)) is None
    assert fall_of_accuracy(np.empty(0), np.empty(0), np.empty(0, np.int64)) is None


def test_reviews_of_one_day_show_no_fall() -> None:
    assert fall_of_accuracy(np.ones(200), np.ones(200), np.zeros(200, np.int64)) is None


def test_a_fall_is_found_on_its_day() -> None:
    random = np.random.default_rng(1)
    (before, first), (after, second) = _answers(random), _answers(random, loss=0.2)
    confidence = np.concatenate([before[:400], after[:400]])
    day = np.repeat(np.arange(20), 40)
    found = fall_of_accuracy(np.concatenate([first[:400], second[:400]]), confidence, day)
    assert found is not None
    assert abs(found.day - 10) <= 1
    assert found.counts(0.001)
    assert 0.1 < found.loss < 0.3


def test_a_rise_is_no_fall() -> None:
    right = np.concatenate([np.zeros(100), np.ones(100)])
    found = fall_of_accuracy(right, np.full(200, 0.5), np.repeat(np.arange(10), 20))
    assert found is not None
    assert not found.counts(0.05)


def test_a_queue_that_turns_to_the_unsure_is_no_fall() -> None:
    random = np.random.default_rng(2)
    confidence, right = _answers(random)
    sure, unsure = np.argsort(-confidence)[:2000], np.argsort(confidence)[:2000]
    chosen = np.concatenate([random.choice(sure, 300), random.choice(unsure, 300)])
    found = fall_of_accuracy(right[chosen], confidence[chosen], np.repeat(np.arange(20), 30))
    assert found is not None
    assert not found.counts(0.001)


def test_without_a_change_one_is_rarely_found() -> None:
    random, found = np.random.default_rng(3), 0
    for _ in range(100):
        confidence, right = _answers(random)
        change = fall_of_accuracy(right[:200], confidence[:200], np.repeat(np.arange(10), 20))
        found += change is not None and change.p <= 0.05
    assert found <= 12  # 5 are expected; 1 in 200 draws has more than 12
