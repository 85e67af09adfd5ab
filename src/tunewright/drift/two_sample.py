"""Whether two samples come from the same population: of kinds, and of numbers.

Each test has a p-value that holds far out in its tail, where one of many daily tests must stand, and an effect that
does not grow with the number of rows, so that a difference too small to matter can be told from one that is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
"""The same on their tails and on rare kinds: the share of rows by which there are more."""


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


def mix(before: Mapping[str, int], after: Mapping[str, int], effect: float = 1.0) -> Difference:
    """Whether kinds are mixed alike: Pearson's chi-square test. Rare kinds are pooled; where even they are too rare for
    it, Fisher's exact test asks whether there are more of them, and the smaller p-value counts, doubled.

    Args:
        effect: the design effect of both samples, how many rows are worth one independent row; counts are divided by it
            before anything is tested (Rao & Scott 1981).
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
    """Of a table of two rows."""
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
    """Whether numbers lie alike: all of them (Mann & Whitney 1947), and those in the tail (Fisher's exact test), which
    a few new requests among many old ones show in first. The smaller p-value counts, times the number of tests.

    Args:
        worse: 1: only larger ones are a difference; -1: only smaller ones; 0: both.
        effect: as in `mix`.
    """
    if not len(before) or not len(after) or min(before.min(), after.min()) == max(before.max(), after.max()):
        return NONE
    if worse < 0:
        before, after = -before, -after
    found = [_larger(before, after, effect, both=not worse), _heavier(before, after, effect)]
    return _likelier(found if worse else [*found, _heavier(-before, -after, effect)])


def _likelier(found: Sequence[Difference]) -> Difference:
    """Of several tests the one that speaks for a difference that matters, its p-value corrected for the choice."""
    best = min(found, key=lambda difference: (not difference.matters, difference.p))
    return Difference(min(1.0, best.p * len(found)), max(0.0, best.effect))


def _larger(before: Numbers, after: Numbers, effect: float, both: bool) -> Difference:
    """Whether later numbers are larger, or either are.

    The rank sum's distribution over all ways to part the numbers is close to a Pearson curve of type III with the same
    variance and skewness (Mielke & Berry 2007). A normal curve would do but for ties: where most texts have no unknown
    word at all, its tail is too thin by factors.
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
    """Whether more of the later numbers lie in the upper tail of all."""
    edge = np.quantile(np.concatenate([before, after]), TAIL, method="inverted_cdf")
    early, late = int((before > edge).sum()), int((after > edge).sum())
    p = _upper(early / effect, late / effect, len(before) / effect, len(after) / effect)
    return Difference(p, (late / len(after) - early / len(before)) / SMALLEST_TAIL)


def _upper(early: float, late: float, before: float, window: float) -> float:
    """The probability that of the marked rows, `early` before and `late` in the window, so many or more lie in the
    window (Fisher's exact test), to the nearest whole rows."""
    from scipy.stats import hypergeom

    early, late, before, window = (round(value) for value in (early, late, before, window))
    return float(hypergeom.sf(late - 1, before + window, early + late, window))


MONTH = 0.05
"""Probability of a false alarm in a month in which nothing changes."""
CHECKS = 30
"""In a month: one a day."""
DAYS = (1, 7, 28)
"""Lengths of the windows."""
_TESTS = len(DAYS) + 1
"""Each day: the windows, and accuracy where there are reviews."""


def alpha_of_a_test() -> float:
    """The probability that one window, or accuracy, is falsely called drift at one check."""
    return MONTH / CHECKS / _TESTS
