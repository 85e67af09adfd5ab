"""Statistics of a validation part: what it shows beyond chance if its examples fail together in groups."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.tasks.measures import wilson_limits

_LEVEL = 0.95
"""One-sided."""


@dataclass(frozen=True)
class ScoreChange:
    """How much the mean over the same examples rose between two measurements."""

    mean: float
    least: float
    most: float
    """One-sided 95 % confidence limits. With one group nothing is known: they are infinite."""


def change(before: Sequence[float], after: Sequence[float], groups: Sequence[str]) -> ScoreChange:
    """The change with its limits, by Student's t on the paired differences, with a variance between groups.

    Args:
        groups: the group of each example; empty if each example is independent.

    Source: Cameron and Miller 2015, section II.
    """
    from scipy.stats import t

    rises = np.asarray(after, float) - np.asarray(before, float)
    _, member_of = np.unique(np.array(groups), return_inverse=True) if groups else (None, np.arange(len(rises)))
    units, mean = int(member_of.max(initial=-1)) + 1, float(rises.mean())
    if units < 2:
        return ScoreChange(mean, -math.inf, math.inf)
    residuals = np.bincount(member_of, rises - mean)
    error = math.sqrt(units / (units - 1) * float(np.square(residuals).sum())) / len(rises)
    reach = float(t.ppf(_LEVEL, units - 1)) * error
    return ScoreChange(mean, mean - reach, mean + reach)


def highest_share(share: float, groups: Sequence[str]) -> float:
    """The upper one-sided 95 % limit of a share of right answers: Wilson's, with each group counted once."""
    from scipy.stats import t

    units = len(set(groups))
    if units < 2:
        return 1.0
    _, most = wilson_limits(share, units, float(t.ppf(_LEVEL, units - 1)))
    return float(most)
