"""Which block of memory holds the keys and values of which tokens; what sequences have in common is held once.

A block holds a few tokens in a row and follows another one, so that a chain of blocks is a sequence from its beginning.
Blocks are found again by their exact tokens and the block they follow. Nobody's content is ever taken for another's:
content has a number that no other content gets (Kwon et al. 2023 share blocks so, by hashes).
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tunewright.inference.runtimes.prefix import common_prefix

START = 0
"""The content that every first block follows."""
_WORTH_A_COPY = 4
"""Tokens: fewer are read again sooner than a block is copied."""


@dataclass(eq=False)
class Block:
    """A place in memory."""

    index: int
    users: int = 0
    """Sequences that are being read and need its content."""
    content: int = -1
    """The number of what it holds; -1: nothing that could be found again."""
    follows: int = -1
    tokens: tuple[int, ...] = ()


@dataclass
class BlockChain:
    """A sequence in memory."""

    root: int = START
    """What its first block follows."""
    blocks: list[Block] = field(default_factory=list)
    known: int = 0
    """Tokens that are there, from the beginning."""


class BlockPool:
    """Blocks, found by content, the longest unused ones given away first.

    Args:
        count: blocks.
        size: tokens of one.
        copy: copies the content of one block, by index, over another's.
    """

    def __init__(self, count: int, size: int, copy: Callable[[int, int], None]):
        self.size = size
        self._copy = copy
        self._free = [Block(index) for index in reversed(range(count))]
        self._idle: OrderedDict[int, Block] = OrderedDict()
        """Blocks with content that nobody uses now, the longest unused first; by content."""
        self._full: dict[tuple[int, tuple[int, ...]], Block] = {}
        self._following: dict[int, list[Block]] = defaultdict(list)
        """For each content, the blocks that follow it."""
        self._last = START

    @property
    def available(self) -> int:
        """Blocks that can be had."""
        return len(self._free) + len(self._idle)

    def new_root(self) -> int:
        """Something for first blocks to follow that none follows yet: what another model left can't be used."""
        self._last += 1
        return self._last

    def find(self, ids: Sequence[int], most: int, root: int = START) -> BlockChain:
        """As much of a sequence as is in memory; to be given back with `release`.

        Args:
            most: tokens that may be found, fewer than it has.
            root: what its first block follows.
        """
        chain, content = BlockChain(root), root
        while len(chain.blocks) < most // self.size:
            block = self._full.get((content, tuple(ids[chain.known : chain.known + self.size])))
            if not block:
                break
            self._use(block)
            chain.blocks.append(block)
            chain.known += self.size
            content = block.content
        self._find_part(chain, content, ids[chain.known : min(most, chain.known + self.size) + 1])
        return chain

    def _find_part(self, chain: BlockChain, content: int, ids: Sequence[int]) -> None:
        """Go on with a part of the block that has most of the next tokens; the last of `ids` stays to be read."""
        alike = [(common_prefix(block.tokens, ids), block) for block in self._following.get(content, ())]
        shared, block = max(alike, key=lambda pair: pair[0], default=(0, None))
        if block is None or shared == 0:
            return
        if block.users == 0 and len(block.tokens) == shared < self.size:
            # Its tokens are the beginning of ours, and it has room: it is simply written on.
            self._use(block)
            self._forget(block)
            chain.blocks.append(block)
        elif shared >= _WORTH_A_COPY and self.available - (block.users == 0):
            self._use(block)
            fresh = self._take()
            self._copy(block.index, fresh.index)
            self._give_back(block)
            chain.blocks.append(fresh)
        else:
            return
        chain.known += shared

    def grow(self, chain: BlockChain, tokens: int) -> bool:
        """Make room for so many tokens in all; whether there was enough."""
        needed = -(-tokens // self.size) - len(chain.blocks)
        if needed > self.available:
            return False
        chain.blocks += [self._take() for _ in range(needed)]
        return True

    def record(self, chain: BlockChain, ids: Sequence[int], known: int) -> None:
        """Note that the first `known` tokens of a sequence are in memory now, so that full blocks can be found."""
        for place in range(chain.known // self.size, known // self.size):
            self._label(chain, place, ids, self.size)
        chain.known = known

    def release(self, chain: BlockChain, ids: Sequence[int]) -> None:
        """Give a chain back; what it holds can be found until the room is needed."""
        used = -(-chain.known // self.size)
        if chain.known % self.size:
            self._label(chain, used - 1, ids, chain.known % self.size)
        # The end is given away before what it follows.
        for block in reversed(chain.blocks):
            self._give_back(block)
        chain.blocks = []
        chain.known = 0

    def _label(self, chain: BlockChain, place: int, ids: Sequence[int], count: int) -> None:
        """Give the block at a place of the chain its content."""
        block = chain.blocks[place]
        follows = chain.blocks[place - 1].content if place else chain.root
        tokens = tuple(ids[place * self.size : place * self.size + count])
        if block.content >= 0:
            return
        twin = self._full.get((follows, tokens))
        if twin:
            # Somebody read the same meanwhile. One is enough, and those behind must follow one that is found.
            self._use(twin)
            self._give_back(block)
            chain.blocks[place] = twin
            return
        self._last += 1
        block.content, block.follows, block.tokens = self._last, follows, tokens
        self._following[follows].append(block)
        if count == self.size:
            self._full[follows, tokens] = block

    def _use(self, block: Block) -> None:
        if block.users == 0:
            self._idle.pop(block.content, None)
        block.users += 1

    def _give_back(self, block: Block) -> None:
        block.users -= 1
        if block.users == 0:
            if block.content < 0:
                self._free.append(block)
            else:
                self._idle[block.content] = block

    def _take(self) -> Block:
        if self._free:
            block = self._free.pop()
        else:
            _, block = self._idle.popitem(last=False)
            self._forget(block)
        block.users = 1
        return block

    def _forget(self, block: Block) -> None:
        """Its content can't be found any more, nor what follows it."""
        self._full.pop((block.follows, block.tokens), None)
        others = self._following[block.follows]
        others.remove(block)
        if not others:
            del self._following[block.follows]
        block.content, block.follows, block.tokens = -1, -1, ()
