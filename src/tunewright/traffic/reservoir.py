"""A random sample of a stream of unknown length."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


class Reservoir(Generic[_Item]):
    """Keeps some items of a stream, such that each has the same chance to be kept (Vitter 1985, algorithm R).

    Args:
        most: items to keep.
    """

    def __init__(self, most: int, chance: random.Random):
        self._most, self._chance = most, chance
        self.seen = 0
        self.items: list[_Item] = []

    def offer(self, make: Callable[[], _Item]) -> None:
        """Count the next item, and make it if it is drawn."""
        self.seen += 1
        if len(self.items) < self._most:
            self.items.append(make())
        elif (place := self._chance.randrange(self.seen)) < self._most:
            self.items[place] = make()
