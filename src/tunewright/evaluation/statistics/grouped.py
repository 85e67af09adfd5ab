"""Rows that fail together: the design effect of groups, the effective sample size, and when groups are too few."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

MIN_GROUPS = 20
"""Groups below which an interval proves nothing: the spread between groups is itself estimated from them. Cameron and
Miller 2015 (section VI) call 20 to 50 groups few."""
MAX_SHARE = 0.1
"""Of the rows, that the largest group may hold: what it gets right or wrong would decide alone."""
_QUANTILE = 0.7
"""Of what the intraclass correlation may be, the value that is taken. At 0.6 nine of the 240 cases that
tests/evaluation/test_coverage.py simulates cover less than 93 %, the worst 88.6 %; at 0.7 two do, the worst 91.8 %."""
_CORRELATIONS = np.array([0.002, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9])
_PRIOR = np.gradient(_CORRELATIONS) / np.sqrt(_CORRELATIONS * (1 - _CORRELATIONS))
"""Weights of these correlations before any row is seen: density of Beta(1/2, 1/2) times the spacing."""

Numbers = npt.NDArray[np.float64]


def too_few_groups(groups: Sequence[str] | None) -> str:
    """Why the groups are too few to tell; empty where they are enough, or where every row stands by itself (None)."""
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
    """(the number of each row's group, the number of groups); of rows that stand by themselves, each is a group."""
    if groups is None:
        return np.arange(count), count
    names = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    return np.array([names[group] for group in groups], np.int64), len(names)


def sums_of(member_of: npt.NDArray[np.int64], values: Numbers, units: int) -> Numbers:
    """The sums of values over each group, shape [units]."""
    return np.asarray(np.bincount(member_of, values, units), float)


def effective_rows(hits: Numbers, sizes: Numbers) -> Numbers:
    """How many independent rows tell as much of a share of right answers as these, for an interval of 95 %.

    The rows over the larger of two design effects. One is observed: the linearised variance between groups over the
    binomial one, times (t / z)^2, as it is itself estimated from so many groups. It needs no model, but sees next to
    nothing where few groups have an error; then the other holds, `modelled_effect`.

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
    """The design effect of a beta-binomial model, 1 + correlation x (group size - 1), at an upper quantile of the
    correlation given the answers: 1 where rows are independent, the group size (the mean that a row sees) where all
    rows of a group are alike.

    Args:
        hits, sizes: as in `effective_rows`.

    Source: Kish 1965, section 8.2; Griffiths 1973 for the likelihood.
    """
    return np.asarray(1 + _correlation(hits, sizes) * float((sizes**2).sum() / sizes.sum() - 1))


def widened(units: int, level: float) -> float:
    """(t / z)^2: by how much a variance counts for more where it is estimated from so few units. Korn & Graubard
    1998."""
    return (quantile(units, level) / NormalDist().inv_cdf(level)) ** 2


def _correlation(hits: Numbers, sizes: Numbers) -> Numbers:
    """The upper quantile of the intraclass correlation given the answers, the mean share taken as known."""
    from scipy.special import gammaln

    share = ((hits.sum(-1) + 0.5) / (sizes.sum() + 1))[..., None]
    likely = np.empty((*hits.shape[:-1], len(_CORRELATIONS)))
    for place, correlation in enumerate(_CORRELATIONS):
        total = 1 / correlation - 1
        a, b = share * total, (1 - share) * total
        likely[..., place] = (
            gammaln(hits + a) - gammaln(a) + gammaln(sizes - hits + b) - gammaln(b) - gammaln(sizes + total)
        ).sum(-1) + len(sizes) * gammaln(total)
    weights = np.exp(likely - likely.max(-1, keepdims=True)) * _PRIOR
    below = np.cumsum(weights / weights.sum(-1, keepdims=True), -1) < _QUANTILE
    return np.asarray(_CORRELATIONS[np.minimum(below.sum(-1), len(_CORRELATIONS) - 1)])


def rests_on(residuals: Numbers) -> float:
    """How many units a variance rests on, by the weight of each square in the sum (Kish's effective number); 0 where
    there is no variance."""
    squares = np.square(residuals)
    fourth = float(np.square(squares).sum())
    return float(squares.sum()) ** 2 / fourth if fourth > 0 else 0.0


def quantile(units: int, level: float) -> float:
    """Student's t with units - 1 degrees of freedom; infinite for one unit, which shows no spread."""
    from scipy.stats import t

    return float(t.ppf(level, units - 1)) if units > 1 else float("inf")


def wilson_limits(share: Any, rows: Any, t: float) -> tuple[Any, Any]:
    """The ends of Wilson's interval at an effective number of rows. Where t stands for z, that is Korn and Graubard's
    (1998) correction of the number by (z / t)^2: Wilson's formula knows z and rows only as z^2 / rows.

    Args:
        share, rows: numbers, or arrays of one shape.
        t: how many standard errors reach to an end; where it is infinite, nothing is known: 0 to 1.
    """
    if np.isinf(t):
        return np.zeros_like(share), np.ones_like(share)
    more = t**2 / rows
    middle, reach = share + more / 2, np.sqrt(more * share * (1 - share) + more**2 / 4)
    return np.maximum((middle - reach) / (1 + more), 0.0), np.minimum((middle + reach) / (1 + more), 1.0)
