"""Slices: a predictor's primary metric on parts of the test, by length, language, time and group."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.data.language import language_of
from tunewright.data.times import instants_of
from tunewright.evaluation.evidence import Record, groups_of
from tunewright.evaluation.statistics.grouped import Numbers
from tunewright.evaluation.statistics.intervals import Interval, Resamples, ratio, shares
from tunewright.evaluation.statistics.pairs import holm
from tunewright.tasks import Example

Mask = npt.NDArray[np.bool_]
Names = npt.NDArray[np.str_]

LEAST = 20
"""Examples of the smallest slice that is reported, and of the smallest group that can fall short."""
_PARTS = 3
"""Number of slices by length and by time."""
_CHANCE = 0.05
_LEAST_GROUPS = 5
"""With fewer other groups it can't be told whether one group differs from them."""


@dataclass(frozen=True)
class Slice:
    """A part of a test split."""

    split: str
    by: str
    """length, language, time or group."""
    name: str
    count: int
    primary_metric: Interval
    rest: float
    """The primary metric on the split's other examples."""
    p_value: float
    """The chance of so much less than the rest if they were alike, corrected for the number of slices (Holm)."""
    falls_short: bool = False
    """Whether that is more than chance explains."""


def find_slices(parts: Mapping[str, Sequence[Record]], examples: Mapping[str, Example], seed: int) -> list[Slice]:
    """The slices of every test split, the worst first.

    Args:
        parts: one predictor's records by test split.
        examples: the examples by id.
    """
    uncorrected: list[Slice] = []
    for split, part in parts.items():
        for by, names in cuts([examples[record.id] for record in part]):
            named = np.array([bool(each) for each in names])
            for name in dict.fromkeys(filter(None, names)):
                chosen = np.array([each == name for each in names])
                if LEAST <= chosen.sum() <= len(part) - LEAST:
                    uncorrected.append(_slice(split, by, str(name), part, chosen, named, seed))
    p_values = holm([each.p_value for each in uncorrected])
    slices = [
        replace(each, p_value=p_value, falls_short=p_value < _CHANCE)
        for each, p_value in zip(uncorrected, p_values, strict=True)
    ]
    return sorted(slices, key=lambda each: (each.p_value, each.primary_metric.value))


def _slice(split: str, by: str, name: str, part: Sequence[Record], chosen: Mask, named: Mask, seed: int) -> Slice:
    inside = [record for record, is_in in zip(part, chosen, strict=True) if is_in]
    parts, wholes = np.array([record.primary_metric for record in part], float).T
    rest = float(shares(parts[~chosen].sum(), wholes[~chosen].sum()))
    primary_metric = ratio([record.primary_metric for record in inside], groups_of(inside))
    groups = groups_of(part)
    if by == "group" and groups is not None:
        p_value = _less_than_others(parts, wholes, np.array(groups), named, name, seed)
    else:
        p_value = _less(parts, wholes, chosen, groups, seed)
    return Slice(split, by, name, len(inside), primary_metric, rest, p_value)


def _less(parts: Numbers, wholes: Numbers, chosen: Mask, groups: Sequence[str] | None, seed: int) -> float:
    """The chance of a share so much lower among the chosen examples if they were like the rest.

    It is Fisher's exact test for right and wrong answers to independent examples, else the difference in standard
    errors of a bootstrap over whole groups.
    """
    if groups is None and (wholes == 1).all() and np.isin(parts, (0, 1)).all():
        from scipy.stats import fisher_exact

        right, wrong = parts.astype(bool), ~parts.astype(bool)
        table = [
            [int((right & chosen).sum()), int((wrong & chosen).sum())],
            [int((right & ~chosen).sum()), int((wrong & ~chosen).sum())],
        ]
        return float(fisher_exact(table, "less").pvalue)
    resamples = Resamples(groups, len(parts), seed)
    inside, of_inside, outside, of_outside = resamples.sums(
        parts * chosen, wholes * chosen, parts * ~chosen, wholes * ~chosen
    )
    both = (of_inside > 0) & (of_outside > 0)  # a resample may lack one of the two
    if not both.any():
        return 1.0  # one of the two has nothing to measure in any resample
    draws = shares(inside[both], of_inside[both]) - shares(outside[both], of_outside[both])
    gap = float(shares(parts[chosen].sum(), wholes[chosen].sum()) - shares(parts[~chosen].sum(), wholes[~chosen].sum()))
    return _tail(gap, float(draws.std()))


def _less_than_others(parts: Numbers, wholes: Numbers, groups: Names, named: Mask, name: str, seed: int) -> float:
    """The chance that a group does so much worse than the others, given how much those differ from each other.

    It is at least the chance if all examples were independent. Where nearly every answer is right, the others hardly
    differ, and a single error would lie far outside their spread.

    Args:
        named: the examples that have a group. The others are groups of one each, which differ by more than groups do.
    """
    others = [
        float(shares(parts[groups == group].sum(), wholes[groups == group].sum()))
        for group in np.unique(groups[named])
        if group != name and wholes[groups == group].any()  # in a group without anything to measure nothing is wrong
    ]
    own, mean = groups == name, float(np.mean(others))
    if len(others) < _LEAST_GROUPS or (wholes[own] > 0).sum() < LEAST:
        return 1.0
    alone = (mean * (1 - mean) / max(float(wholes[own].sum()), 1.0)) ** 0.5  # if all groups were alike
    tail = _tail(float(shares(parts[own].sum(), wholes[own].sum())) - mean, max(float(np.std(others)), alone))
    return tail if tail >= _CHANCE else max(tail, _less(parts, wholes, own, None, seed))


def _tail(gap: float, spread: float) -> float:
    return NormalDist().cdf(gap / spread) if spread else float(gap >= 0)


def cuts(examples: Sequence[Example]) -> Iterator[tuple[str, list[str | None]]]:
    """(criterion, the slice of each example or None) for each way to cut a split: length, language, time and group."""
    lengths = [len(example.request.split()) for example in examples]
    yield "length", _ranked(lengths, lengths, "{} to {} words")
    yield "language", [language_of(example.request) for example in examples]
    # Times of several kinds, or that can't be read, have no order.
    with suppress(UserError):
        instants = instants_of([example for example in examples if example.meta.time])
        times = [example.meta.time for example in examples]
        yield "time", _ranked([instants[time] if time else None for time in times], times, "{} to {}")
    yield "group", [example.meta.group for example in examples]


def _ranked(values: Sequence[float | None], names: Sequence[object], form: str) -> list[str | None]:
    """Thirds by rank, equal values together, named by their ends; None for no value, and where there are fewer than
    three values.

    Args:
        names: the form of each value in which it is an end.
    """
    name_of = {value: name for value, name in zip(values, names, strict=True) if value is not None}
    if len(name_of) < _PARTS:
        return [None] * len(values)
    ranked = sorted(value for value in values if value is not None)
    edges = [ranked[len(ranked) * part // _PARTS] for part in range(1, _PARTS)]

    def place(value: float) -> int:
        return sum(value >= edge for edge in edges)

    ends = {}
    for part in range(_PARTS):
        inside = [value for value in ranked if place(value) == part]
        if inside:
            ends[part] = form.format(name_of[inside[0]], name_of[inside[-1]])
    return [None if value is None else ends[place(value)] for value in values]
