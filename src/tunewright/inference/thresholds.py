"""Several labels a text: which of them to give, from the probability of each, and what the answer is then worth.

Thresholds are chosen for the largest micro-F1. It is a ratio of sums, so for the value F that it reaches the best
threshold of each label is that which makes 2 TP - F (TP + FP) largest, whatever the others are (Dinkelbach 1967); with
exact probabilities that is F/2 for all of them (Lipton et al. 2014, "Optimal Thresholding of Classifiers to Maximize F1
Measure").

A label's own threshold mends a probability that is wrong for that label alone, and follows chance where there are few
examples. So what its examples say is blended with what the probabilities themselves say, in a proportion that is
cross-validated; on made-up models that are wrong about labels, and such that are not: `bench/thresholds.py`.
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
"""Examples that have a label, below which its threshold is the one of all labels together."""
BELIEFS = (inf, 50.0, 10.0, 0.0)
"""How many examples that have a label its probabilities are worth, the candidates; without end: as all together."""
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

    def given(self, probabilities: Floats) -> Bools:
        """Whether each label is given [..., labels]."""
        return np.asarray(probabilities >= np.array(self.thresholds))


def even(labels: int) -> Decisions:
    """Labels are given from even odds on: what is done where nothing was chosen."""
    return Decisions(thresholds=(_EVEN,) * labels, pooled=(True,) * labels)


def choose_belief(probabilities: Floats, gold: Bools, weights: Floats, folds: npt.NDArray[np.int64]) -> float:
    """The belief whose thresholds have the largest micro-F1 on examples that did not choose them.

    Args:
        probabilities, gold, weights: as of `choose_thresholds`.
        folds: which fold each example is in, [examples].
    """

    def reached(belief: float) -> float:
        given = unseen(probabilities, gold, weights, folds, belief)
        both, either = weights @ (given & gold), weights @ (given.astype(float) + gold)
        return float(2 * both.sum() / max(either.sum(), 1e-12))

    return max(BELIEFS, key=lambda belief: round(reached(belief), 6))  # of equal ones the first


def unseen(probabilities: Floats, gold: Bools, weights: Floats, folds: npt.NDArray[np.int64], belief: float) -> Bools:
    """Whether each label is given, by thresholds that other folds chose, [examples, labels]."""
    given = np.zeros(gold.shape, bool)
    for fold in np.unique(folds):
        held, others = folds == fold, folds != fold
        if others.any():
            thresholds, _ = choose_thresholds(probabilities[others], gold[others], weights[others], belief)
            given[held] = probabilities[held] >= thresholds
    return given


def choose_thresholds(probabilities: Floats, gold: Bools, weights: Floats, belief: float) -> tuple[Floats, list[bool]]:
    """(a threshold for each label, which of them are the threshold of all labels together).

    Args:
        probabilities: that a label holds, [examples, labels].
        gold: whether it does, [examples, labels].
        weights: what each example counts, [examples]; of copies or rows of one group, all count as one.
        belief: how many examples that have a label its probabilities are worth.
    """
    everything = probabilities.ravel()[None, :]
    counts = np.repeat(weights, probabilities.shape[1])
    common = float(_best([(everything[0], gold.ravel().astype(float), counts)])[0])
    positive = weights @ gold
    own = [number for number, count in enumerate(positive) if count >= LEAST_POSITIVE and belief < inf]
    left = [number for number in range(gold.shape[1]) if number not in own]
    alone = []
    for number in own:
        share = belief / (belief + positive[number])
        said = share * probabilities[:, number] + (1 - share) * gold[:, number]
        alone.append((probabilities[:, number], said, weights))
    thresholds = np.full(gold.shape[1], common)
    if alone:
        fixed = [_counts(probabilities[:, number], gold[:, number], weights, common) for number in left]
        thresholds[own] = _best(alone, fixed, near=common)
    return thresholds, [number in left for number in range(gold.shape[1])]


_Column = tuple[Floats, Floats, Floats]


def _best(columns: Sequence[_Column], fixed: Sequence[tuple[float, float, float]] = (), near: float = _EVEN) -> Floats:
    """The thresholds of some columns that make F1 = 2 TP / (TP + FP + P) over all of them largest.

    Args:
        columns: probabilities of each, what is taken for the truth, 0 to 1, and weights.
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


def _counts(probabilities: Floats, gold: Bools, weights: Floats, at: float) -> tuple[float, float, float]:
    given = probabilities >= at
    return float(weights @ (given & gold)), float(weights @ (given & ~gold)), float(weights @ gold)


class _Sorted:
    """One column, by falling probability, with the sums of what is given down to each place."""

    def __init__(self, probabilities: Floats, said: Floats, weights: Floats):
        order = np.argsort(-probabilities, kind="stable")
        self._of, right = probabilities[order], said[order] * weights[order]
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


def expected_f1(probabilities: Floats, given: Bools) -> float:
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
    score = np.where(total > 0, 2 * hits / np.maximum(total, 1), 1.0)
    return float(true @ score @ missed)


def _how_many(probabilities: Floats) -> Floats:
    """The distribution of how many of independent events happen, [events + 1]."""
    found = np.ones(1)
    for each in probabilities:
        found = np.convolve(found, [1 - each, each])
    return found


def sigmoid(logits: Floats) -> Floats:
    return np.asarray(np.exp(-np.logaddexp(0, -logits)))
