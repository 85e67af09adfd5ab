"""Some of many rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

_Row = TypeVar("_Row")


def evenly(rows: Sequence[_Row], most: int) -> list[_Row]:
    """At most `most` of the rows, evenly spaced."""
    stride = max(1, len(rows) / most)
    return [rows[int(stride * number)] for number in range(min(most, len(rows)))]
