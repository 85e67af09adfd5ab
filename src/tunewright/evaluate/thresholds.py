"""Several labels a text: which of them to give, from the probability of each, and what the answer is then worth.

Thresholds are chosen for the largest micro-F1. It is a ratio of sums, so for the value F that it reaches the best
threshold of each label is that which makes 2 TP - F (TP + FP) largest, whatever the others are (Dinkelbach 1967); with
exact probabilities that is F/2 for all of them (Lipton et al. 2014, "Optimal Thresholding of Classifiers to Maximize F1
Measure").
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

Floats = npt.NDArray[np.float64]
LEAST_POSITIVE = 20
"""Examples that have a label, below which its threshold is the one of all labels together: a threshold of its own that
rests on fewer is worse than none as often as not (`bench/thresholds.py`)."""
_ROUNDS = 50
_EVEN = 0.5
_UNLIKELY = 1e-6
"""Probability of a label below which it does not count as one that was missed."""


class Decisions(BaseModel):
    """From the logits of labels to which are given; all arrays are in the order of the labels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    temperature: float = Field(1.0, gt=0)
    """Logits are divided by it."""
    bias: float = 0.0
    """Added to them then."""
    thresholds: tuple[float, ...]
    """Probability from which each label is given."""
    pooled: tuple[bool, ...]
    """Which of them are the threshold of all labels together."""

    def probabilities(self, logits: Floats) -> Floats:
        """That each label holds, of its logits [..., labels]."""
        return sigmoid(np.asarray(logits, np.float64) / self.temperature + self.bias)

    def given(self, probabilities: Floats) -> npt.NDArray[np.bool_]:
        """Whether each label is given [..., labels]."""
        return np.asarray(probabilities >= np.array(self.thresholds))


def even(labels: int) -> Decisions:
    """Labels are given from even odds on: what is done where nothing was chosen."""
    return Decisions(thresholds=(_EVEN,) * labels, pooled=(True,) * labels)


def choose_thresholds(probabilities: Floats, gold: npt.NDArray[np.bool_], weights: Floats) -> tuple[Floats, list[bool]]:
    """(a threshold for each label, which of them are the threshold of all labels together).

    Args:
        probabilities: that a label holds, [examples, labels].
        gold: whether it does, [examples, labels].
        weights: what each example counts, [examples]; of copies or rows of one group, all count as one.
    """
    everything = probabilities.ravel()[None, :]
    counts = np.repeat(weights, probabilities.shape[1])
    rows = [(everything[0], gold.ravel(), counts)]
    common = _best(rows)[0]
    own = [number for number in range(gold.shape[1]) if weights @ gold[:, number] >= LEAST_POSITIVE]
    left = [number for number in range(gold.shape[1]) if number not in own]
    alone = [(probabilities[:, number], gold[:, number], weights) for number in own]
    thresholds = np.full(gold.shape[1], common)
    if alone:
        fixed = [_counts(probabilities[:, number], gold[:, number], weights, common) for number in left]
        thresholds[own] = _best(alone, fixed, near=common)
    return thresholds, [number in left for number in range(gold.shape[1])]


_Column = tuple[Floats, npt.NDArray[np.bool_], Floats]


def _best(columns: Sequence[_Column], fixed: Sequence[tuple[float, float, float]] = (), near: float = _EVEN) -> Floats:
    """The thresholds of some columns that make F1 = 2 TP / (TP + FP + P) over all of them largest.

    Args:
        columns: probabilities, truth and weights of each.
        fixed: (TP, FP, P) of what is decided otherwise.
        near: of thresholds that are equally good, the nearest is taken.
    """
    sorted_columns = [_Sorted(*column) for column in columns]
    value, found = 0.0, [near] * len(columns)
    for _ in range(_ROUNDS):
        found = [column.best(value, near) for column in sorted_columns]
        sums = np.array([*fixed, *(column.counts(at) for column, at in zip(sorted_columns, found, strict=True))]).sum(0)
        reached = 2 * sums[0] / max(sums.sum(), 1e-12)
        if reached <= value + 1e-12:
            break
        value = reached
    return np.array(found)


def _counts(
    probabilities: Floats, gold: npt.NDArray[np.bool_], weights: Floats, at: float
) -> tuple[float, float, float]:
    given = probabilities >= at
    return float(weights @ (given & gold)), float(weights @ (given & ~gold)), float(weights @ gold)


class _Sorted:
    """One column, by falling probability, with the sums of what is given down to each place."""

    def __init__(self, probabilities: Floats, gold: npt.NDArray[np.bool_], weights: Floats):
        order = np.argsort(-probabilities, kind="stable")
        self._of, right = probabilities[order], np.where(gold[order], weights[order], 0.0)
        self._true = np.concatenate([[0.0], np.cumsum(right)])
        self._given = np.concatenate([[0.0], np.cumsum(weights[order])])
        self._positive = float(self._true[-1])
        # A threshold lies between two different probabilities, or beyond the ends.
        self._ends = np.concatenate([[0], np.flatnonzero(np.diff(self._of)) + 1, [len(order)]])
        above = np.concatenate([[1.0], self._of])[self._ends]
        below = np.concatenate([self._of, [0.0]])[self._ends]
        self._at = (above + below) / 2

    def best(self, value: float, near: float) -> float:
        """The threshold at which 2 TP - value (TP + FP) is largest."""
        gain = 2 * self._true[self._ends] - value * self._given[self._ends]
        good = self._at[gain >= gain.max() - 1e-9]
        return float(good[np.argmin(np.abs(good - near))])

    def counts(self, at: float) -> tuple[float, float, float]:
        """(TP, FP, P) at a threshold."""
        number = int(np.searchsorted(-self._of, -at, side="right"))
        return self._true[number], self._given[number] - self._true[number], self._positive


def expected_f1(probabilities: Floats, given: npt.NDArray[np.bool_]) -> float:
    """The F1 of an answer that is to be expected if labels hold independently with these probabilities; 1 where none is
    given and none holds.

    Args:
        probabilities: that each label holds, [labels].
        given: whether each is in the answer, [labels].

    Source: the exact sum over how many of the given and of the other labels hold (Ye et al. 2012, "Optimizing
    F-measure: A Tale of Two Approaches").
    """
    count = int(given.sum())
    true = _how_many(probabilities[given])
    missed = _how_many(probabilities[~given & (probabilities >= _UNLIKELY)])
    hits, misses = np.arange(len(true))[:, None], np.arange(len(missed))[None, :]
    total = hits + misses + count
    worth = np.where(total > 0, 2 * hits / np.maximum(total, 1), 1.0)
    return float(true @ worth @ missed)


def _how_many(probabilities: Floats) -> Floats:
    """The distribution of how many of independent events happen, [events + 1]."""
    found = np.ones(1)
    for each in probabilities:
        found = np.convolve(found, [1 - each, each])
    return found


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))
