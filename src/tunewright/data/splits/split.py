"""Cutting a part off: by whole blocks, stratified by answer or the newest, the same cut for the same seed."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tunewright.data.dedup.blocks import Block, blocks_of, key_of, members, rejoined
from tunewright.tasks import Example


@dataclass(frozen=True)
class Cut:
    """Blocks on one side and on the other, in the order they had."""

    kept: list[Block]
    held: list[Block]
    newer: list[Example] = field(default_factory=list)
    """Taken out of a kept block that is too large to hold out, because they are newer than a held one."""


def answer_of(example: Example) -> str:
    return example.answer


def hold_out(examples: Sequence[Example], share: float, seed: int) -> tuple[list[Example], list[Example]]:
    """Split into (kept, held out), stratified by answer; see `cut_blocks`."""
    if share <= 0:
        return list(examples), []
    cut = cut_blocks(blocks_of(examples), share, seed)
    return members(cut.kept), members(cut.held)


def cut_blocks(
    blocks: Sequence[Block],
    share: float,
    seed: int,
    instants: Mapping[str, float] | None = None,
    *,
    stratum: Callable[[Example], str] = answer_of,
) -> Cut:
    """Hold out about `share` of the examples: stratified, or the newest where `instants` are given.

    Where the cut has parted near copies that were not yet known to be, their blocks are made one and it is done again.
    """
    blocks = list(blocks)
    while True:
        cut = cut_newest(blocks, share, seed, instants) if instants else cut_stratified(blocks, share, seed, stratum)
        joined = rejoined(blocks, cut.kept, cut.held)
        if len(joined) == len(blocks):
            return cut
        blocks = joined


def cut_stratified(
    blocks: Sequence[Block], share: float, seed: int, stratum: Callable[[Example], str] = answer_of
) -> Cut:
    """Hold out about `share` of each stratum's examples; a label is one.

    A block counts for its most frequent stratum. Each keeps at least one of its blocks, and no block is taken that
    holds the last examples of any: what can't be learnt can't be tested either. Blocks larger than what is wanted of
    their stratum come last, and none is taken that would overshoot by more than it now falls short: a block
    that swallowed much of the data stays, and the share is met from the others as far as they go.
    """
    by_stratum: dict[str, list[int]] = defaultdict(list)
    keys = [key_of(block) for block in blocks]
    for index, block in enumerate(blocks):
        counts = Counter(map(stratum, block))
        by_stratum[min(counts, key=lambda name: (-counts[name], name))].append(index)
    held: set[int] = set()
    left = Counter(stratum(example) for block in blocks for example in block)
    shuffler = random.Random(seed)
    for name in sorted(by_stratum):
        indices = sorted(by_stratum[name], key=keys.__getitem__)
        shuffler.shuffle(indices)
        wanted = share * sum(len(blocks[index]) for index in indices)
        indices.sort(key=lambda index: len(blocks[index]) > wanted)
        taken = 0
        for index in indices[:-1]:
            counts = Counter(map(stratum, blocks[index]))
            if taken + len(blocks[index]) / 2 <= wanted and all(counts[each] < left[each] for each in counts):
                held.add(index)
                taken += len(blocks[index])
                left.subtract(counts)
    return _cut(blocks, held)


def cut_newest(blocks: Sequence[Block], share: float, seed: int, instants: Mapping[str, float]) -> Cut:
    """Hold out about `share` of the examples, the newest.

    A block is as new as its newest example. So nothing that is kept is newer than any block that is held out, and a
    model trained on the kept ones knows nothing that was said only later. The other choice, a block's oldest example,
    would keep the newest rows of a block that reaches over the boundary, and with them the period of the test. What it
    costs: such a block brings its older rows into the test.

    A block so large that holding it out would miss the share by more than leaving it is kept, and the share is one of
    the other rows; its rows that are newer than a held block are on neither side (`Cut.newer`). Blocks of one instant
    are in seeded random order. The oldest block is kept.

    Args:
        instants: seconds for every `meta.time` of the examples.
    """
    rest = sum(map(len, blocks))
    for size in sorted(map(len, blocks), reverse=True):
        if size / 2 <= share * rest:
            break
        rest -= size
    ages = [max(instants[example.meta.time or ""] for example in block) for block in blocks]
    order = sorted(range(len(blocks)), key=lambda index: key_of(blocks[index]))
    random.Random(seed).shuffle(order)
    order.sort(key=lambda index: -ages[index])
    held: set[int] = set()
    taken = 0
    for index in order[:-1]:
        size = len(blocks[index])
        if size / 2 > share * rest:
            continue
        if taken + size / 2 > share * rest:
            break  # To take older ones instead would leave a newer one behind.
        held.add(index)
        taken += size
    cut = _cut(blocks, held)
    if not held:
        return cut
    boundary = min(ages[index] for index in held)
    newer = [e for block in cut.kept for e in block if instants[e.meta.time or ""] > boundary]
    kept = [[e for e in block if instants[e.meta.time or ""] <= boundary] for block in cut.kept]
    return Cut([block for block in kept if block], cut.held, newer)


def _cut(blocks: Sequence[Block], held: set[int]) -> Cut:
    return Cut(
        [block for index, block in enumerate(blocks) if index not in held],
        [block for index, block in enumerate(blocks) if index in held],
    )
