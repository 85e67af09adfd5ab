"""Two predictors on the same examples: by how much one is better, whether that can be chance, and how many examples a
proof takes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tunewright.evaluate.evidence import Record, by_test, groups_of
from tunewright.evaluate.statistics import Interval, Numbers, Resamples, shares
from tunewright.tasks.measures import Ratio

_TWO_SIDED = NormalDist().inv_cdf(0.975)
ALPHA = 0.05
"""Of a claim that something is not inferior: how often it may be made wrongly."""
POWER = 0.8
"""How often such a claim shall come out where it is true."""


@dataclass(frozen=True)
class Paired:
    """The difference of two predictors' headlines, first minus second."""

    difference: Interval
    at_least: float
    """The lower end of the one-sided 95 % interval: what the difference is not below, up to an error of 5 %."""
    p_value: float
    """Exact sign test, which of right and wrong answers is McNemar's: the chance of so uneven a split of the examples
    on which one does better, if both were equally good. Where examples are grouped, of the groups."""
    only_first: int
    """Examples on which the first does better."""
    only_second: int
    count: int
    """Examples in all."""
    variance: float
    """Of the difference on one example."""

    def not_inferior(self, margin: float) -> bool:
        """Whether the first is worse by no more than `margin`, up to an error of 5 %."""
        return self.at_least >= -margin


def paired(first: Sequence[Ratio], second: Sequence[Ratio], groups: Sequence[str] | None, seed: int) -> Paired:
    """The sign test and an interval: Tango's score interval for right and wrong answers to single examples, a bootstrap
    of the pairs otherwise, over whole groups where there are groups.

    Source: McNemar 1947; Tango 1998; Efron & Tibshirani 1993, ch. 13.
    """
    from scipy.stats import binomtest

    (ones, of_ones), (others, of_others) = np.array(first, float).T, np.array(second, float).T
    gaps = shares(ones, of_ones) - shares(others, of_others)
    only_first, only_second = int((gaps > 0).sum()), int((gaps < 0).sum())
    better, worse = (only_first, only_second) if groups is None else _by_groups(gaps, groups)
    p_value = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
    variance = float(gaps.var())
    difference = float(shares(ones.sum(), of_ones.sum()) - shares(others.sum(), of_others.sum()))
    binary = bool((of_ones == 1).all() and (of_others == 1).all() and np.isin(gaps, (-1, 0, 1)).all())
    if binary and groups is None:
        low, high, at_least = _score_limits(only_first, only_second, len(gaps))
        return Paired(Interval(difference, low, high), at_least, p_value, only_first, only_second, len(gaps), variance)
    resamples = Resamples(groups, len(gaps), seed)
    ones_, of_ones_, others_, of_others_ = resamples.sums(ones, of_ones, others, of_others)
    draws = shares(ones_, of_ones_) - shares(others_, of_others_)
    low, at_least, high = (float(value) for value in np.quantile(draws, [0.025, ALPHA, 0.975]))
    if low == high:  # no resample differs, which of few groups is no proof
        low, high, at_least = _score_limits(0, 0, resamples.units)
        low, high, at_least = low + difference, high + difference, at_least + difference
    return Paired(Interval(difference, low, high), at_least, p_value, only_first, only_second, len(gaps), variance)


def paired_records(first: Sequence[Record], second: Sequence[Record], seed: int) -> dict[str, Paired]:
    """Two predictors on each test split, on the examples that both answered."""
    other = {record.id: record.headline for record in second}
    both = {split: [record for record in part if record.id in other] for split, part in by_test(first).items()}
    return {
        split: paired([each.headline for each in part], [other[each.id] for each in part], groups_of(part), seed)
        for split, part in both.items()
        if part
    }


def _by_groups(gaps: Numbers, groups: Sequence[str]) -> tuple[int, int]:
    """(groups on which the first does better, groups on which the second does)."""
    sums: dict[str, float] = defaultdict(float)
    for gap, group in zip(gaps, groups, strict=True):
        sums[group] += gap
    return sum(total > 0 for total in sums.values()), sum(total < 0 for total in sums.values())


def _score_limits(only_first: int, only_second: int, count: int) -> tuple[float, float, float]:
    """(lower and upper end of the 95 % interval, lower end of the one-sided one) of a difference of paired shares:
    the differences that the score test does not reject. Source: Tango 1998."""
    one_sided = NormalDist().inv_cdf(1 - ALPHA)
    return (
        _limit(only_first, only_second, count, _TWO_SIDED),
        _limit(only_first, only_second, count, -_TWO_SIDED),
        _limit(only_first, only_second, count, one_sided),
    )


def _limit(only_first: int, only_second: int, count: int, z: float) -> float:
    """The difference at which the score statistic is `z`; it falls as the difference grows."""
    from scipy.optimize import brentq

    edge = 1 - 1e-9

    def over(difference: float) -> float:
        return _score(only_first, only_second, count, difference) - z

    if over(-edge) <= 0:
        return -1.0
    return 1.0 if over(edge) >= 0 else float(brentq(over, -edge, edge, xtol=1e-10))


def _score(only_first: int, only_second: int, count: int, difference: float) -> float:
    """Tango's statistic: the observed difference less a supposed one, in standard errors under the latter."""
    b = -only_first - only_second + (2 * count - only_first + only_second) * difference
    c = -only_second * difference * (1 - difference)
    other = (math.sqrt(max(b * b - 8 * count * c, 0.0)) - b) / (4 * count)
    variance = count * (2 * other + difference * (1 - difference))
    return (only_first - only_second - count * difference) / math.sqrt(max(variance, 1e-300))


def pairs_needed(margin: float, variance: float, difference: float = 0.0) -> int:
    """Test examples that show, with an error of 5 % and a power of 80 %, that one predictor is not worse than another
    by more than a margin.

    Args:
        margin: what it may be worse by, as a share.
        variance: of the difference on one example; of right and wrong answers the share of examples on which one of the
            two is right alone, less the square of `difference`.
        difference: by how much it is really better, or worse where negative.

    Raises:
        ValueError: it is really worse by the margin or more, so no number of examples shows that it is not.

    Source: Nam 1997; Liu et al. 2002, for paired shares.
    """
    if difference <= -margin:
        raise ValueError("the difference is beyond the margin")
    normal = NormalDist()
    spread = (normal.inv_cdf(1 - ALPHA) + normal.inv_cdf(POWER)) ** 2 * variance
    return math.ceil(spread / (margin + difference) ** 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: the chance of one so small among them, if there were nothing to find.

    Source: Holm 1979.
    """
    corrected, worst = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda number: p_values[number])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = worst
    return corrected
