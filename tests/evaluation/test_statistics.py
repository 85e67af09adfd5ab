from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.metrics import f1_score

from tunewright.evaluation.statistics import intervals as statistics
from tunewright.evaluation.statistics.intervals import RESAMPLES, Resamples, accuracy, macro_f1, ratio, wilson
from tunewright.tasks.measures import Ratio


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998, table I, method 3.
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes: int, trials: int, low: float, high: float) -> None:
    interval = wilson(successes, trials)
    assert interval.value == successes / trials
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.slow
def test_wilson_covers_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    for truth in (0.5, 0.9, 0.97):
        intervals = [wilson(int(n), 100) for n in rng.binomial(100, truth, 1000)]
        assert 0.92 <= np.mean([i.low <= truth <= i.high for i in intervals]) <= 0.98


def test_accuracy_of_single_examples_has_wilsons_interval() -> None:
    assert accuracy([True] * 81 + [False] * 182, None) == wilson(81, 263)


def clustered(rng: np.random.Generator, groups: int = 40, size: int = 10) -> tuple[list[bool], list[str]]:
    """Groups that are easy (0.9 right) or hard (0.4 right): 0.7 on the mean, as 60 % are easy."""
    easy = rng.random(groups) < 0.6
    right = rng.random((groups, size)) < np.where(easy, 0.9, 0.4)[:, None]
    return right.ravel().tolist(), [str(g) for g in range(groups) for _ in range(size)]


def coverage(grouped: bool) -> float:
    rng, hits = np.random.default_rng(1), 0
    for _ in range(100):
        right, groups = clustered(rng)
        interval = accuracy(right, groups if grouped else None)
        hits += interval.low <= 0.7 <= interval.high
    return hits / 100


def test_the_interval_of_groups_covers_the_truth_where_examples_fail_together() -> None:
    assert 0.89 <= coverage(grouped=True) <= 0.99


def test_the_same_data_taken_as_independent_would_mislead() -> None:
    assert coverage(grouped=False) < 0.75


def test_groups_of_one_give_about_wilsons_interval() -> None:
    right = [True] * 160 + [False] * 40
    single = accuracy(right, [str(n) for n in range(200)])
    assert (single.low, single.high) == pytest.approx((wilson(160, 200).low, wilson(160, 200).high), abs=0.015)


def test_all_right_in_few_groups_is_no_certainty() -> None:
    interval = accuracy([True] * 100, [str(n % 5) for n in range(100)])
    assert (interval.value, interval.high) == (1, 1)
    assert interval.low < 0.7
    assert interval.doubt == "too few groups to tell (5, and it takes 20)"


@pytest.mark.parametrize("right", [True, False])
def test_one_group_proves_nothing(right: bool) -> None:
    interval = accuracy([right] * 50, ["one"] * 50)
    assert (interval.low, interval.high) == (0, 1)
    assert interval.doubt


def test_one_group_of_more_than_a_tenth_of_the_rows_is_doubted() -> None:
    groups = [str(n) for n in range(200)]
    assert not accuracy([True] * 200, groups).doubt
    large = accuracy([True] * 230, groups + ["0"] * 30).doubt
    assert large == "too few groups to tell (one of 200 holds 13.5% of the rows, more than 10%)"


def test_rows_that_stand_by_themselves_are_never_too_few_groups() -> None:
    assert accuracy([True] * 5, None).doubt == ""


@pytest.mark.parametrize("groups", [None, [str(n // 2) for n in range(6)], ["one"] * 6])
@pytest.mark.parametrize(
    "measured",
    [
        [Ratio(4, 4)] * 6,
        [Ratio(0, 4)] * 6,
        [Ratio(2, 4)] * 6,
        [Ratio(0.5, 1)] * 6,
        [Ratio(0, 0)] * 6,
        [Ratio(1, 1)] * 6,
        [*[Ratio(4, 4)] * 5, Ratio(0, 0)],
    ],
)
def test_no_interval_has_no_width(measured: list[Ratio], groups: list[str] | None) -> None:
    interval = ratio(measured, groups)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1
    assert interval.high - interval.low > 0.3


def test_a_field_that_five_records_have_right_is_no_proof() -> None:
    interval = ratio([Ratio(2, 2)] * 5, None)
    assert (interval.value, interval.high) == (1, 1)
    assert interval.low == pytest.approx(1 / (1 + 2.776**2 / 5), abs=1e-3)


def test_graded_answers_that_hardly_vary_have_a_narrow_interval() -> None:
    """Of 150 with a standard deviation of 0.1 a normal interval is 0.033 wide, one for right and wrong ones 0.16."""
    values = np.random.default_rng(4).normal(0.6, 0.1, 150).clip(0, 1)
    interval = ratio([Ratio(float(value), 1) for value in values], None)
    assert 0.03 < interval.high - interval.low < 0.045


def test_the_same_seed_gives_the_same_interval() -> None:
    right, groups = clustered(np.random.default_rng(2))
    answers = ["a" if each else "b" for each in right]
    gold = ["a", "b"] * (len(right) // 2)
    assert macro_f1(gold, answers, groups, 5) == macro_f1(gold, answers, groups, 5)
    assert macro_f1(gold, answers, groups, 5) != macro_f1(gold, answers, groups, 6)


def test_a_resample_draws_whole_groups() -> None:
    (counts,) = Resamples(["a", "b", "a", "c", "b"], 5, 0).sums(np.eye(5))
    assert counts.shape == (RESAMPLES, 5)
    assert (counts[:, 0] == counts[:, 2]).all()
    assert (counts[:, 1] == counts[:, 4]).all()
    assert (counts[:, 0] + counts[:, 1] + counts[:, 3] == 3).all()


def test_many_examples_are_drawn_bit_by_bit_to_the_same_end(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random((90, 2))
    whole = Resamples(None, 90, 1).sums(values, values[:, 0])
    monkeypatch.setattr(statistics, "_KEPT", 20)
    parts = Resamples(None, 90, 1).sums(values, values[:, 0])
    for one, other in zip(whole, parts, strict=True):
        assert other == pytest.approx(one)


def random_answers(labels: int, count: int) -> tuple[list[str], list[str]]:
    rng = np.random.default_rng(3)
    gold = rng.integers(0, labels, count)
    answers = np.where(rng.random(count) < 0.7, gold, rng.integers(0, labels, count))
    return [f"L{g}" for g in gold], [f"L{a}" for a in answers]


@pytest.mark.parametrize(("labels", "count"), [(2, 30), (5, 200), (12, 60)])
def test_macro_f1_is_scikit_learns(labels: int, count: int) -> None:
    gold, answers = random_answers(labels, count)
    expected = f1_score(gold, answers, labels=sorted(set(gold)), average="macro", zero_division=0)
    assert macro_f1(gold, answers, None, 0).value == pytest.approx(expected, abs=1e-12)


def test_an_answer_that_is_no_right_label_of_any_example_counts_as_wrong() -> None:
    # a: TP 1, FN 1 -> 2/3; b: TP 1 -> 1
    assert macro_f1(["a", "a", "b"], ["a", "other", "b"], None, 0).value == pytest.approx(5 / 6)


@pytest.mark.slow
def test_the_interval_of_macro_f1_is_that_of_a_bootstrap_done_with_scikit_learn() -> None:
    gold, answers = map(np.array, random_answers(3, 150))
    rng = np.random.default_rng(9)
    draws = []
    for _ in range(300):
        rows = rng.integers(0, 150, 150)
        draws.append(f1_score(gold[rows], answers[rows], average="macro"))
    interval = macro_f1(gold.tolist(), answers.tolist(), None, 0)
    assert (interval.low, interval.high) == pytest.approx(np.quantile(draws, [0.025, 0.975]), abs=0.02)


def test_a_label_that_a_resample_lacks_does_not_lower_macro_f1() -> None:
    gold = [f"L{n // 2}" for n in range(40)]
    result = macro_f1(gold, gold, None, 0)
    assert (result.low, result.high) == (wilson(40, 40).low, 1)


def test_macro_f1_of_few_examples_a_label_says_so() -> None:
    gold = ["a"] * 30 + ["b"] * 30 + ["c"] * 9
    assert macro_f1(gold, gold, None, 0).doubt == "1 of 3 labels have fewer than 10 examples"
    assert macro_f1(gold[:60], gold[:60], None, 0).doubt == ""


def judged(right: Sequence[bool]) -> list[Ratio]:
    return [Ratio(float(each), 1) for each in right]


def test_a_measure_of_right_and_wrong_answers_is_accuracy() -> None:
    right = [True] * 81 + [False] * 182
    assert ratio(judged(right), None) == accuracy(right, None)


def test_a_measure_is_the_ratio_of_sums_and_not_the_mean_of_ratios() -> None:
    assert ratio([Ratio(1, 1), Ratio(0, 9)], None).value == 0.1
    assert ratio([Ratio(0, 0), Ratio(3, 4)], None).value == 0.75
    assert ratio([Ratio(0, 0)], None).value == 0


@pytest.mark.slow
def test_the_interval_of_f1_covers_the_truth() -> None:
    """Fields of records, 1 to 6 each; those of a record fail together. 95 % of the intervals, within chance."""
    rng = np.random.default_rng(8)
    covered = 0
    for _ in range(200):
        sizes = rng.integers(1, 7, 150)
        shares = rng.beta(4, 1, 150)
        parts = rng.binomial(sizes, shares)
        interval = ratio([Ratio(float(p), float(s)) for p, s in zip(parts, sizes, strict=True)], None)
        covered += interval.low <= 0.8 <= interval.high
    assert 0.90 <= covered / 200 <= 0.99
