from __future__ import annotations

import random
from itertools import pairwise

import pytest

from tunewright.train.validation import Score, chosen


def score(accuracy: float, examples: int = 200, loss: float = 1.0, seed: int = 0) -> Score:
    right = round(accuracy * examples)
    marks = ["1"] * right + ["0"] * (examples - right)
    random.Random(seed).shuffle(marks)
    return Score("".join(marks), loss)


def test_accuracy_is_the_share_of_right_answers() -> None:
    assert Score("1101", 0.5).accuracy == 0.75


@pytest.mark.parametrize(("best", "last", "kept"), [(0.9, 0.89, 1), (0.9, 0.91, 1), (0.9, 0.6, 0)])
def test_the_later_adapter_is_kept_unless_it_is_worse_beyond_chance(best: float, last: float, kept: int) -> None:
    assert chosen([score(best), score(last, seed=1)]) == kept


def test_a_slow_decline_is_held_against_the_best_not_against_the_last() -> None:
    # Of 160 right and 40 wrong, each step loses 8 more and wins 4: each alone could be chance, the whole way can't.
    scores = [
        Score("0" * 8 * step + "1" * (160 - 8 * step) + "1" * 4 * step + "0" * (40 - 4 * step), 1.0)
        for step in range(6)
    ]
    assert not any(later.worse_than(earlier) for earlier, later in pairwise(scores))
    assert scores[-1].worse_than(scores[0])
    assert chosen(scores) < 3


def test_the_same_examples_lost_and_won_tell_nothing() -> None:
    assert not Score("10" * 50, 1.0).worse_than(Score("01" * 50, 1.0))


def test_a_few_examples_lost_could_be_chance() -> None:
    assert not Score("1" * 97 + "000", 1.0).worse_than(Score("1" * 99 + "0", 1.0))
    assert Score("1" * 95 + "00000", 1.0).worse_than(Score("1" * 99 + "0", 1.0))
