"""The cascade: the small model answers what it is sure of, the API answers the rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.evaluate.evidence import Record
from tunewright.evaluate.statistics import Interval, ratio

MIN_ACCEPTED = 20
"""Fewer accepted answers than this say nothing about their accuracy."""


@dataclass(frozen=True)
class CascadeResult:
    """How the small model does where its confidence reaches `threshold`."""

    coverage: float
    """Share of requests it answers itself."""
    headline: Interval | None
    """Of those answers; None where there are none."""


def choose_threshold(validation: Sequence[Record], least: float) -> float | None:
    """The lowest confidence at or above which validation answers reach a headline; None where none does."""
    ranked = sorted(validation, key=lambda record: -(record.confidence or 0))
    best = None
    parts = wholes = 0.0
    for count, record in enumerate(ranked, 1):
        parts += record.headline.part
        wholes += record.headline.whole
        last_of_its_confidence = count == len(ranked) or ranked[count].confidence != record.confidence
        if last_of_its_confidence and count >= MIN_ACCEPTED and parts >= least * wholes:
            best = record.confidence
    return best


def apply_threshold(records: Sequence[Record], threshold: float) -> CascadeResult:
    accepted = [record for record in records if (record.confidence or 0) >= threshold]
    inside = ratio([record.headline for record in accepted], None, 0) if accepted else None
    return CascadeResult(len(accepted) / len(records), inside)
