from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import kstest

from tunewright.drift.two_sample import NONE, Difference, mix, shift

SPLITS = 300


def _numbers(random: np.random.Generator, count: int) -> np.ndarray:
    return random.gamma(2, 20, count).round().astype(np.float32)  # lengths, with ties


def _kinds(random: np.random.Generator, count: int) -> Counter[str]:
    shares = 1 / np.arange(1, 31)  # a few frequent ones, many rare ones
    return Counter(random.choice(30, count, p=shares / shares.sum()).astype(str).tolist())


def _of_kinds(random: np.random.Generator, rows: int, window: int) -> Difference:
    return mix(_kinds(random, rows), _kinds(random, window))


def _of_numbers(random: np.random.Generator, rows: int, window: int) -> Difference:
    return shift(_numbers(random, rows), _numbers(random, window), 0)


def _worse_numbers(random: np.random.Generator, rows: int, window: int) -> Difference:
    return shift(_numbers(random, rows), _numbers(random, window), 1)


@pytest.mark.slow
@pytest.mark.parametrize("test", [_of_kinds, _of_numbers, _worse_numbers])
@pytest.mark.parametrize(("rows", "window"), [(400, 200), (300, 3000)])
def test_without_drift_no_p_value_is_likelier_than_it_says(
    test: Callable[[np.random.Generator, int, int], Difference], rows: int, window: int
) -> None:
    random = np.random.default_rng(3)
    p = np.array([test(random, rows, window).p for _ in range(SPLITS)])
    # One-sided: two tests in one, multiplied, are careful.
    assert kstest(p, "uniform", alternative="greater").pvalue > 0.01
    assert (p <= 0.1).mean() > 0.01  # and are no constant


def test_p_values_of_equal_mixes_of_kinds_are_uniform() -> None:
    random = np.random.default_rng(4)
    assert kstest([_of_kinds(random, 500, 500).p for _ in range(SPLITS)], "uniform").pvalue > 0.01


def test_reference_and_window_swapped_differ_as_clearly() -> None:
    random = np.random.default_rng(5)
    first, second = _kinds(random, 300), _kinds(random, 900)
    there, back = mix(first, second), mix(second, first)
    assert (there.p, there.effect) == pytest.approx((back.p, back.effect))
    before, after = _numbers(random, 300), _numbers(random, 900) + 20
    assert shift(before, after, 0).p < 1e-6
    assert shift(after, before, 0).p < 1e-6


def test_where_only_more_is_worse_less_is_none() -> None:
    random = np.random.default_rng(6)
    before, after = _numbers(random, 400), _numbers(random, 400)
    assert shift(before, after + 30, 1).p < 1e-6
    assert shift(before, after - 30, 1).p > 0.9
    assert shift(before, after - 30, -1).p < 1e-6


def test_a_few_strange_ones_among_many_show_in_the_tail() -> None:
    random = np.random.default_rng(7)
    before, after = random.normal(size=2000), random.normal(size=2000)
    after[:120] = 5
    result = shift(before, after, 1)
    assert result.p < 1e-6
    assert result.matters


def test_a_huge_window_does_not_make_a_tiny_difference_matter() -> None:
    result = mix({"a": 500_000, "b": 500_000}, {"a": 505_000, "b": 495_000})
    assert result.p < 1e-6
    assert not result.matters
    random = np.random.default_rng(8)
    result = shift(random.normal(size=200_000), random.normal(size=200_000) + 0.02, 0)
    assert result.p < 1e-6
    assert not result.matters


def test_a_kind_that_is_new_and_frequent_is_found() -> None:
    assert mix({"a": 500, "b": 500}, {"a": 240, "b": 240, "c": 20}).p < 1e-6


def test_many_kinds_that_are_new_and_rare_are_found_together() -> None:
    assert mix({"a": 500, "b": 500}, {"a": 240, "b": 240, **{f"new {n}": 1 for n in range(20)}}).p < 1e-6


@pytest.mark.parametrize("worse", [-1, 0, 1])
@pytest.mark.parametrize(("before", "after"), [([], []), ([], [1.0]), ([1.0], []), ([3.0] * 50, [3.0] * 70)])
def test_nothing_and_constants_are_no_difference(before: list[float], after: list[float], worse: int) -> None:
    assert shift(np.array(before, np.float32), np.array(after, np.float32), worse) == NONE


@pytest.mark.parametrize(("before", "after"), [({}, {}), ({"a": 3}, {}), ({}, {"a": 3}), ({"a": 300}, {"a": 9})])
def test_no_rows_and_one_kind_are_no_difference(before: dict[str, int], after: dict[str, int]) -> None:
    assert mix(before, after) == NONE


def test_two_constants_that_differ_do() -> None:
    assert shift(np.full(300, 1.0), np.full(300, 2.0), 0).p < 1e-6


def test_rows_that_come_together_count_as_the_few_that_they_are_worth() -> None:
    before, after = {"a": 300, "b": 200, "c": 5}, {"a": 100, "b": 150, "c": 20}
    once = mix(before, after)
    five_times = mix({kind: 5 * n for kind, n in before.items()}, {kind: 5 * n for kind, n in after.items()}, 5.0)
    assert (five_times.p, five_times.effect) == pytest.approx((once.p, once.effect))
    random = np.random.default_rng(9)
    first, second = _numbers(random, 300), _numbers(random, 300) + 5
    once, five_times = shift(first, second, 1), shift(np.repeat(first, 5), np.repeat(second, 5), 1, 5.0)
    assert five_times.p == pytest.approx(once.p, rel=0.2)
    assert five_times.effect == pytest.approx(once.effect, rel=0.05)
