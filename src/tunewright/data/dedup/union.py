"""Sets that grow together: a union-find forest (Galler and Fischer 1964), with paths halved."""

from __future__ import annotations


class DisjointSets:
    """Sets of indices; one that was never joined with another is alone."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def head(self, index: int) -> int:
        """The set's first member, which stands for it."""
        above = self._above
        while (parent := above.get(index, index)) != index:
            above[index] = above.get(parent, parent)
            index = parent
        return index

    def join(self, first: int, second: int) -> None:
        low, high = sorted((self.head(first), self.head(second)))
        if low != high:
            self._above[high] = low
