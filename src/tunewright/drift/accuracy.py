"""Accuracy from reviews: how often the model is right now, and whether that has fallen.

Reviews are no random sample: a queue shows uncertain, novel and disputed requests first, so the share of right answers
among them says little. Therefore a few answers of each day are drawn at random and reviewed too
(`tunewright.monitoring.queue`). Once there are enough of these, the estimate uses them alone and weights each day by
its number of answers (stratified sampling, Cochran 1977, chapter 5).

Until then all reviews are weighted to represent all answers: answers are cut into strata of confidence, and each
stratum counts by its share of all answers, not of the reviewed ones (post-stratification, Holt & Smith 1979). This is
right if, among answers of similar confidence, the choice of reviews does not depend on whether an answer is right.
Novelty and disagreement violate this a little, and make the estimate too low.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.evaluation.statistics.intervals import Interval

FEWEST_REVIEWS = 100
"""With fewer reviews chosen by the queue there is no estimate."""
FEWEST_DRAWN = 30
"""With this many reviews of answers drawn at random, these alone count."""
_STRATA = 5
_IN_A_STRATUM = 10
"""A stratum with fewer reviews is joined to the one below it."""
_ON_A_SIDE = 30
"""Least number of reviews before and after a change."""
_SMALLEST = 0.03
"""The smallest loss that matters."""
_PERMUTATIONS = 9999
_MOST = 3000
"""The newest reviews, in which a change is sought."""

Columns = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Reviewed:
    """The last review of each reviewed answer.

    Args:
        right: 1 or 0.
        confidence: NaN where there is none.
        day: ordinal of the day.
        drawn: whether the answer was drawn at random.
    """

    right: Columns
    confidence: Columns
    day: npt.NDArray[np.int64]
    drawn: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Accuracy:
    """How often answers are right.

    Args:
        share: share of right answers with its 95 % interval.
        reviews: number of reviews behind it.
        drawn: whether these are of answers drawn at random; else they are weighted by confidence.
    """

    share: Interval
    reviews: int
    drawn: bool

    @property
    def summary(self) -> str:
        share = self.share
        how = "answers drawn at random" if self.drawn else "weighted reviews"
        return f"{share.value:.1%} ({share.low:.1%} to {share.high:.1%}), by {self.reviews:,} {how}"


@dataclass(frozen=True)
class Change:
    """When accuracy fell.

    Args:
        day: the first day after it.
        loss: loss of accuracy among answers of similar confidence.
        p: the probability of an equally clear fall on any day by chance.
    """

    day: int
    loss: float
    p: float

    def counts(self, alpha: float) -> bool:
        return self.p <= alpha and self.loss >= _SMALLEST


def accuracy_now(reviewed: Reviewed, all_confidences: Columns, answered: Mapping[int, float]) -> Accuracy | None:
    """The accuracy of all answers; None where there are too few reviews.

    Args:
        all_confidences: confidences of all answers, or of a random sample of them.
        answered: number of answers by day. A missing day counts by its reviews.
    """
    drawn = int(reviewed.drawn.sum())
    if drawn >= FEWEST_DRAWN:
        return Accuracy(_of_drawn(reviewed.right[reviewed.drawn], reviewed.day[reviewed.drawn], answered), drawn, True)
    if len(reviewed.right) < FEWEST_REVIEWS or not len(all_confidences):
        return None
    return Accuracy(_weighted(reviewed.right, reviewed.confidence, all_confidences), len(reviewed.right), False)


def _of_drawn(right: Columns, day: npt.NDArray[np.int64], answered: Mapping[int, float]) -> Interval:
    days, indices = np.unique(day, return_inverse=True)
    counts, hits = np.bincount(indices), np.bincount(indices, weights=right)
    shares = np.array([answered.get(int(each), 0) or count for each, count in zip(days, counts, strict=True)], float)
    shares /= shares.sum()
    value = float((shares * hits / counts).sum())
    # A day's few reviews say nothing about their spread, so use that of all, at their effective number (Kish 1965).
    trials = 1 / float((shares**2 / counts).sum())
    return _interval(value, _spread(1.0, value * trials, trials))


def _weighted(right: Columns, confidence: Columns, all_confidences: Columns) -> Interval:
    strata, shares = _strata(confidence, all_confidences)
    counts = np.bincount(strata, minlength=len(shares))
    hits = np.bincount(strata, weights=right, minlength=len(shares))
    return _interval(float((shares * hits / counts).sum()), _spread(shares, hits, counts))


def _spread(shares: Columns | float, hits: npt.NDArray[Any] | float, counts: npt.NDArray[Any] | float) -> float:
    """Half the interval of a weighted sum of shares, with two more right and two more wrong answers (Agresti & Coull
    1998), because ten of ten prove nothing."""
    share = (hits + 2) / (counts + 4)
    return 1.96 * float(np.sqrt(np.sum(shares**2 * share * (1 - share) / (counts + 4))))


def _interval(value: float, spread: float) -> Interval:
    return Interval(value, max(0.0, value - spread), min(1.0, value + spread))


def fall_of_accuracy(reviewed: Reviewed, seed: int = 0) -> Change | None:
    """The likeliest day on which accuracy fell; None where there are too few reviews.

    The test compares how much better answers are than the average of their stratum of confidence, so that the order of
    the queue does not look like a change. The clearest step of all days counts, with its p-value among permutations
    within strata (CUSUM test for a change at an unknown time, Page 1955; permutations as in Antoch & Hušková 2001).
    """
    order = np.argsort(reviewed.day, kind="stable")[-_MOST:]
    right, confidence, day = reviewed.right[order], reviewed.confidence[order], reviewed.day[order]
    starts = np.flatnonzero(np.diff(day)) + 1
    starts = starts[(starts >= _ON_A_SIDE) & (starts <= len(day) - _ON_A_SIDE)]
    if len(right) < FEWEST_REVIEWS or not len(starts):
        return None
    strata, _ = _strata(confidence, confidence)
    means = np.bincount(strata, weights=right) / np.bincount(strata)
    better = right - means[strata]

    def steps(values: Columns) -> Columns:
        """The standard errors, up to a factor, by which each start separates higher values from lower ones."""
        before = np.cumsum(values)[starts - 1]
        return np.asarray(before / np.sqrt(starts * (1 - starts / len(values))))

    observed = steps(better)
    best = int(observed.argmax())
    random = np.random.default_rng(seed)
    rows = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    larger = 0
    for _ in range(_PERMUTATIONS):
        permuted = better.copy()
        for of_stratum in rows:
            permuted[of_stratum] = better[random.permutation(of_stratum)]
        larger += bool(steps(permuted).max() >= observed[best] - 1e-12)
        if larger > 100:  # clearly no change: the exact p-value is not needed
            break
    start = starts[best]
    loss = float(better[:start].mean() - better[start:].mean())
    return Change(int(day[start]), loss, (larger + 1) / (_PERMUTATIONS + 1) if larger <= 100 else 1.0)


def _strata(confidence: Columns, everything: Columns) -> tuple[npt.NDArray[np.int64], Columns]:
    """(the stratum of each reviewed answer, the share of all answers in each stratum)."""
    if np.isnan(everything).any() or np.isnan(confidence).any():
        return np.zeros(len(confidence), np.int64), np.ones(1)
    edges = list(np.unique(np.quantile(everything, np.arange(1, _STRATA) / _STRATA)))
    while edges:
        counts = np.bincount(np.searchsorted(edges, confidence, "right"), minlength=len(edges) + 1)
        if counts.min() >= _IN_A_STRATUM:
            break
        edges.pop(max(0, int(counts.argmin()) - 1))
    shares = np.bincount(np.searchsorted(edges, everything, "right"), minlength=len(edges) + 1) / len(everything)
    return np.searchsorted(edges, confidence, "right").astype(np.int64), shares
