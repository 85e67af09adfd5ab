from __future__ import annotations

import random
from itertools import pairwise

import pytest

from tunewright.training.loop.validation import ValidationScore, chosen


def score(accuracy: float, examples: int = 200, loss: float = 1.0, seed: int = 0) -> ValidationScore:
    right = round(accuracy * examples)
    marks = ["1"] * right + ["0"] * (examples - right)
    random.Random(seed).shuffle(marks)
    return marked("".join(marks), loss)


def of(scores: list[float], loss: float = 1.0) -> ValidationScore:
    return ValidationScore(scores, [loss] * len(scores), len(scores))


def marked(marks: str, loss: float = 1.0) -> ValidationScore:
    return of([float(mark) for mark in marks], loss)


def alone(score: ValidationScore) -> list[str]:
    """The groups of examples that are independent."""
    return [str(n) for n in range(len(score.scores))]


def worse(score: ValidationScore, other: ValidationScore) -> bool:
    return score.worse_than(other, alone(score))


def test_the_primary_metric_of_right_and_wrong_answers_is_the_share_of_right_ones() -> None:
    assert marked("1101").primary_metric == 0.75


def test_answers_that_each_score_a_little_less_are_worse_beyond_chance() -> None:
    draw = random.Random(0)
    best = [draw.uniform(0.3, 0.9) for _ in range(50)]
    assert worse(of([scores - 0.02 for scores in best]), of(best))
    assert not worse(of([scores + draw.uniform(-0.1, 0.1) for scores in best]), of(best))


@pytest.mark.parametrize(("best", "last", "kept"), [(0.9, 0.89, 1), (0.9, 0.91, 1), (0.9, 0.6, 0)])
def test_the_later_adapter_is_kept_unless_it_is_worse_beyond_chance(best: float, last: float, kept: int) -> None:
    assert chosen([score(best), score(last, seed=1)], alone(score(best))) == kept


def test_a_slow_decline_is_compared_with_the_best_not_with_the_last() -> None:
    # From 160 right and 40 wrong, each step loses 8 more and wins 4: each step could be chance, all of them can't.
    scores = [
        marked("0" * 8 * step + "1" * (160 - 8 * step) + "1" * 4 * step + "0" * (40 - 4 * step)) for step in range(6)
    ]
    assert not any(worse(later, earlier) for earlier, later in pairwise(scores))
    assert worse(scores[-1], scores[0])
    assert chosen(scores, alone(scores[0])) < 3


def test_as_many_examples_lost_as_won_show_nothing() -> None:
    assert not worse(marked("10" * 50), marked("01" * 50))


@pytest.mark.slow
def test_a_few_examples_lost_could_be_chance() -> None:
    assert not worse(marked("1" * 97 + "000"), marked("1" * 99 + "0"))
    assert worse(marked("1" * 95 + "00000"), marked("1" * 99 + "0"))


@pytest.mark.parametrize(("lost", "kept"), [(1, 1), (2, 1), (3, 0)])
def test_a_group_that_fails_together_is_lost_once(lost: int, kept: int) -> None:
    """20 groups of 25 examples that are right or wrong together."""
    groups = [f"g{n // 25}" for n in range(500)]
    best, last = marked("1" * 500), marked("0" * 25 * lost + "1" * (500 - 25 * lost))
    assert worse(last, best)
    assert chosen([best, last], groups) == kept


def test_rows_count_by_their_weight() -> None:
    """The first of four rows stands for a hundred: who gets it wrong is worse, whatever the others say."""
    weights = [100.0, 1.0, 1.0, 1.0]
    first, others = (ValidationScore([*map(float, marks)], [1.0] * 4, 4, weights) for marks in ("1000", "0111"))
    assert (first.primary_metric, others.primary_metric) == (0.9709, 0.0291)
    assert chosen([first, others], ["a", "a", "b", "b"]) == 1  # four rows prove nothing
    many = [
        ValidationScore([float(mark)] * 50 + [1.0 - mark] * 50, [1.0] * 100, 100, [9.0] * 50 + [1.0] * 50)
        for mark in (1, 0)
    ]
    assert worse(many[1], many[0])
    assert not worse(many[0], many[1])
