"""Rows that come together: of customers with several requests each, how much less their rows tell than as many of
customers with one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.drift.known import Numbers
from tunewright.drift.traits import NUMBERS, Traits
from tunewright.drift.two_sample import EXPECTED, TAIL
from tunewright.evaluation.statistics.grouped import numbered


def design_effects(traits: Traits, groups: Sequence[str]) -> dict[str, float]:
    """By trait, how many rows are worth one independent row; 1 at least.

    Args:
        traits: of n rows.
        groups: of each row, who asked, shape [n].

    Source: Rao & Scott 1981, the mean of the design effects of the kinds; Kish 1965, section 8.2, for numbers, the
    largest of those of their ranks and of either tail.
    """
    member_of, _ = numbered(groups, len(traits))
    found = {name: _of_kinds(column, member_of) for name, column in traits.kinds.items()}
    for name, column in traits.numbers.items():
        known = ~np.isnan(column)
        found[name] = _of_numbers(column[known], member_of[known], NUMBERS[name].worse) if known.any() else 1.0
    return found


def _of_kinds(column: npt.NDArray[np.str_], member_of: npt.NDArray[np.int64]) -> float:
    _, kinds, counts = np.unique(column, return_inverse=True, return_counts=True)
    rare = counts < EXPECTED
    # The rare ones are one kind, as they are where kinds are compared.
    places = np.where(rare, 0, np.cumsum(~rare) - (0 if rare.any() else 1))
    marks = np.eye(int(places.max()) + 1)[places[kinds]]
    return _effect((marks - marks.mean(axis=0)) / np.sqrt(marks.mean(axis=0)), member_of)


def _of_numbers(column: Numbers, member_of: npt.NDArray[np.int64], worse: int) -> float:
    from scipy.stats import rankdata

    values = [rankdata(column)]
    if worse >= 0:
        values.append(column > np.quantile(column, TAIL, method="inverted_cdf"))
    if worse <= 0:
        values.append(-column > np.quantile(-column, TAIL, method="inverted_cdf"))
    return max(_effect((value - value.mean())[:, None], member_of) for value in values)


def _effect(deviations: npt.NDArray[Any], member_of: npt.NDArray[np.int64]) -> float:
    """The variance of a mean between groups over that of independent rows.

    Args:
        deviations: from the mean, shape [rows, columns].
    """
    independent = float(np.square(deviations).sum())
    groups = len(np.unique(member_of))
    if not independent or groups < 2:
        return 1.0
    sums = np.zeros((int(member_of.max()) + 1, deviations.shape[1]))
    np.add.at(sums, member_of, deviations)
    return max(1.0, groups / (groups - 1) * float(np.square(sums).sum()) / independent)
