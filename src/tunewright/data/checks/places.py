"""Showing the rows that a finding concerns."""

from __future__ import annotations

from collections.abc import Iterable

from tunewright.data.checks.kinds import FindingPlace
from tunewright.data.checks.survey import FIRST, Split, excerpt
from tunewright.tasks import Example


def places(split: Split, rows: Iterable[int]) -> tuple[FindingPlace, ...]:
    """Where the first of some rows stand, and how they begin."""
    examples = (split.example(row) for row, _ in zip(rows, range(FIRST), strict=False))
    return tuple(FindingPlace(place_of(example), excerpt(example)) for example in examples)


def pair_places(split: Split, rows: Iterable[int], other: Split, others: Iterable[int]) -> tuple[FindingPlace, ...]:
    """The same of rows that resemble others, with what they resemble."""
    shown = []
    for row, like, _ in zip(rows, others, range(FIRST), strict=False):
        example, original = split.example(row), other.example(like)
        text = f"{excerpt(example)} · like {place_of(original)} {excerpt(original)}"
        shown.append(FindingPlace(place_of(example), text))
    return tuple(shown)


def place_of(example: Example) -> str:
    return example.meta.source or example.meta.id
