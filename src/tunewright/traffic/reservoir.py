"""A random sample of a stream of unknown length, in bounded memory."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Generic, TypeVar

_Item = TypeVar("_Item")


class Room:
    """What some reservoirs may hold together. Where they hold more, the largest drops half of its items.

    Args:
        most: the sum of their items' sizes. Each reservoir keeps one item, though, however large.
    """

    def __init__(self, most: int):
        self._most = most
        self._taken = 0
        self._shared: list[Reservoir[Any]] = []

    def share(self, reservoir: Reservoir[Any]) -> None:
        self._shared.append(reservoir)

    def take(self, size: int) -> None:
        """Count what a reservoir holds more, or less."""
        self._taken += size
        while self._taken > self._most:
            largest = max(
                (each for each in self._shared if len(each.items) > 1), key=lambda each: each.size, default=None
            )
            if largest is None:
                return
            self._taken -= largest.halve()


class Reservoir(Generic[_Item]):
    """Keeps some items of a stream, such that each has the same chance to be kept (Vitter 1985, algorithm R).

    Args:
        most: items to keep.
        room: keeps fewer where they are large.
        size_of: an item's size, in the unit of the room.
    """

    def __init__(self, most: int, chance: random.Random, room: Room, size_of: Callable[[_Item], int]):
        self._most, self._chance = most, chance
        self._room, self._size_of = room, size_of
        self.seen = self.size = 0
        self.items: list[_Item] = []
        room.share(self)

    @property
    def is_whole(self) -> bool:
        """Whether it keeps all items so far."""
        return self.seen == len(self.items)

    def offer(self, make: Callable[[], _Item]) -> None:
        """Count the next item, and make it if it is drawn."""
        self.seen += 1
        if len(self.items) < self._most:
            self.items.append(make())
            self._count(self._size_of(self.items[-1]))
        elif (place := self._chance.randrange(self.seen)) < self._most:
            before = self._size_of(self.items[place])
            self.items[place] = make()
            self._count(self._size_of(self.items[place]) - before)

    def halve(self) -> int:
        """Drop half of the items, drawn at random, and keep no more from now on. Returns their size."""
        self._most = len(self.items) // 2
        self.items = [self.items[place] for place in sorted(self._chance.sample(range(len(self.items)), self._most))]
        before, self.size = self.size, sum(map(self._size_of, self.items))
        return before - self.size

    def _count(self, more: int) -> None:
        self.size += more
        self._room.take(more)
