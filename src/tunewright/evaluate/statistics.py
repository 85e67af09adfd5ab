"""Measures over many examples, with their intervals; of two predictors on the same examples see `pairs`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.tasks.measures import Ratio

RESAMPLES = 2000


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
    counts = resample_counts(groups, seed)
    sizes = counts.sum(1)
    draws = counts @ values / sizes
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
    counts = resample_counts(units(groups, len(parts)), seed)
    low, high = np.quantile(shares(counts @ parts, counts @ wholes), [0.025, 0.975])
    return Interval(float(shares(parts.sum(), wholes.sum())), float(low), float(high))


def shares(parts: Any, wholes: Any) -> Any:
    """Sums of parts over those of wholes; nothing of nothing is 0."""
    return np.divide(parts, np.maximum(wholes, 1e-12))


def units(groups: Sequence[str] | None, count: int) -> Sequence[str]:
    """What is resampled: the groups, or single examples."""
    return groups if groups is not None else [str(number) for number in range(count)]


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
    counts = resample_counts(units(groups, len(gold)), seed)

    def f1(weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        true = weights @ (gold_hot * answer_hot)
        total = weights @ (gold_hot + answer_hot)
        present = weights @ gold_hot > 0
        scores = np.where(present, 2 * true / np.maximum(total, 1e-12), 0)
        return np.asarray(scores.sum(-1) / present.sum(-1))

    low, high = np.quantile(f1(counts), [0.025, 0.975])
    return Interval(float(f1(np.ones(len(gold)))), float(low), float(high))


def resample_counts(groups: Sequence[str], seed: int) -> npt.NDArray[np.float64]:
    """How often each example is drawn in each resample of whole groups, shape [resamples, examples].

    Source: the cluster bootstrap, Davison & Hinkley 1997, section 3.8.
    """
    names = {name: i for i, name in enumerate(dict.fromkeys(groups))}
    member_of = np.array([names[group] for group in groups])
    drawn = np.random.default_rng(seed).multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)
    return drawn[:, member_of].astype(float)
