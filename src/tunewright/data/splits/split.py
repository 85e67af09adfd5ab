"""Cutting off a part in whole blocks, stratified by answer or the newest. The same seed gives the same cut."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from tunewright.data.dedup.blocks import Block, blocks_of, key_of, members, rejoined
from tunewright.tasks import Example


@dataclass(frozen=True)
class Cut:
    """The blocks on the two sides of a cut, in their original order."""

    kept: list[Block]
    held: list[Block]
    newer: list[Example] = field(default_factory=list)
    """Examples of kept blocks that are newer than a held block; they are on neither side."""


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

    Where the cut separates near copies that the first search missed, their blocks are joined and the cut is repeated.
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
    """Hold out about `share` of the examples of each stratum (by default each label).

    A block counts for its most frequent stratum. Each stratum keeps at least one of its blocks, and a block with the
    last examples of a stratum stays, because a label that can't be learnt can't be tested either. Blocks larger than
    the share of their stratum come last. A block is not taken if the share would then be exceeded by more than it is
    short now. So a block with much of the data stays, and the others fill the share as far as they can.
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
        target = share * sum(len(blocks[index]) for index in indices)
        indices.sort(key=lambda index: len(blocks[index]) > target)
        taken = 0
        for index in indices[:-1]:
            counts = Counter(map(stratum, blocks[index]))
            if taken + len(blocks[index]) / 2 <= target and all(counts[each] < left[each] for each in counts):
                held.add(index)
                taken += len(blocks[index])
                left.subtract(counts)
    return _cut(blocks, held)


def cut_newest(blocks: Sequence[Block], share: float, seed: int, instants: Mapping[str, float]) -> Cut:
    """Hold out the newest examples, about `share` of all.

    A block is as new as its newest example. So no kept example is newer than any held-out block, and a model trained on
    the kept ones knows nothing of later times. With a block's oldest example as its age, the newest rows of a block
    across the boundary would stay in training, and with them the period of the test. The cost of this choice: such a
    block brings its older rows into the test.

    A block is kept if it is so large that holding it out would miss the share by more than keeping it. The share then
    applies to the other rows, and the block's rows that are newer than a held block are on neither side (`Cut.newer`).
    Blocks of one instant are in seeded random order. The oldest block is kept.

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
            break  # Taking older blocks instead would keep a newer one.
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
