"""Blocks: the examples that must stay on one side of a split."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunewright.data.dedup.near import THRESHOLD, near_copies, near_duplicates
from tunewright.data.splits.folds import group_of
from tunewright.data.text import normal
from tunewright.tasks import Example

if TYPE_CHECKING:
    from scipy.cluster.hierarchy import DisjointSet

SEARCH = 0.7
"""Similarity to search at where no near copy may be missed. The search misses 1.4 % of the pairs just at its threshold,
but only 0.005 % of those 0.1 above it."""

Block = list[Example]


def blocks_of(examples: Sequence[Example]) -> list[Block]:
    """Examples in blocks: those of one group, of one text or nearly one text, and all that these join in turn.

    The order of the examples decides only the order of the result: blocks stand in the order of their first members,
    members in that of the examples. An empty group counts as no group.

    The joins chain: two customers who sent the same greeting are one block. So a block may grow large; the function
    that cuts the data decides what happens to it.
    """
    from scipy.cluster.hierarchy import DisjointSet

    sets = DisjointSet(range(len(examples)))
    firsts: dict[tuple[str, str], int] = {}
    for index, example in enumerate(examples):
        sets.merge(firsts.setdefault(("text", normal(example.request)), index), index)
        if example.meta.group:
            sets.merge(firsts.setdefault(("group", example.meta.group), index), index)
    # Where very many texts are alike the search compares only some pairs, so it gets the texts in sorted order.
    order = sorted(range(len(examples)), key=lambda index: examples[index].request)
    for pair in near_duplicates([examples[index].request for index in order], THRESHOLD):
        sets.merge(order[pair.first], order[pair.second])
    return _merged([[example] for example in examples], sets)


def rejoined(blocks: Sequence[Block], kept: Sequence[Block], held: Sequence[Block]) -> list[Block]:
    """The blocks, after joining those that a cut separated although they hold near copies of each other.

    `blocks_of` misses a few near copies; this search is more thorough, but only across the cut.

    Args:
        kept: the blocks on one side of the cut.
        held: the blocks on the other side.
    """
    from scipy.cluster.hierarchy import DisjointSet

    block_of = {id(example): index for index, block in enumerate(blocks) for example in block}
    left, right = (sorted(members(side), key=lambda example: example.request) for side in (kept, held))
    sets = DisjointSet(range(len(blocks)))
    for pair in near_copies([e.request for e in left], [e.request for e in right], SEARCH):
        if pair.jaccard >= THRESHOLD:
            sets.merge(block_of[id(left[pair.first])], block_of[id(right[pair.second])])
    return _merged(blocks, sets)


def key_of(block: Block) -> tuple[str, str]:
    """A key that no other block has, whatever the order of the members."""
    return min((group_of(example), normal(example.request)) for example in block)


def members(blocks: Sequence[Block]) -> list[Example]:
    return [example for block in blocks for example in block]


def _merged(blocks: Sequence[Block], sets: DisjointSet) -> list[Block]:
    merged: dict[int, Block] = {}
    for index, block in enumerate(blocks):
        merged.setdefault(sets[index], []).extend(block)
    return list(merged.values())
