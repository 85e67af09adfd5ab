"""A random sample in bounded memory."""

from __future__ import annotations

import random

from tunewright.traffic.reservoir import Reservoir, Room


def test_reservoirs_share_their_room_and_each_item_has_the_same_chance() -> None:
    counts = [0] * 300
    for seed in range(300):
        chance, room = random.Random(seed), Room(1000)
        long, short = (Reservoir[int](50, chance, room, lambda _, size=size: size) for size in (90, 1))
        for number in range(300):
            long.offer(lambda number=number: number)
            short.offer(lambda number=number: number)
        assert (len(short.items), short.is_whole) == (50, False)
        assert 5 <= len(long.items) < 12
        assert (long.size, short.size) == (90 * len(long.items), 50)
        assert long.items == [*dict.fromkeys(long.items)]
        for number in long.items:
            counts[number] += 1
    thirds = [sum(counts[begin : begin + 100]) for begin in (0, 100, 200)]
    assert max(thirds) < 1.25 * min(thirds)


def test_one_item_is_kept_however_large() -> None:
    only = Reservoir[str](5, random.Random(0), Room(3), len)
    for _ in range(4):
        only.offer(lambda: "large")
    assert only.items == ["large"]
