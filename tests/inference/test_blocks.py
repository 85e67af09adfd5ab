"""Blocks of keys and values: found blocks have the right content, and blocks in use are never reused."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tunewright.inference.runtimes.openvino.blocks import BlockChain, BlockPool

SIZE = 4


class Memory:
    """A pool over real content: each place holds the token that was written there, with its whole past."""

    def __init__(self, count: int):
        self.places: list[list[tuple[int, ...]]] = [[()] * SIZE for _ in range(count)]
        self.pool = BlockPool(count, SIZE, self._copy)
        self.copies = self.read = 0

    def _copy(self, source: int, target: int) -> None:
        self.copies += 1
        self.places[target] = list(self.places[source])

    def begin(self, ids: list[int]) -> BlockChain:
        chain = self.pool.find(ids, len(ids) - 1)
        assert chain.known < len(ids)
        self.check(chain, ids)
        return chain

    def write(self, chain: BlockChain, ids: list[int], to: int) -> bool:
        """Run a sequence further, like a model. Returns whether there was enough memory."""
        if not self.pool.grow(chain, to):
            return False
        for place in range(chain.known, to):
            self.places[chain.blocks[place // SIZE].index][place % SIZE] = tuple(ids[: place + 1])
        self.read += to - chain.known
        self.pool.record(chain, ids, to)
        self.check(chain, ids)
        return True

    def check(self, chain: BlockChain, ids: list[int]) -> None:
        """Check that the known tokens of the chain are in memory."""
        found = [self.places[chain.blocks[p // SIZE].index][p % SIZE] for p in range(chain.known)]
        assert found == [tuple(ids[: place + 1]) for place in range(chain.known)]

    def ask(self, ids: list[int]) -> int:
        """A sequence from beginning to end; returns how many of its tokens had to be read."""
        before = self.read
        chain = self.begin(ids)
        assert self.write(chain, ids, len(ids))
        self.pool.release(chain, ids)
        return self.read - before


def test_a_common_prefix_runs_once() -> None:
    memory = Memory(20)
    system = list(range(100, 110))
    assert memory.ask([*system, 1, 2, 3]) == 13
    # Two blocks of the system prompt are found. The rest of the third is too short to copy and runs again.
    assert memory.ask([*system, 4, 5, 6]) == 5
    assert memory.copies == 0


def test_a_sequence_that_goes_on_is_written_on_in_its_last_block() -> None:
    memory = Memory(20)
    ids = list(range(6))
    memory.ask(ids)
    assert memory.ask([*ids, 6]) == 1
    assert memory.ask([*ids, 6, 7, 8]) == 2
    assert memory.copies == 0


def test_a_branch_that_a_full_block_has_most_of_is_copied() -> None:
    memory = Memory(20)
    pool = memory.pool
    pool.size = 8
    memory.places = [[()] * 8 for _ in range(20)]
    chain = pool.find(ids := list(range(8)), 7)
    assert pool.grow(chain, 8)
    for place in range(8):
        memory.places[chain.blocks[0].index][place] = tuple(ids[: place + 1])
    pool.record(chain, ids, 8)
    pool.release(chain, ids)
    other = pool.find([0, 1, 2, 3, 4, 5, 99, 98, 97], 8)
    assert (other.known, memory.copies) == (6, 1)


def test_a_block_in_use_is_never_given_away() -> None:
    memory = Memory(4)
    one = memory.begin(first := [1] * 8)
    assert memory.write(one, first, 8)
    two = memory.begin(second := [2] * 12)
    assert not memory.write(two, second, 12)
    assert memory.write(two, second, 8)
    memory.check(one, first)
    memory.pool.release(one, first)
    assert memory.write(two, second, 12)


def test_two_sequences_with_the_same_tokens_share_their_blocks() -> None:
    memory = Memory(8)
    ids = [7] * 8
    one, two = memory.begin(ids), memory.begin(ids)
    assert memory.write(one, ids, 8)
    assert memory.write(two, ids, 8)
    assert one.blocks[0] is two.blocks[0]
    memory.pool.release(one, ids)
    memory.pool.release(two, ids)
    assert memory.pool.available == 8


@pytest.mark.slow
@given(st.integers(0, 2**32))
@settings(max_examples=300, deadline=None)
def test_the_content_is_right_for_any_requests_in_any_order(seed: int) -> None:
    rng = random.Random(seed)
    memory = Memory(10)
    under_way: list[tuple[BlockChain, list[int]]] = []
    for _ in range(60):
        if under_way and rng.random() < 0.6:
            number = rng.randrange(len(under_way))
            chain, ids = under_way[number]
            to = rng.randint(chain.known + 1, len(ids)) if chain.known < len(ids) else len(ids)
            if chain.known == len(ids) or rng.random() < 0.1:
                memory.pool.release(chain, ids)
                under_way.pop(number)
            else:
                memory.write(chain, ids, to)
        elif len(under_way) < 3:
            ids = [0] * rng.randint(0, 6) + [rng.randint(0, 1) for _ in range(rng.randint(1, 8))]
            under_way.append((memory.begin(ids), ids))
        for chain, ids in under_way:
            memory.check(chain, ids)
    for chain, ids in under_way:
        memory.pool.release(chain, ids)
    assert memory.pool.available == 10


@pytest.mark.parametrize("count", [1, 3])
def test_the_end_of_a_sequence_is_reused_before_its_beginning(count: int) -> None:
    memory = Memory(4)
    memory.ask(ids := list(range(16)))
    memory.ask([50 + n for n in range(SIZE * count)])
    assert memory.begin(ids).known == 16 - SIZE * max(count, 1)
