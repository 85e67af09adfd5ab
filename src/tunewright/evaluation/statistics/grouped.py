"""Rows that fail together: the design effect of groups, the effective sample size, and when groups are too few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

MIN_GROUPS = 20
"""With fewer groups an interval proves nothing, because the spread between groups is itself estimated from them.
Cameron and Miller 2015 (section VI) call 20 to 50 groups few."""
MAX_SHARE = 0.1
"""Share of the rows that the largest group may hold; a larger group would decide the result alone."""
_QUANTILE = 0.7
"""Quantile of the intraclass correlation that is used. At 0.6 nine of the 240 cases that
tests/evaluation/test_coverage.py simulates cover less than 93 %, the worst 88.6 %; at 0.7 two do, the worst 91.8 %."""
_CORRELATIONS = np.array([0.002, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
_PRIOR = np.gradient(_CORRELATIONS) / np.sqrt(_CORRELATIONS * (1 - _CORRELATIONS))
"""Weights of these correlations before any row is seen: density of Beta(1/2, 1/2) times the spacing."""

Numbers = npt.NDArray[np.float64]


def too_few_groups(groups: Sequence[str] | None) -> str:
    """Why the groups are too few to tell; empty where there are enough, or where the rows are independent (None)."""
    if not groups:
        return ""
    sizes = Counter(groups)
    if len(sizes) < MIN_GROUPS:
        return f"too few groups to tell ({len(sizes)}, and it takes {MIN_GROUPS})"
    share = max(sizes.values()) / len(groups)
    if share > MAX_SHARE:
        large = f"one of {len(sizes):,} holds {share:.1%} of the rows"
        return f"too few groups to tell ({large}, more than {MAX_SHARE:.0%})"
    return ""


def numbered(groups: Sequence[str] | None, count: int) -> tuple[npt.NDArray[np.int64], int]:
    """(the number of each row's group, the number of groups); each independent row is a group."""
    if groups is None:
        return np.arange(count), count
    names = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    return np.array([names[group] for group in groups], np.int64), len(names)


def sums_of(member_of: npt.NDArray[np.int64], values: Numbers, units: int) -> Numbers:
    """The sums of values over each group, shape [units]."""
    return np.asarray(np.bincount(member_of, values, units), float)


def effective_rows(hits: Numbers, sizes: Numbers) -> Numbers:
    """The number of independent rows that would give as precise a share of right answers, for an interval of 95 %.

    It is the number of rows divided by the larger of two design effects. The observed one is the linearised variance
    between groups over the binomial variance, times (t / z)^2 because it is itself estimated from these groups. It
    needs no model, but sees next to nothing where few groups have an error. Then `modelled_effect` is the larger.

    Args:
        hits: right answers of each group, shape [..., groups].
        sizes: rows of each group, shape [groups], of two groups or more.

    Returns: shape [...], never above the number of rows.

    Source: Cochran 1977, section 6.3; Korn & Graubard 1998.
    """
    rows = sizes.sum()
    share = hits.sum(-1) / rows
    # Less than `rows`: the residuals of independent rows sum to 0.
    independent = share * (1 - share) * (rows - (sizes**2).sum() / rows)
    between = np.square(hits - share[..., None] * sizes).sum(-1)
    observed = np.divide(between, independent, out=np.zeros_like(between), where=independent > 0)
    return np.asarray(rows / np.maximum(observed * widened(len(sizes), 0.975), modelled_effect(hits, sizes)))


def modelled_effect(hits: Numbers, sizes: Numbers) -> Numbers:
    """The design effect of a beta-binomial model, 1 + correlation x (group size - 1).

    The correlation is an upper quantile given the answers. The effect is 1 where rows are independent, and the group
    size (the mean over rows) where all rows of a group are alike.

    Args:
        hits, sizes: as in `effective_rows`.

    Source: Kish 1965, section 8.2; Griffiths 1973 for the likelihood.
    """
    return np.asarray(1 + _correlation(hits, sizes) * float((sizes**2).sum() / sizes.sum() - 1))


def widened(units: int, level: float) -> float:
    """(t / z)^2: the factor by which a variance counts for more because it is estimated from few units. Korn & Graubard
    1998."""
    return (quantile(units, level) / NormalDist().inv_cdf(level)) ** 2


def _correlation(hits: Numbers, sizes: Numbers) -> Numbers:
    """The upper quantile of the intraclass correlation given the answers; the mean share is taken as known."""
    from scipy.special import gammaln

    share = ((hits.sum(-1) + 0.5) / (sizes.sum() + 1))[..., None]
    likely = np.empty((*hits.shape[:-1], len(_CORRELATIONS)))
    for index, correlation in enumerate(_CORRELATIONS):
        total = 1 / correlation - 1
        a, b = share * total, (1 - share) * total
        likely[..., index] = (
            gammaln(hits + a) - gammaln(a) + gammaln(sizes - hits + b) - gammaln(b) - gammaln(sizes + total)
        ).sum(-1) + len(sizes) * gammaln(total)
    weights = np.exp(likely - likely.max(-1, keepdims=True)) * _PRIOR
    below = np.cumsum(weights / weights.sum(-1, keepdims=True), -1) < _QUANTILE
    return np.asarray(_CORRELATIONS[np.minimum(below.sum(-1), len(_CORRELATIONS) - 1)])


def rests_on(residuals: Numbers) -> float:
    """The number of units that a variance rests on, by the weight of each square in the sum (Kish's effective number);
    0 where there is no variance."""
    squares = np.square(residuals)
    fourth = float(np.square(squares).sum())
    return float(squares.sum()) ** 2 / fourth if fourth > 0 else 0.0


def quantile(units: int, level: float) -> float:
    """Quantile of Student's t with units - 1 degrees of freedom; infinite for one unit, which shows no spread."""
    from scipy.stats import t

    return float(t.ppf(level, units - 1)) if units > 1 else float("inf")
