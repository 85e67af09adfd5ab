"""Measures over many examples, with their intervals. For two predictors on the same examples see `pairs`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist
from typing import Any

import numpy as np

from tunewright.evaluation.statistics.grouped import (
    Numbers,
    effective_rows,
    numbered,
    quantile,
    rests_on,
    sums_of,
    too_few_groups,
)
from tunewright.tasks.measures import Ratio, wilson_limits

Z = NormalDist().inv_cdf(0.975)
RESAMPLES = 2000
FEW_ROWS = 10
"""With fewer examples a label's F1 says little: one answer moves it by five points or more."""
_KEPT = 4000
"""Up to this many examples or groups, the draws are kept for the next measure; 64 MB."""


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float
    doubt: str = ""
    """Why the interval proves nothing, whatever its ends; empty where it does."""


def wilson(successes: int, trials: int) -> Interval:
    """Share of successes with Wilson's score interval. Source: Wilson 1927; independent trials are assumed."""
    share = successes / trials
    low, high = wilson_limits(share, trials, Z)
    return Interval(share, float(low), float(high))


def accuracy(right: Sequence[bool], groups: Sequence[str] | None) -> Interval:
    """Accuracy with Wilson's interval; where examples are grouped, at the effective sample size.

    Examples that share a phrasing or a customer fail together, and counting them as independent makes the interval too
    narrow. tests/evaluation/test_coverage.py measures how often these intervals hold the truth.

    Args:
        right: whether each answer is right.
        groups: the group of each example; None where the examples are independent.

    Source: Wilson 1927; Korn & Graubard 1998; see `grouped.effective_rows`.
    """
    values = np.asarray(right, float)
    if groups is None:
        return wilson(int(values.sum()), len(values))
    member_of, units = numbered(groups, len(values))
    hits, sizes = sums_of(member_of, values, units), sums_of(member_of, np.ones(len(values)), units)
    low, high = wilson_limits(values.mean(), effective_rows(hits, sizes), Z) if units > 1 else (0.0, 1.0)
    return Interval(float(values.mean()), float(low), float(high), too_few_groups(groups))


def ratio(measured: Sequence[Ratio], groups: Sequence[str] | None) -> Interval:
    """A measure over many examples with its 95 % interval.

    For right and wrong answers it is that of `accuracy`. For other measures it is Wilson's too, at the number of
    all-or-nothing units that would vary as much. This comes from the linearised variance of the ratio of sums, between
    groups where there are groups, else between examples. As far as that variance rests on few of them, each counts as
    all or nothing. So five records without an error do not prove 100 %.

    Args:
        measured: part and whole of each example; an example that has neither does not count.
        groups: as in `accuracy`.

    Source: Cochran 1977, section 6.3; Korn & Graubard 1998; see `grouped.rests_on`.
    """
    parts, wholes = np.array(measured, float).T
    if (wholes == 1).all() and np.isin(parts, (0, 1)).all():
        return accuracy(parts.astype(bool).tolist(), groups)
    member_of, count = numbered(groups, len(parts))
    of_units, sizes = sums_of(member_of, parts, count), sums_of(member_of, wholes, count)
    of_units, sizes = of_units[sizes > 0], sizes[sizes > 0]
    units, total = len(sizes), float(sizes.sum())
    if not units:
        return Interval(0.0, 0.0, 1.0)
    share = float(of_units.sum()) / total
    residuals = of_units - share * sizes
    doubted = 1 / (1 + rests_on(residuals))
    of_one = float((sizes**2).sum()) / total**2
    spread = doubted * of_one
    if units > 1 and 0 < share < 1:
        variance = units / (units - 1) * float((residuals**2).sum()) / total**2
        spread += (1 - doubted) * variance / (share * (1 - share))
    low, high = wilson_limits(share, 1 / spread, quantile(units, 0.975))
    return Interval(share, float(low), float(high), too_few_groups(groups))


def shares(parts: Any, wholes: Any) -> Any:
    """Sums of parts divided by sums of wholes; 0 of 0 is 0."""
    return np.divide(parts, np.maximum(wholes, 1e-12))


def macro_f1(
    gold: Sequence[str],
    answers: Sequence[str],
    groups: Sequence[str] | None,
    seed: int,
    weights: Sequence[float] | None = None,
) -> Interval:
    """Mean over the labels of F1 = 2 TP / (2 TP + FP + FN), with a bootstrap percentile interval.

    The mean runs over the labels that occur in `gold`, and in a resample over those that occur there. Where all
    resamples agree, for example because every answer is right, the interval is as wide as that of accuracy. The F1 of a
    rare label moves the mean as much as that of a common one; the interval then carries a doubt.

    Args:
        weights: how many examples each counts as; None: one.
    """
    counts = Counter(gold)
    labels = sorted(counts)
    index = {label: i for i, label in enumerate(labels)}
    weight = np.ones(len(gold)) if weights is None else np.asarray(weights, float)
    gold_hot = np.eye(len(labels))[[index[g] for g in gold]]
    answer_hot = np.zeros_like(gold_hot)
    for row, answer in enumerate(answers):
        if answer in index:
            answer_hot[row, index[answer]] = 1
    sums = [weight[:, None] * each for each in (gold_hot * answer_hot, gold_hot + answer_hot, gold_hot)]

    def f1(true: Numbers, total: Numbers, present: Numbers) -> Numbers:
        scores = np.where(present > 0, 2 * true / np.maximum(total, 1e-12), 0)
        return np.asarray(scores.sum(-1) / (present > 0).sum(-1))

    value = float(f1(*(each.sum(0) for each in sums)))
    low, high = np.quantile(f1(*Resamples(groups, len(gold), seed).sums(*sums)), [0.025, 0.975])
    if low == high:
        right = [one == other for one, other in zip(gold, answers, strict=True)]
        spread = ratio([Ratio(each * one, each) for one, each in zip(right, weight, strict=True)], groups)
        low, high = min(value, spread.low), max(value, spread.high)
    few = sum(count < FEW_ROWS for count in counts.values())
    rare = f"{few} of {len(labels)} labels have fewer than {FEW_ROWS} examples" if few else ""
    return Interval(value, float(low), float(high), too_few_groups(groups) or rare)


def macro_of(measured: Sequence[Sequence[Ratio]], groups: Sequence[str] | None, seed: int) -> Interval:
    """Mean of several measures over the same examples, with a bootstrap percentile interval.

    The mean runs over the measures that some example has, and in a resample over those that occur there; see
    `macro_f1`.

    Args:
        measured: part and whole of each measure, [examples, measures, 2]; 0 of 0 where an example has none.
    """
    parts, wholes = np.moveaxis(np.array(measured, float), -1, 0)

    def mean(parts: Numbers, wholes: Numbers) -> Numbers:
        return np.asarray(shares(parts, wholes).sum(-1) / np.maximum((wholes > 0).sum(-1), 1))

    value = float(mean(parts.sum(0), wholes.sum(0)))
    low, high = np.quantile(mean(*Resamples(groups, len(parts), seed).sums(parts, wholes)), [0.025, 0.975])
    if low == high:
        spread = ratio([Ratio(*each) for each in zip(parts.sum(1), wholes.sum(1), strict=True)], groups)
        low, high = min(value, spread.low), max(value, spread.high)
    few = int(((wholes > 0).sum(0) < FEW_ROWS).sum())
    rare = f"{few} of {parts.shape[1]} labels have fewer than {FEW_ROWS} examples" if few else ""
    return Interval(value, float(low), float(high), too_few_groups(groups) or rare)


class Resamples:
    """Bootstrap resamples of examples: of whole groups, or of single examples where there are no groups.

    Source: the cluster bootstrap, Davison & Hinkley 1997, section 3.8.

    Args:
        groups: the group of each example.
        count: the number of examples.
    """

    def __init__(self, groups: Sequence[str] | None, count: int, seed: int):
        self._seed = seed
        self._member_of, self.units = numbered(groups, count)

    def sums(self, *values: Any) -> list[Numbers]:
        """The sums of values over each resample.

        Args:
            values: each of shape [examples] or [examples, columns].

        Returns: the sums of each, of shape [resamples] or [resamples, columns].
        """
        columns = [np.asarray(value, float).reshape(len(self._member_of), -1) for value in values]
        of_units = np.zeros((self.units, sum(part.shape[1] for part in columns)))
        np.add.at(of_units, self._member_of, np.concatenate(columns, 1))
        sums = np.concatenate([drawn @ of_units for drawn in self._drawn()])
        ends = np.cumsum([part.shape[1] for part in columns])[:-1]
        return [
            part if np.ndim(value) > 1 else part[:, 0]
            for value, part in zip(values, np.split(sums, ends, 1), strict=True)
        ]

    def _drawn(self) -> Iterable[Numbers]:
        """How often each unit is drawn in each resample, shape [some resamples, units]; in several parts where the
        whole would be large."""
        if self.units <= _KEPT:
            return [_all_drawn(self.units, self._seed)]
        draw, step = _drawer(self.units, self._seed), max(1, _KEPT * RESAMPLES // self.units)
        return (draw(min(step, RESAMPLES - start)) for start in range(0, RESAMPLES, step))


@lru_cache(maxsize=4)
def _all_drawn(units: int, seed: int) -> Numbers:
    return _drawer(units, seed)(RESAMPLES)


def _drawer(units: int, seed: int) -> Callable[[int], Numbers]:
    random, even = np.random.default_rng(seed), np.full(units, 1 / units)
    return lambda count: random.multinomial(units, even, count).astype(float)
