"""Measures over many examples, with their intervals; of two predictors on the same examples see `pairs`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.tasks.measures import Ratio

RESAMPLES = 2000
_KEPT = 4000
"""Examples or groups up to which the draws are kept for the next measure; 64 MB."""

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its 95 % interval."""

    value: float
    low: float
    high: float


def wilson(successes: int, trials: int) -> Interval:
    """Share of successes with Wilson's score interval. Source: Wilson 1927; independent trials are assumed."""
    from scipy.stats import binomtest

    interval = binomtest(successes, trials).proportion_ci(method="wilson")
    return Interval(successes / trials, float(interval.low), float(interval.high))


def accuracy(right: Sequence[bool], groups: Sequence[str] | None, seed: int) -> Interval:
    """Accuracy with its interval: Wilson's for single examples, a bootstrap over whole groups where there are groups.

    Examples that share a phrasing or a customer fail together; counting them as independent makes the interval too
    narrow. Where every answer of a group-wise sample is the same, the bootstrap has no width, and Wilson's interval
    over the groups stands in.
    """
    values = np.asarray(right, float)
    if groups is None:
        return wilson(int(values.sum()), len(values))
    sums, sizes = Resamples(groups, len(values), seed).sums(values, np.ones(len(values)))
    draws = sums / sizes
    low, high = np.quantile(draws, [0.025, 0.975])
    if low == high:
        whole = len(set(groups))
        spread = wilson(round(values.mean() * whole), whole)
        return Interval(float(values.mean()), spread.low, spread.high)
    return Interval(float(values.mean()), float(low), float(high))


def ratio(measured: Sequence[Ratio], groups: Sequence[str] | None, seed: int) -> Interval:
    """A measure over many examples with its 95 % interval: a percentile bootstrap of the ratio of sums, over whole
    groups where there are groups; of right and wrong answers that of `accuracy`.

    Source: Davison & Hinkley 1997, section 2.4.
    """
    parts, wholes = np.array(measured, float).T
    if (wholes == 1).all() and np.isin(parts, (0, 1)).all():
        return accuracy(parts.astype(bool).tolist(), groups, seed)
    low, high = np.quantile(shares(*Resamples(groups, len(parts), seed).sums(parts, wholes)), [0.025, 0.975])
    return Interval(float(shares(parts.sum(), wholes.sum())), float(low), float(high))


def shares(parts: Any, wholes: Any) -> Any:
    """Sums of parts over those of wholes; nothing of nothing is 0."""
    return np.divide(parts, np.maximum(wholes, 1e-12))


def macro_f1(gold: Sequence[str], answers: Sequence[str], groups: Sequence[str] | None, seed: int) -> Interval:
    """Mean over the labels of F1 = 2 TP / (2 TP + FP + FN), with a bootstrap percentile interval.

    The mean runs over the labels that occur in `gold`, in a resample over those that occur there.
    """
    labels = sorted(set(gold))
    index = {label: i for i, label in enumerate(labels)}
    gold_hot = np.eye(len(labels))[[index[g] for g in gold]]
    answer_hot = np.zeros_like(gold_hot)
    for row, answer in enumerate(answers):
        if answer in index:
            answer_hot[row, index[answer]] = 1
    true, total = gold_hot * answer_hot, gold_hot + answer_hot

    def f1(true: Numbers, total: Numbers, present: Numbers) -> Numbers:
        scores = np.where(present > 0, 2 * true / np.maximum(total, 1e-12), 0)
        return np.asarray(scores.sum(-1) / (present > 0).sum(-1))

    low, high = np.quantile(f1(*Resamples(groups, len(gold), seed).sums(true, total, gold_hot)), [0.025, 0.975])
    return Interval(float(f1(true.sum(0), total.sum(0), gold_hot.sum(0))), float(low), float(high))


class Resamples:
    """Bootstrap resamples of examples: of whole groups, or of single examples where there are no groups.

    Source: the cluster bootstrap, Davison & Hinkley 1997, section 3.8.

    Args:
        groups: of each example.
        count: the number of examples.
    """

    def __init__(self, groups: Sequence[str] | None, count: int, seed: int):
        self._seed = seed
        if groups is None:
            self._member_of, self.units = np.arange(count), count
        else:
            names = {name: number for number, name in enumerate(dict.fromkeys(groups))}
            self._member_of, self.units = np.array([names[group] for group in groups]), len(names)

    def sums(self, *values: Any) -> list[Numbers]:
        """The sums of some values over each resample.

        Args:
            values: each of shape [examples] or [examples, columns].

        Returns: for each of shape [resamples] or [resamples, columns].
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
        """How often each unit is drawn in each resample, shape [some resamples, units]; all of them, bit by bit where
        they would be large."""
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
