"""Paged key-value memory: which block holds which tokens. Sequences share the blocks of a common beginning.

A block holds a few consecutive tokens and follows another block, so a chain of blocks is a sequence from its beginning.
The pool finds a block by its exact tokens and the block it follows. It never mistakes one content for another, because
each content gets its own number (Kwon et al. 2023 share blocks like this, by hashes).
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tunewright.inference.runtimes.prefix import common_prefix

START = 0
"""The number that every first block follows."""
_WORTH_A_COPY = 4
"""Tokens from which copying a block is faster than running the tokens again."""


@dataclass(eq=False)
class Block:
    """A place in memory."""

    index: int
    users: int = 0
    """Running sequences that need its content."""
    content: int = -1
    """The number of its content; -1: it holds nothing that could be found again."""
    follows: int = -1
    tokens: tuple[int, ...] = ()


@dataclass
class BlockChain:
    """A sequence in memory."""

    root: int = START
    """The number that its first block follows."""
    blocks: list[Block] = field(default_factory=list)
    known: int = 0
    """Leading tokens of the sequence that are in memory."""

    @property
    def places(self) -> list[int]:
        """The indices of its blocks."""
        return [block.index for block in self.blocks]


class BlockPool:
    """Blocks that are found by content. The pool reuses the least recently used ones first.

    Args:
        count: number of blocks.
        size: tokens in a block.
        copy: copies one block over another, both by index.
    """

    def __init__(self, count: int, size: int, copy: Callable[[int, int], None]):
        self.size = size
        self._copy = copy
        self._free = [Block(index) for index in reversed(range(count))]
        self._idle: OrderedDict[int, Block] = OrderedDict()
        """Unused blocks with content, by content, the least recently used first."""
        self._full: dict[tuple[int, tuple[int, ...]], Block] = {}
        self._following: dict[int, list[Block]] = defaultdict(list)
        """For each content, the blocks that follow it."""
        self._last = START

    @property
    def available(self) -> int:
        """Blocks that can be handed out."""
        return len(self._free) + len(self._idle)

    def new_root(self) -> int:
        """A root that no block follows yet, for a model that can't use the blocks of another."""
        self._last += 1
        return self._last

    def find(self, ids: Sequence[int], most: int, root: int = START) -> BlockChain:
        """The part of a sequence that is in memory. Give it back with `release`.

        Args:
            most: maximum tokens to find; fewer than the sequence has.
            root: the number that its first block follows.
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
        """Use a part of the block that shares the most of the next tokens. The last of `ids` is left to run."""
        wanted, shared, block = tuple(ids[:-1]), 0, None
        for other in self._following.get(content, ()):
            # Comparing tuples is fast, and nearly all of the many blocks share no more than the first ones.
            if shared < len(wanted) and other.tokens[: shared + 1] == wanted[: shared + 1]:
                shared, block = common_prefix(other.tokens, ids), other
        if block is None:
            return
        if block.users == 0 and len(block.tokens) == shared < self.size:
            # Its tokens are the beginning of ours, and it has space: we append to it.
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
        """Add blocks until the chain can hold so many tokens. Returns whether there were enough."""
        needed = -(-tokens // self.size) - len(chain.blocks)
        if needed > self.available:
            return False
        chain.blocks += [self._take() for _ in range(needed)]
        return True

    def record(self, chain: BlockChain, ids: Sequence[int], known: int) -> None:
        """Note that the first `known` tokens of a sequence are in memory, so that `find` finds full blocks."""
        for place in range(chain.known // self.size, known // self.size):
            self._label(chain, place, ids, self.size)
        chain.known = known

    def release(self, chain: BlockChain, ids: Sequence[int]) -> None:
        """Give a chain back. `find` still finds its content until the blocks are reused."""
        used = -(-chain.known // self.size)
        if chain.known % self.size:
            self._label(chain, used - 1, ids, chain.known % self.size)
        # Blocks at the end are reused before those they follow.
        for block in reversed(chain.blocks):
            self._give_back(block)
        chain.blocks = []
        chain.known = 0

    def _label(self, chain: BlockChain, place: int, ids: Sequence[int], count: int) -> None:
        """Register the content of the block at a place of the chain."""
        block = chain.blocks[place]
        follows = chain.blocks[place - 1].content if place else chain.root
        tokens = tuple(ids[place * self.size : place * self.size + count])
        if block.content >= 0:
            return
        twin = self._full.get((follows, tokens))
        if twin:
            # Another sequence ran the same tokens meanwhile. Keep its block, which later blocks can follow.
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
        """Drop its content from the index. The blocks that follow it can't be found any more either."""
        self._full.pop((block.follows, block.tokens), None)
        others = self._following[block.follows]
        others.remove(block)
        if not others:
            del self._following[block.follows]
        block.content, block.follows, block.tokens = -1, -1, ()
