"""Two predictors on the same examples: how much better one is, whether that can be chance, and how many examples a
proof takes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tunewright.evaluation.evidence import Record, by_test, cut_short, groups_of
from tunewright.evaluation.statistics.grouped import (
    Numbers,
    modelled_effect,
    numbered,
    quantile,
    rests_on,
    sums_of,
    too_few_groups,
    widened,
)
from tunewright.evaluation.statistics.intervals import Interval, shares
from tunewright.tasks.measures import Ratio

ALPHA = 0.05
"""How often a claim that something is not inferior may be wrong."""
_TWO_SIDED, _ONE_SIDED = NormalDist().inv_cdf(0.975), NormalDist().inv_cdf(1 - ALPHA)
POWER = 0.8
"""How often such a claim is to be shown where it is true."""


@dataclass(frozen=True)
class Paired:
    """The difference of two predictors' primary metrics, first minus second."""

    difference: Interval
    at_least: float
    """The lower end of the one-sided 95 % interval: the difference is not below it, up to an error of 5 %."""
    p_value: float
    """Exact sign test, which for right and wrong answers is McNemar's. It is the chance of so uneven a split of the
    examples on which one does better, if both were equally good. Where examples are grouped, it counts groups."""
    only_first: int
    """Examples on which the first does better."""
    only_second: int
    count: int
    """Examples in all."""
    variance: float
    """Variance of the difference on one example."""

    def not_inferior(self, margin: float) -> bool:
        """Whether the first is shown to be worse by no more than `margin`, up to an error of 5 %; too few groups show
        nothing."""
        return not self.difference.doubt and self.at_least >= -margin


def paired(first: Sequence[Ratio], second: Sequence[Ratio], groups: Sequence[str] | None) -> Paired:
    """The sign test and an interval of the difference.

    For right and wrong answers this is Tango's score interval, with groups at the effective sample size. For other
    measures it is Student's t on the linearised difference of the two ratios of sums.

    Args:
        first, second: part and whole of each example, for either predictor.
        groups: the group of each example; None where the examples are independent.

    Source: McNemar 1947; Tango 1998; Korn & Graubard 1998 for the effective sample size.
    """
    from scipy.stats import binomtest

    (ones, of_ones), (others, of_others) = np.array(first, float).T, np.array(second, float).T
    gaps = _scores(ones, of_ones) - _scores(others, of_others)
    only_first, only_second = int((gaps > 0).sum()), int((gaps < 0).sum())
    better, worse = (only_first, only_second) if groups is None else _by_groups(gaps, groups)
    p_value = float(binomtest(better, better + worse).pvalue) if better + worse else 1.0
    difference = float(shares(ones.sum(), of_ones.sum()) - shares(others.sum(), of_others.sum()))
    if (of_ones == 1).all() and (of_others == 1).all() and np.isin(gaps, (-1, 0, 1)).all():
        low, high, at_least = _of_counts(gaps, groups)
    else:
        lines = shares(ones - shares(ones.sum(), of_ones.sum()) * of_ones, of_ones.sum()) - shares(
            others - shares(others.sum(), of_others.sum()) * of_others, of_others.sum()
        )
        low, high, at_least = _of_lines(difference, lines, groups)
    interval = Interval(difference, low, high, too_few_groups(groups))
    return Paired(interval, at_least, p_value, only_first, only_second, len(gaps), float(gaps.var()))


def _scores(parts: Numbers, wholes: Numbers) -> Numbers:
    """The score of each example alone: as `Ratio.score`, 0 of 0 is 1."""
    return np.asarray(np.where(wholes > 0, shares(parts, wholes), 1.0))


def _of_counts(gaps: Numbers, groups: Sequence[str] | None) -> tuple[float, float, float]:
    """(lower end, upper end of the 95 % interval, lower end of the one-sided one) of a difference of paired shares.

    Args:
        gaps: 1 where the first alone is right, -1 where the second is, else 0.
    """
    count = len(gaps)
    only_first, only_second = int((gaps > 0).sum()), int((gaps < 0).sum())
    if groups is None:
        return (
            _limit(only_first, only_second, count, _TWO_SIDED),
            _limit(only_first, only_second, count, -_TWO_SIDED),
            _limit(only_first, only_second, count, _ONE_SIDED),
        )
    member_of, units = numbered(groups, count)
    if units < 2:
        return -1.0, 1.0, -1.0
    sizes = sums_of(member_of, np.ones(count), units)
    sides = np.array([sums_of(member_of, (gaps == side).astype(float), units) for side in (1, -1)])
    # As in `grouped.effective_rows`, for both kinds of examples on which the two differ.
    modelled = float(np.average(modelled_effect(sides, sizes), weights=sides.sum(1) + 0.5))
    residuals = sides[0] - sides[1] - gaps.mean() * sizes
    spread = float(gaps.var())
    observed = units / (units - 1) * float((residuals**2).sum()) / (count * spread) if spread > 0 else 0.0

    def limit(level: float, z: float) -> float:
        effect = max(modelled, observed * widened(units, level))
        return _limit(only_first / effect, only_second / effect, count / effect, z)

    return limit(0.975, _TWO_SIDED), limit(0.975, -_TWO_SIDED), limit(1 - ALPHA, _ONE_SIDED)


def _of_lines(difference: float, lines: Numbers, groups: Sequence[str] | None) -> tuple[float, float, float]:
    """As `_of_counts`, for any measure.

    Args:
        lines: the linearised contribution of each example to the difference, less the mean.
    """
    member_of, units = numbered(groups, len(lines))
    if units < 2:
        return -1.0, 1.0, -1.0
    sums = sums_of(member_of, lines, units)
    spread = float(np.sqrt(units / (units - 1) * (sums**2).sum()))
    doubted = 1 / (1 + rests_on(sums))

    def reach(level: float) -> float:
        # As far as the spread rests on few units, add the width of Tango's interval where none of them differs.
        t = quantile(units, level)
        return float(np.hypot(t * spread, doubted * t**2 / (units + t**2)))

    ends = difference - reach(0.975), difference + reach(0.975), difference - reach(1 - ALPHA)
    return max(ends[0], -1.0), min(ends[1], 1.0), max(ends[2], -1.0)


def paired_records(first: Sequence[Record], second: Sequence[Record]) -> dict[str, Paired]:
    """Two predictors on each test split, on the examples that both answered.

    A cut reply of the first counts as wrong, and one of the second is left out, so that a token limit never speaks for
    the first. A split on which too many replies of either were cut has no pair.
    """
    unproven = {*cut_short(first), *cut_short(second)}
    other = {record.id: record.primary_metric for record in second if not record.cut}
    both = {
        split: [record for record in part if record.id in other]
        for split, part in by_test(first).items()
        if split not in unproven
    }
    return {
        split: paired([each.primary_metric for each in part], [other[each.id] for each in part], groups_of(part))
        for split, part in both.items()
        if part
    }


def _by_groups(gaps: Numbers, groups: Sequence[str]) -> tuple[int, int]:
    """(groups on which the first does better, groups on which the second does)."""
    sums: dict[str, float] = defaultdict(float)
    for gap, group in zip(gaps, groups, strict=True):
        sums[group] += gap
    return sum(total > 0 for total in sums.values()), sum(total < 0 for total in sums.values())


def _limit(only_first: float, only_second: float, count: float, z: float) -> float:
    """The difference at which the score statistic is `z`; it falls as the difference grows. Source: Tango 1998.

    Args:
        only_first, only_second, count: numbers of examples, or effective numbers.
    """
    from scipy.optimize import brentq

    edge = 1 - 1e-9

    def over(difference: float) -> float:
        return _score(only_first, only_second, count, difference) - z

    if over(-edge) <= 0:
        return -1.0
    return 1.0 if over(edge) >= 0 else float(brentq(over, -edge, edge, xtol=1e-10))


def _score(only_first: float, only_second: float, count: float, difference: float) -> float:
    """Tango's statistic: the observed difference less an assumed one, in standard errors under the assumed one."""
    b = -only_first - only_second + (2 * count - only_first + only_second) * difference
    c = -only_second * difference * (1 - difference)
    other = (math.sqrt(max(b * b - 8 * count * c, 0.0)) - b) / (4 * count)
    variance = count * (2 * other + difference * (1 - difference))
    return (only_first - only_second - count * difference) / math.sqrt(max(variance, 1e-300))


def pairs_needed(margin: float, variance: float, difference: float = 0.0, effect: float = 1.0) -> int:
    """The number of test examples that show, with an error of 5 % and a power of 80 %, that one predictor is not worse
    than another by more than a margin.

    Args:
        margin: the share by which it may be worse.
        variance: variance of the difference on one example. For right and wrong answers it is the share of examples on
            which only one of the two is right, less the square of `difference`.
        difference: the true difference; negative where the first is worse.
        effect: the design effect, the number of examples worth one independent example: 1 + (examples of a group - 1) x
            intraclass correlation (Kish 1965, section 8.2).

    Raises:
        ValueError: the first is truly worse by the margin or more, so no number of examples shows that it is not.

    Source: Nam 1997; Liu et al. 2002, for paired shares.
    """
    if difference <= -margin:
        raise ValueError("the difference is beyond the margin")
    normal = NormalDist()
    spread = (normal.inv_cdf(1 - ALPHA) + normal.inv_cdf(POWER)) ** 2 * variance
    return math.ceil(effect * spread / (margin + difference) ** 2)


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for their number: the chance of one so small among them if there were nothing to find.

    Source: Holm 1979.
    """
    corrected, worst = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        worst = max(worst, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = worst
    return corrected
