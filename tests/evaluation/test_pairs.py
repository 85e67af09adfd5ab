from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from tunewright.evaluation.statistics.intervals import accuracy
from tunewright.evaluation.statistics.pairs import Paired, holm, paired, pairs_needed
from tunewright.tasks.measures import Ratio


def judged(right: Sequence[bool]) -> list[Ratio]:
    return [Ratio(float(each), 1) for each in right]


def of_counts(only_first: int, only_second: int, count: int) -> Paired:
    """Two predictors on `count` examples of which one alone is right on so many."""
    rest = [True] * (count - only_first - only_second)
    first = [True] * only_first + [False] * only_second + rest
    second = [False] * only_first + [True] * only_second + rest
    return paired(judged(first), judged(second), None)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p_value"),
    # Twice the tail of a fair coin: 2 (C(10,0) + C(10,1) + C(10,2)) / 2^10; 2 / 2^5; 1 where both are equal.
    [(8, 2, 2 * 56 / 1024), (0, 5, 2 / 32), (3, 3, 1.0), (0, 0, 1.0), (1, 0, 1.0)],
)
def test_mcnemars_exact_test_is_twice_the_tail_of_a_fair_coin(
    only_first: int, only_second: int, p_value: float
) -> None:
    first = [True] * only_first + [False] * only_second + [True] * 30 + [False] * 5
    second = [False] * only_first + [True] * only_second + [True] * 30 + [False] * 5
    result = paired(judged(first), judged(second), None)
    assert (result.only_first, result.only_second) == (only_first, only_second)
    assert result.p_value == pytest.approx(p_value)
    assert result.difference.value == pytest.approx((only_first - only_second) / len(first))


def test_the_paired_interval_is_narrower_than_its_parts_where_both_fail_together() -> None:
    rng = np.random.default_rng(4)
    first = rng.random(300) < 0.7
    second = np.where(rng.random(300) < 0.02, ~first, first)
    difference = paired(judged(first.tolist()), judged(second.tolist()), None).difference
    alone = accuracy(first.tolist(), None)
    assert difference.high - difference.low < (alone.high - alone.low) / 2


def test_two_measures_are_compared_by_example() -> None:
    first, second = [Ratio(4, 4), Ratio(2, 4), Ratio(1, 2)], [Ratio(2, 4), Ratio(2, 4), Ratio(2, 2)]
    result = paired(first, second, None)
    assert result.difference.value == pytest.approx(7 / 10 - 6 / 10)
    assert (result.only_first, result.only_second, result.p_value) == (1, 1, 1.0)


def test_no_label_where_none_is_right_is_better_than_a_spurious_one() -> None:
    """Ten rows whose right answer is []: the first gives [], the second one label. Ten rows more have no measure."""
    quiet, spurious, neither = Ratio(0, 0), Ratio(0, 1), Ratio(0, 0)
    known = [Ratio(2, 2)] * 20
    first, second = [quiet] * 10 + [neither] * 10 + known, [spurious] * 10 + [neither] * 10 + known
    result = paired(first, second, None)
    assert (result.only_first, result.only_second) == (10, 0)
    assert result.p_value == pytest.approx(2 / 1024)
    assert result.difference.value > 0
    by_group = paired(first, second, [str(number) for number in range(40)])
    assert by_group.p_value == pytest.approx(2 / 1024)


def drawn(rng: np.random.Generator, count: int, only_first: float, only_second: float) -> Paired:
    outcomes = rng.multinomial(count, [only_first, only_second, 1 - only_first - only_second])
    return of_counts(int(outcomes[0]), int(outcomes[1]), count)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "only_first", "only_second"),
    [
        (50, 0.05, 0.05),
        (200, 0.06, 0.02),
        (200, 0.01, 0.01),
        (500, 0.02, 0.07),
    ],
)
def test_the_interval_of_a_difference_covers_the_truth(count: int, only_first: float, only_second: float) -> None:
    rng, truth = np.random.default_rng(0), only_first - only_second
    result = [drawn(rng, count, only_first, only_second) for _ in range(600)]
    covered = np.mean([each.difference.low <= truth <= each.difference.high for each in result])
    assert 0.92 <= covered <= 0.99
    assert 0.93 <= np.mean([each.at_least <= truth for each in result]) <= 0.995


def test_at_a_difference_of_nothing_the_score_is_mcnemars() -> None:
    # (b - c) / sqrt(b + c) = 1.96 where b = 24.4 and c = 12.6: the interval ends at nothing.
    result = of_counts(25, 12, 1000)
    assert result.difference.low > 0
    assert of_counts(24, 13, 1000).difference.low < 0


def test_no_difference_in_few_examples_is_no_proof() -> None:
    few, many = of_counts(0, 0, 20), of_counts(0, 0, 2000)
    assert few.difference.low == pytest.approx(-few.difference.high)
    assert few.difference.low < -0.1
    assert not few.not_inferior(0.02)
    assert many.not_inferior(0.02)


def test_no_difference_in_few_groups_is_no_proof() -> None:
    same = judged([True, False] * 100)
    result = paired(same, same, [str(n % 5) for n in range(200)])
    assert result.difference.value == 0
    assert result.difference.low < -0.2
    assert result.difference.doubt
    assert not result.not_inferior(0.99)


def test_grouped_examples_are_tested_by_group() -> None:
    first = judged([True] * 150 + [False] * 50)
    second = judged([True] * 100 + [False] * 100)
    groups = [f"g{n // 50}" for n in range(200)]
    assert paired(first, second, groups).p_value == 1.0, "one group of four is better"
    assert paired(first, second, None).p_value < 1e-10


def test_fewer_examples_prove_it_where_the_differences_are_small() -> None:
    rng = np.random.default_rng(0)
    first = [Ratio(float(value), 1) for value in rng.uniform(0.7, 0.9, 400)]
    second = [Ratio(each.part + float(step), 1) for each, step in zip(first, rng.normal(0, 0.05, 400), strict=True)]
    result = paired(first, second, None)
    assert result.variance == pytest.approx(0.0025, rel=0.2)
    assert pairs_needed(0.01, result.variance) < 250


@pytest.mark.slow
def test_the_interval_of_a_difference_in_groups_covers_the_truth() -> None:
    """Groups in which the first alone is right on 20 % of the examples, or on none: 8 % on the mean."""
    rng, hits = np.random.default_rng(3), 0
    for _ in range(120):
        first, groups = [], []
        for group in range(60):
            better = rng.random(10) < (0.2 if rng.random() < 0.4 else 0.0)
            first += better.tolist()
            groups += [str(group)] * 10
        result = paired(judged(first), judged([False] * 600), groups)
        hits += result.difference.low <= 0.08 <= result.difference.high
    assert 0.87 <= hits / 120 <= 0.99


@pytest.mark.slow
def test_the_claim_of_no_inferiority_is_wrong_once_in_twenty() -> None:
    """The first is worse by exactly the margin: to say that it is not is an error."""
    rng = np.random.default_rng(5)
    wrong = np.mean([drawn(rng, 800, 0.04, 0.06).not_inferior(0.02) for _ in range(1000)])
    assert 0.03 <= wrong <= 0.07


@pytest.mark.slow
def test_so_many_pairs_prove_it_four_times_in_five() -> None:
    count = pairs_needed(0.02, 0.1)
    assert count == 1546
    rng = np.random.default_rng(6)
    proved = np.mean([drawn(rng, count, 0.05, 0.05).not_inferior(0.02) for _ in range(400)])
    assert 0.75 <= proved <= 0.86


def test_more_pairs_are_needed_for_a_smaller_margin_and_fewer_where_it_is_better() -> None:
    assert pairs_needed(0.01, 0.1) == pytest.approx(4 * pairs_needed(0.02, 0.1), abs=4)
    assert pairs_needed(0.02, 0.1, 0.01) < pairs_needed(0.02, 0.1) < pairs_needed(0.02, 0.1, -0.01)
    with pytest.raises(ValueError, match="beyond the margin"):
        pairs_needed(0.02, 0.1, -0.02)


def test_holm_corrects_the_smallest_most() -> None:
    # The example of Holm's procedure: 0.01 x 4, 0.02 x 3, 0.03 x 2, 0.04 x 1, and never less than the one before.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def test_holm_finds_a_difference_among_equals_once_in_twenty() -> None:
    rng = np.random.default_rng(7)
    result = np.mean([min(holm(rng.random(12).tolist())) < 0.05 for _ in range(2000)])
    assert 0.035 <= result <= 0.065


@pytest.mark.parametrize("groups", [None, [str(number // 2) for number in range(6)], ["one"] * 6])
def test_one_that_is_always_right_beside_one_that_never_is(groups: list[str] | None) -> None:
    result = paired([Ratio(0, 1)] * 6, [Ratio(1, 1)] * 6, groups)
    assert result.difference.value == -1
    assert -1 <= result.at_least <= result.difference.high <= 1
    assert result.difference.low < result.difference.high
