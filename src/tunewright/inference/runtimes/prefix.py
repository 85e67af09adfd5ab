"""How much of a key-value cache the next call can reuse."""

from __future__ import annotations

from collections.abc import Sequence


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading tokens of `right` a cache of `left` can serve. At least one token of `right` is left to run."""
    limit = min(len(left), len(right) - 1)
    for position in range(limit):
        if left[position] != right[position]:
            return position
    return limit


def prefix_of_all(sequences: Sequence[list[int]]) -> int:
    """How many tokens all of them begin with, by `common_prefix`: the first and the last in order differ soonest."""
    return common_prefix(min(sequences), max(sequences))
