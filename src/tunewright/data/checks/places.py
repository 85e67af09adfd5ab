"""Showing the rows that a finding concerns."""

from __future__ import annotations

from collections.abc import Iterable

from tunewright.data.checks.kinds import Place
from tunewright.data.checks.survey import FIRST, Split, excerpt


def places(split: Split, rows: Iterable[int]) -> tuple[Place, ...]:
    """Where the first of some rows stand, and how they begin."""
    shown = []
    for row, _ in zip(rows, range(FIRST), strict=False):
        example = split.example(int(row))
        shown.append(Place(example.meta.source or example.meta.id, excerpt(example)))
    return tuple(shown)
