"""Which examples must stay on one side of a split."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.data.dedup.near import THRESHOLD, near_copies, near_duplicates
from tunewright.data.dedup.union import DisjointSets
from tunewright.data.splits.folds import group_of
from tunewright.data.text import normal
from tunewright.tasks import Example

SEARCH = 0.7
"""Where none may be missed, near copies are searched for at this similarity: the search misses 1.4 % of the pairs just
at its threshold, but of those 0.1 above it 0.005 %."""

Block = list[Example]


def blocks_of(examples: Sequence[Example]) -> list[Block]:
    """Examples in blocks: those of one group, of one text or nearly one text, and whatever these join in turn.

    The order of the examples matters neither for which are joined nor for anything but the order of the result: blocks
    stand in the order of their first members, members in their own. An empty group is none.

    The joins chain: two customers who sent the same greeting are one block. So a block may grow large; whoever cuts
    the data says what becomes of such a one.
    """
    sets = DisjointSets()
    firsts: dict[tuple[str, str], int] = {}
    for index, example in enumerate(examples):
        sets.join(firsts.setdefault(("text", normal(example.request)), index), index)
        if example.meta.group:
            sets.join(firsts.setdefault(("group", example.meta.group), index), index)
    # The search compares only some where very many texts are alike, so it is given them in an order of their own.
    order = sorted(range(len(examples)), key=lambda index: examples[index].request)
    for pair in near_duplicates([examples[index].request for index in order], THRESHOLD):
        sets.join(order[pair.first], order[pair.second])
    return _merged([[example] for example in examples], sets)


def rejoined(blocks: Sequence[Block], kept: Sequence[Block], held: Sequence[Block]) -> list[Block]:
    """The blocks, with those made one that a cut parted although they have near copies in each other.

    `blocks_of` misses a few near copies; this looks harder, but only across the cut.

    Args:
        kept: what the cut left of the blocks on one side, and `held` on the other.
    """
    place = {id(example): index for index, block in enumerate(blocks) for example in block}
    left, right = (sorted(members(side), key=lambda example: example.request) for side in (kept, held))
    sets = DisjointSets()
    for pair in near_copies([e.request for e in left], [e.request for e in right], SEARCH):
        if pair.jaccard >= THRESHOLD:
            sets.join(place[id(left[pair.first])], place[id(right[pair.second])])
    return _merged(blocks, sets)


def key_of(block: Block) -> tuple[str, str]:
    """What names a block, whatever the order of its members: no other block has the same."""
    return min((group_of(example), normal(example.request)) for example in block)


def members(blocks: Sequence[Block]) -> list[Example]:
    return [example for block in blocks for example in block]


def _merged(blocks: Sequence[Block], sets: DisjointSets) -> list[Block]:
    merged: dict[int, Block] = {}
    for index, block in enumerate(blocks):
        merged.setdefault(sets.head(index), []).extend(block)
    return list(merged.values())
