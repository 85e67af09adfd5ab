"""What shows that an own model may answer: its agreement with the API, its failures and its latency, and the tests that
take it back."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from tunewright.tasks.measures import wilson_limits

_STAKES = (0.05, 0.15, 0.4)
"""Shares of the largest bet that can't lose everything at once. Small ones find small changes, large ones large."""
_FALSE_ALARM = 10_000
"""Observations after which, on average, a false alarm comes at the earliest."""
_Z = 1.96


class ChangeDetector:
    """Finds out whether something bad has become more frequent than allowed, whenever that happens.

    Each stake bets against the claim that the mean is at most `allowed`: if the claim holds, its capital can't be
    expected to grow. Capital below 1 is filled up to 1, so that a long good time does not hide a change. The sum is an
    e-detector (Shin, Ramdas and Rinaldo 2023, "E-detectors: a nonparametric framework for sequential change
    detection"): while the claim holds, alarms are at least `_FALSE_ALARM` observations apart on average, however often
    one looks.

    Args:
        allowed: the mean of the observations that is still fine, between 0 and 1.
    """

    def __init__(self, allowed: float):
        self.allowed = allowed
        self._capital = [1.0] * len(_STAKES)

    def add(self, badness: float) -> bool:
        """Add an observation, 0 for good to 1 for bad. Returns whether the mean is proven to be above `allowed`."""
        gain = (badness - self.allowed) / max(self.allowed, 1e-3)
        self._capital = [
            max(1.0, capital) * (1 + stake * gain) for capital, stake in zip(self._capital, _STAKES, strict=True)
        ]
        return sum(self._capital) / len(_STAKES) >= _FALSE_ALARM


def interval(total: float, count: float) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson's), from the sum of `count` observations between 0 and 1."""
    if not count:
        return 0.0, 1.0
    low, high = wilson_limits(total / count, count, _Z)
    return float(low), float(high)


def quantile_interval(counts: Sequence[int], bounds: Sequence[float], share: float) -> tuple[float, float, float]:
    """(a quantile, the ends of its 95 % interval) of a histogram, by the binomial distribution of its rank.

    Args:
        counts: observations up to each bound.
        bounds: rising.
    """
    total = sum(counts)
    half = _Z * sqrt(share * (1 - share) * total)
    ranks = share * total, share * total - half, share * total + half
    estimate, low, high = (_at(counts, bounds, min(max(rank, 0.0), float(total))) for rank in ranks)
    return estimate, low, high


def _at(counts: Sequence[int], bounds: Sequence[float], rank: float) -> float:
    seen, last = 0, 0.0
    for count, bound in zip(counts, bounds, strict=True):
        if count and seen + count >= rank:
            return last + (bound - last) * (rank - seen) / count
        seen += count
        last = bound
    return last
