"""The cascade: the small model answers what it is sure of, the API answers the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from tunewright.evaluate.evidence import Record
from tunewright.evaluate.statistics import Interval, ratio
from tunewright.tasks.measures import Ratio

_POINTS = 20
MIN_ACCEPTED = 20
"""Fewer accepted answers than this say nothing about their accuracy."""


@dataclass(frozen=True)
class CascadeResult:
    """How the small model does where its confidence reaches `threshold`."""

    coverage: float
    """Share of requests it answers itself."""
    headline: Interval | None
    """Of those answers; None where there are none."""


@dataclass(frozen=True)
class CascadePoint:
    """A cascade at one threshold, on one test split."""

    threshold: float
    coverage: float
    inside: float
    """The headline of what the small model answers itself."""
    whole: float | None
    """The headline of all answers, the API's included; None where it was not measured."""
    usd_per_month: float
    """The small model's machines, and the API for the rest."""


def cascade_curve(records: Sequence[Record], answered: Sequence[Record], own_usd: float,
                  api_usd: float) -> list[CascadePoint]:  # fmt: skip
    """`answer if sure, else ask the API` at some thresholds, from the surest few answers to all of them.

    Args:
        records: the small model's, of one split.
        answered: the API's, as far as it was measured; it counts only where it answered the whole split.
        own_usd, api_usd: what a month of all requests costs on each.
    """
    other = {record.id: record.headline for record in answered}
    measured = all(record.id in other for record in records)
    ranked, ends = _surest_first(records)
    points = []
    wanted = [len(ranked) * part / _POINTS for part in range(1, _POINTS + 1)]
    for count in sorted({next(end for end in ends if end >= most) for most in wanted}):
        inside, rest = ranked[:count], ranked[count:]
        own = [record.headline for record in inside]
        both = own + [other[record.id] for record in rest] if measured else []
        coverage = count / len(ranked)
        points.append(CascadePoint(
            ranked[count - 1].confidence or 0.0, coverage, _share(own), _share(both) if measured else None,
            own_usd + (1 - coverage) * api_usd,
        ))  # fmt: skip
    return points


def _share(measured: Sequence[Ratio]) -> float:
    return sum(each.part for each in measured) / max(sum(each.whole for each in measured), 1e-12)


def choose_threshold(validation: Sequence[Record], least: float) -> float | None:
    """The lowest confidence at or above which validation answers reach a headline; None where none does."""
    ranked, ends = _surest_first(validation)
    parts = list(accumulate(record.headline.part for record in ranked))
    wholes = list(accumulate(record.headline.whole for record in ranked))
    good = (n for n in reversed(ends) if n >= MIN_ACCEPTED and parts[n - 1] >= least * wholes[n - 1])
    return next((ranked[n - 1].confidence for n in good), None)


def _surest_first(records: Sequence[Record]) -> tuple[list[Record], list[int]]:
    """(the records by falling confidence, how many of them a threshold may accept: equal ones only together)."""
    ranked = sorted(records, key=lambda record: -(record.confidence or 0))
    sure = [record.confidence for record in ranked]
    return ranked, [n for n in range(1, len(sure) + 1) if n == len(sure) or sure[n] != sure[n - 1]]


def apply_threshold(records: Sequence[Record], threshold: float) -> CascadeResult:
    accepted = [record for record in records if (record.confidence or 0) >= threshold]
    inside = ratio([record.headline for record in accepted], None, 0) if accepted else None
    return CascadeResult(len(accepted) / len(records), inside)
