"""Two-sample tests: whether two samples of kinds, or of numbers, come from the same population.

Each test has a p-value that is right far out in its tail, as one of many daily tests needs, and an effect that does not
grow with the number of rows, which separates differences that matter from those too small to matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.drift.known import Numbers

EXPECTED = 5
"""A kind with fewer expected rows in the smaller sample is pooled with the other rare ones (Cochran 1954)."""
TAIL = 0.95
"""Values beyond this quantile of all are the tail."""
SMALLEST_MIX = 0.1
"""The smallest effect on kinds that matters: Cohen's w, where 0.1 is small (Cohen 1988)."""
SMALLEST_SHIFT = 0.05
"""The smallest effect on numbers that matters: Cliff's delta, twice the excess over one half of the chance that a later
number is larger."""
SMALLEST_TAIL = 0.02
"""The smallest effect on tails and on rare kinds that matters: the increase in their share of the rows."""


@dataclass(frozen=True)
class Difference:
    """The result of a test.

    Args:
        effect: in units of the smallest effect that matters.
    """

    p: float
    effect: float

    @property
    def matters(self) -> bool:
        return self.effect >= 1


NONE = Difference(1.0, 0.0)


def mix(before: Mapping[str, int], after: Mapping[str, int], effect: float = 1.0) -> Difference:
    """Whether the mix of kinds is the same, by Pearson's chi-square test. Rare kinds are pooled. Where even the pool is
    too rare for it, Fisher's exact test checks whether there are more of them, and the smaller p-value counts, doubled.

    Args:
        effect: the design effect of both samples, the number of rows worth one independent row; counts are divided by
            it before the tests (Rao & Scott 1981).
    """
    kinds = sorted(before.keys() | after.keys())
    table = np.array([[counts.get(kind, 0) for kind in kinds] for counts in (before, after)], float)
    table /= effect
    sizes = table.sum(axis=1)
    if not sizes.all():
        return NONE
    share = sizes.min() / sizes.sum()
    rare = table.sum(axis=0) * share < EXPECTED
    few = table[:, rare].sum(axis=1)
    if rare.all() or not few.any() or few.sum() * share >= EXPECTED:
        return _chi_square(np.column_stack([table[:, ~rare], few]))
    most = _chi_square(table[:, ~rare])
    late, early = few[1], few[0]
    p = _upper(early, late, sizes[0], sizes[1])
    more = Difference(p, (late / sizes[1] - early / sizes[0]) / SMALLEST_TAIL)
    return _likelier([most, more])


def _chi_square(table: Numbers) -> Difference:
    """The chi-square test of a table of two rows."""
    from scipy.stats import chi2

    table = table[:, table.any(axis=0)]
    sizes, freedom = table.sum(axis=1, keepdims=True), table.shape[1] - 1
    if freedom < 1:
        return NONE
    expected = sizes * table.sum(axis=0) / sizes.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    # Chance alone makes the statistic as large as its degrees of freedom, on average.
    w = np.sqrt(max(0.0, statistic - freedom) * (1 / sizes).sum())
    return Difference(float(chi2.sf(statistic, freedom)), float(w / SMALLEST_MIX))


def shift(before: Numbers, after: Numbers, worse: int, effect: float = 1.0) -> Difference:
    """Whether numbers have the same distribution: all of them (Mann & Whitney 1947), and their tail (Fisher's exact
    test), which shows a few new requests among many old ones first. The smaller p-value counts, times the number of
    tests.

    Args:
        worse: 1: only larger numbers count; -1: only smaller ones; 0: both.
        effect: as in `mix`.
    """
    if not len(before) or not len(after) or min(before.min(), after.min()) == max(before.max(), after.max()):
        return NONE
    if worse < 0:
        before, after = -before, -after
    tests = [_larger(before, after, effect, both=not worse), _heavier(before, after, effect)]
    return _likelier(tests if worse else [*tests, _heavier(-before, -after, effect)])


def _likelier(differences: Sequence[Difference]) -> Difference:
    """The likeliest difference that matters among several tests, its p-value corrected for the choice."""
    best = min(differences, key=lambda difference: (not difference.matters, difference.p))
    return Difference(min(1.0, best.p * len(differences)), max(0.0, best.effect))


def _larger(before: Numbers, after: Numbers, effect: float, both: bool) -> Difference:
    """Whether later numbers are larger; with `both`, whether they are larger or smaller.

    The rank sum's distribution over all ways to divide the numbers is close to a Pearson curve of type III with the
    same variance and skewness (Mielke & Berry 2007). A normal curve would do if there were no ties: where most texts
    have no unknown word at all, its tail is too thin by factors.
    """
    from scipy.stats import pearson3, rankdata

    ranks = rankdata(np.concatenate([before, after]))
    total, late = len(ranks), len(after)
    centred = ranks - ranks.mean()
    spread = centred.std()
    sum_spread = spread * np.sqrt(late * (total - late) / (total - 1))
    skewness = (
        (centred**3).mean()
        / spread**3
        * (total - 2 * late)
        / (total - 2)
        * np.sqrt((total - 1) / (late * (total - late)))
    )
    z = centred[len(before) :].sum() / sum_spread / np.sqrt(effect)
    upper, lower = float(pearson3.sf(z, skewness)), float(pearson3.cdf(z, skewness))
    delta = 2 * float(centred[len(before) :].mean()) / len(before)
    if both:
        return Difference(min(1.0, 2 * min(upper, lower)), abs(delta) / SMALLEST_SHIFT)
    return Difference(upper, delta / SMALLEST_SHIFT)


def _heavier(before: Numbers, after: Numbers, effect: float) -> Difference:
    """Whether more of the later numbers are in the upper tail of all."""
    edge = np.quantile(np.concatenate([before, after]), TAIL, method="inverted_cdf")
    early, late = int((before > edge).sum()), int((after > edge).sum())
    p = _upper(early / effect, late / effect, len(before) / effect, len(after) / effect)
    return Difference(p, (late / len(after) - early / len(before)) / SMALLEST_TAIL)


def _upper(early: float, late: float, before: float, window: float) -> float:
    """The probability that `late` or more of the marked rows, `early` before and `late` in the window, are in the
    window (Fisher's exact test), to the nearest whole rows."""
    from scipy.stats import hypergeom

    early, late, before, window = (round(value) for value in (early, late, before, window))
    return float(hypergeom.sf(late - 1, before + window, early + late, window))


MONTH = 0.05
"""Probability of a false alarm in a month in which nothing changes."""
CHECKS = 30
"""Checks in a month: one a day."""
DAYS = (1, 7, 28)
"""Lengths of the windows."""
_TESTS = len(DAYS) + 1
"""Tests a day: the windows, and accuracy where there are reviews."""


def alpha_of_a_test() -> float:
    """The probability that one check falsely reports drift in one window, or in accuracy."""
    return MONTH / CHECKS / _TESTS
