"""Which examples must stay on one side of a split."""

from __future__ import annotations

from collections.abc import Sequence

from tunewright.data.near import near_duplicates
from tunewright.data.text import normal
from tunewright.tasks import Example

THRESHOLD = 0.8
"""Jaccard similarity from which two texts are near copies."""

Block = list[Example]


def blocks_of(examples: Sequence[Example]) -> list[Block]:
    """Examples in blocks: those of one group, of one text or nearly one text, and whatever these join in turn.

    The order of the examples matters neither for which are joined nor for anything but the order of the result: blocks
    stand in the order of their first members, members in their own. An empty group is none.

    The joins chain: two customers who sent the same greeting are one block. So a block may grow large; whoever cuts
    the data says what becomes of such a one.
    """
    owner = list(range(len(examples)))
    firsts: dict[tuple[str, str], int] = {}
    for index, example in enumerate(examples):
        _join(owner, firsts.setdefault(("text", normal(example.request)), index), index)
        if example.meta.group:
            _join(owner, firsts.setdefault(("group", example.meta.group), index), index)
    # The search compares only some where very many texts are alike, so it is given them in an order of their own.
    order = sorted(range(len(examples)), key=lambda index: examples[index].request)
    for pair in near_duplicates([examples[index].request for index in order], THRESHOLD):
        _join(owner, order[pair.first], order[pair.second])
    blocks: dict[int, Block] = {}
    for index, example in enumerate(examples):
        blocks.setdefault(_root(owner, index), []).append(example)
    return list(blocks.values())


def key_of(block: Block) -> tuple[str, str]:
    """What names a block, whatever the order of its members: no other block has the same."""
    return min((example.meta.group or normal(example.request), normal(example.request)) for example in block)


def members(blocks: Sequence[Block]) -> list[Example]:
    return [example for block in blocks for example in block]


def _root(owner: list[int], index: int) -> int:
    """The head of a tree of a union-find forest (Galler and Fischer 1964), with its path halved."""
    while owner[index] != index:
        owner[index] = owner[owner[index]]
        index = owner[index]
    return index


def _join(owner: list[int], first: int, second: int) -> None:
    """The earlier head leads, so that a block's head is its first member."""
    heads = sorted((_root(owner, first), _root(owner, second)))
    owner[heads[1]] = heads[0]
