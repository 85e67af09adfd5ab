"""Whether two samples come from the same population: of kinds, and of numbers.

Each test has a p-value that holds far out in its tail, where one of many daily tests must stand, and an effect that
does not grow with the number of rows, so that a difference too small to matter can be told from one that is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tunewright.drift.known import Numbers

EXPECTED = 5
"""Of a kind in the smaller sample below which it is pooled with the other rare ones (Cochran 1954)."""
TAIL = 0.95
"""Of all values: what lies beyond it is the tail."""
SMALLEST_MIX = 0.1
"""The smallest effect on kinds that matters: Cohen's w, of which 0.1 is small (Cohen 1988)."""
SMALLEST_SHIFT = 0.05
"""The same on numbers: by how much more than half the time one of them is larger, doubled (Cliff's delta)."""
SMALLEST_TAIL = 0.02
"""The same on their tails: the share of rows by which one is heavier."""


@dataclass(frozen=True)
class Difference:
    """What a test finds.

    Args:
        effect: in units of the smallest one that matters.
    """

    p: float
    effect: float

    @property
    def matters(self) -> bool:
        return self.effect >= 1


NONE = Difference(1.0, 0.0)


def mix(before: Mapping[str, int], after: Mapping[str, int]) -> Difference:
    """Whether kinds are mixed alike: Pearson's chi-square test, rare kinds pooled."""
    from scipy.stats import chi2

    kinds = sorted(before.keys() | after.keys())
    table = np.array([[counts.get(kind, 0) for kind in kinds] for counts in (before, after)], float)
    sizes = table.sum(axis=1, keepdims=True)
    if not sizes.all():
        return NONE
    rare = table.sum(axis=0) * sizes.min() / sizes.sum() < EXPECTED
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    table = table[:, table.any(axis=0)]
    freedom = table.shape[1] - 1
    if freedom < 1:
        return NONE
    expected = sizes * table.sum(axis=0) / sizes.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    # Chance alone makes the statistic as large as its degrees of freedom, on average.
    w = np.sqrt(max(0.0, statistic - freedom) * (1 / sizes).sum())
    return Difference(float(chi2.sf(statistic, freedom)), float(w / SMALLEST_MIX))


def shift(before: Numbers, after: Numbers, worse: int) -> Difference:
    """Whether numbers lie alike: all of them (Mann & Whitney 1947), and those in the tail (Fisher's exact test), which
    a few new requests among many old ones show in first. The smaller p-value counts, times the number of tests.

    Args:
        worse: 1: only larger ones are a difference; -1: only smaller ones; 0: both.
    """
    from scipy.stats import mannwhitneyu

    if not len(before) or not len(after) or min(before.min(), after.min()) == max(before.max(), after.max()):
        return NONE
    if worse < 0:
        before, after = -before, -after
    tested = mannwhitneyu(after, before, alternative="greater" if worse else "two-sided", method="asymptotic")
    delta = 2 * float(tested.statistic) / (len(before) * len(after)) - 1
    found = [
        Difference(float(tested.pvalue), (delta if worse else abs(delta)) / SMALLEST_SHIFT),
        _heavier(before, after),
    ]
    if not worse:
        found.append(_heavier(-before, -after))
    likeliest = min(found, key=lambda difference: (not difference.matters, difference.p))
    return Difference(min(1.0, likeliest.p * len(found)), max(0.0, likeliest.effect))


def _heavier(before: Numbers, after: Numbers) -> Difference:
    """Whether more of the later numbers lie in the upper tail of all."""
    from scipy.stats import hypergeom

    edge = np.quantile(np.concatenate([before, after]), TAIL, method="inverted_cdf")
    tail, late = int((before > edge).sum() + (after > edge).sum()), int((after > edge).sum())
    p = float(hypergeom.sf(late - 1, len(before) + len(after), tail, len(after)))
    return Difference(p, (late / len(after) - (tail - late) / len(before)) / SMALLEST_TAIL)
