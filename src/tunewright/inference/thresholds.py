"""Several labels a text: which labels to give, from the probability of each, and the expected F1 of the answer.

Thresholds maximise micro-F1. It is a ratio of sums, so at the best value F, the best threshold of each label maximises
2 TP - F (TP + FP), independent of the other labels (Dinkelbach 1967). With exact probabilities that threshold is F/2
for every label (Lipton et al. 2014, "Optimal Thresholding of Classifiers to Maximize F1 Measure").

A label's own threshold corrects a probability that is wrong for that label alone, but it follows chance if there are
few examples. So we blend the label's examples with the probabilities themselves, in a proportion that is
cross-validated. `bench/thresholds.py` tests this on synthetic models, both miscalibrated and well calibrated.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
LEAST_POSITIVE = 10
"""A label with fewer positive examples gets the common threshold of all labels."""
BELIEFS = (inf, 50.0, 10.0, 0.0)
"""Candidates for the weight of a label's probabilities, in positive examples. Infinity: the common threshold."""
_ROUNDS = 50
_EVEN = 0.5
_UNLIKELY = 1e-6
"""A label with a lower probability does not count as missed."""


class Decisions(BaseModel):
    """Turns logits into given labels. All arrays are in the order of the labels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(1.0, gt=0)
    """Divisor of the logits."""
    bias: float = 0.0
    """Added to the divided logits."""
    thresholds: tuple[float, ...]
    """Probability from which each label is given."""
    pooled: tuple[bool, ...]
    """Which thresholds are the common one."""

    def probabilities(self, logits: Floats) -> Floats:
        """The probability of each label, from logits [..., labels]."""
        return sigmoid(np.asarray(logits, np.float64) / self.temperature + self.bias)

    def given(self, probabilities: Floats) -> Bools:
        """Whether each label is given [..., labels]."""
        return np.asarray(probabilities >= np.array(self.thresholds))


def even(labels: int) -> Decisions:
    """The default: give every label with a probability of at least one half."""
    return Decisions(thresholds=(_EVEN,) * labels, pooled=(True,) * labels)


def choose_belief(probabilities: Floats, gold: Bools, weights: Floats, folds: npt.NDArray[np.int64]) -> float:
    """The belief whose thresholds have the largest micro-F1 in cross-validation.

    Args:
        probabilities, gold, weights: see `choose_thresholds`.
        folds: the fold of each example, [examples].
    """

    def micro_f1(belief: float) -> float:
        given = cross_validated(probabilities, gold, weights, folds, belief)
        both, either = weights @ (given & gold), weights @ (given.astype(float) + gold)
        return float(2 * both.sum() / max(either.sum(), 1e-12))

    return max(BELIEFS, key=lambda belief: round(micro_f1(belief), 6))  # the first of equal ones


def cross_validated(
    probabilities: Floats, gold: Bools, weights: Floats, folds: npt.NDArray[np.int64], belief: float
) -> Bools:
    """Whether each label is given, with thresholds from the other folds, [examples, labels]."""
    given = np.zeros(gold.shape, bool)
    for fold in np.unique(folds):
        inside, others = folds == fold, folds != fold
        if others.any():
            thresholds, _ = choose_thresholds(probabilities[others], gold[others], weights[others], belief)
            given[inside] = probabilities[inside] >= thresholds
    return given


def choose_thresholds(probabilities: Floats, gold: Bools, weights: Floats, belief: float) -> tuple[Floats, list[bool]]:
    """(a threshold for each label, which of them are the common threshold).

    Args:
        probabilities: the probability of each label, [examples, labels].
        gold: whether the label is right, [examples, labels].
        weights: the weight of each example, [examples]. Copies, or rows of one group, together count as one.
        belief: the weight of a label's probabilities, in positive examples.
    """
    counts = np.repeat(weights, probabilities.shape[1])
    common = float(_best([(probabilities.ravel(), gold.ravel().astype(float), counts)])[0])
    positive = weights @ gold
    own = [number for number, count in enumerate(positive) if count >= LEAST_POSITIVE and belief < inf]
    pooled = [number for number in range(gold.shape[1]) if number not in own]
    columns = []
    for number in own:
        share = belief / (belief + positive[number])
        blend = share * probabilities[:, number] + (1 - share) * gold[:, number]
        columns.append((probabilities[:, number], blend, weights))
    thresholds = np.full(gold.shape[1], common)
    if columns:
        fixed = [_counts(probabilities[:, number], gold[:, number], weights, common) for number in pooled]
        thresholds[own] = _best(columns, fixed, near=common)
    return thresholds, [number in pooled for number in range(gold.shape[1])]


_Column = tuple[Floats, Floats, Floats]


def _best(columns: Sequence[_Column], fixed: Sequence[tuple[float, float, float]] = (), near: float = _EVEN) -> Floats:
    """The thresholds of some columns that maximise F1 = 2 TP / (TP + FP + P) over all of them.

    Args:
        columns: (probabilities, truth from 0 to 1, weights) of each.
        fixed: (TP, FP, P) of columns whose thresholds are fixed.
        near: of equally good thresholds, the one nearest to this wins.
    """
    sorted_columns = [_Sorted(*column) for column in columns]
    best, thresholds = 0.0, [near] * len(columns)
    for _ in range(_ROUNDS):
        thresholds = [column.best(best, near) for column in sorted_columns]
        counts = [column.counts(at) for column, at in zip(sorted_columns, thresholds, strict=True)]
        sums = np.array([*fixed, *counts]).sum(0)
        f1 = 2 * sums[0] / max(sums.sum(), 1e-12)
        if f1 <= best + 1e-12:
            break
        best = f1
    return np.array(thresholds)


def _counts(probabilities: Floats, gold: Bools, weights: Floats, at: float) -> tuple[float, float, float]:
    given = probabilities >= at
    return float(weights @ (given & gold)), float(weights @ (given & ~gold)), float(weights @ gold)


class _Sorted:
    """One column, sorted by falling probability, with cumulative sums of what each threshold gives."""

    def __init__(self, probabilities: Floats, truth: Floats, weights: Floats):
        order = np.argsort(-probabilities, kind="stable")
        self._of, right = probabilities[order], truth[order] * weights[order]
        self._true = np.concatenate([[0.0], np.cumsum(right)])
        self._given = np.concatenate([[0.0], np.cumsum(weights[order])])
        self._positive = float(self._true[-1])
        # A threshold lies between two different probabilities, or outside all of them.
        self._ends = np.concatenate([[0], np.flatnonzero(np.diff(self._of)) + 1, [len(order)]])
        above = np.concatenate([[1.0], self._of])[self._ends]
        below = np.concatenate([self._of, [0.0]])[self._ends]
        self._at = (above + below) / 2

    def best(self, value: float, near: float) -> float:
        """The threshold that maximises 2 TP - value (TP + FP)."""
        gain = 2 * self._true[self._ends] - value * self._given[self._ends]
        good = self._at[gain >= gain.max() - 1e-9]
        return float(good[np.argmin(np.abs(good - near))])

    def counts(self, at: float) -> tuple[float, float, float]:
        """(TP, FP, P) at a threshold."""
        number = int(np.searchsorted(-self._of, -at, side="right"))
        return self._true[number], self._given[number] - self._true[number], self._positive


def expected_f1(probabilities: Floats, given: Bools) -> float:
    """The expected F1 of an answer if the labels are independent with these probabilities. F1 is 1 if no label is given
    and none is right.

    Args:
        probabilities: the probability of each label, [labels].
        given: whether each label is in the answer, [labels].

    Source: the exact sum over the numbers of given and of other labels that are right (Ye et al. 2012, "Optimizing
    F-measure: A Tale of Two Approaches").
    """
    count = int(given.sum())
    true = _count_distribution(probabilities[given])
    missed = _count_distribution(probabilities[~given & (probabilities >= _UNLIKELY)])
    hits, misses = np.arange(len(true))[:, None], np.arange(len(missed))[None, :]
    total = hits + misses + count
    score = np.where(total > 0, 2 * hits / np.maximum(total, 1), 1.0)
    return float(true @ score @ missed)


def _count_distribution(probabilities: Floats) -> Floats:
    """The distribution of the number of independent events that happen, [events + 1]."""
    distribution = np.ones(1)
    for each in probabilities:
        distribution = np.convolve(distribution, [1 - each, each])
    return distribution


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))
