"""The scheduler of an OpenVINO decoder: it packs the sequences of many threads into forward passes of one network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from threading import Condition, Event
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from tunewright.inference.runtimes.openvino.adapter import Adapter
from tunewright.inference.runtimes.openvino.blocks import START, BlockChain, BlockPool
from tunewright.inference.runtimes.openvino.passes import MIN_TOGETHER, PASS_TOKENS, PassNetwork, SequencePart

_PATIENCE = 0.005
"""Seconds that a pass waits for sequences whose next token is likely to come soon."""


@dataclass(eq=False)
class SequenceRequest:
    """A sequence whose logits a client waits for."""

    ids: list[int]
    """Its tokens; ~token for one that runs alone in its pass."""
    adapter: Adapter | None
    choices: Sequence[int] | None = None
    """The tokens whose logits the client needs; None: all."""
    decoding: bool = False
    """Whether the client is likely to send the next token soon."""
    chain: BlockChain = field(default_factory=BlockChain)
    started: bool = False
    answered: Event = field(default_factory=Event)
    logits: npt.NDArray[np.float32] | None = None
    """Of the choices, in their order, or of the vocabulary."""
    error: Exception | None = None

    @property
    def left(self) -> int:
        """Tokens that still have to run."""
        return len(self.ids) - self.chain.known

    @property
    def together(self) -> int:
        """How many of them can run in one pass."""
        following = islice(self.ids, self.chain.known, None)
        return sum(1 for _ in takewhile(lambda token: token >= 0, following)) or 1

    @property
    def halved(self) -> bool:
        """Whether a token would run alone that must not."""
        return self.together < MIN_TOGETHER and self.ids[self.chain.known] >= 0


class PassScheduler:
    """Runs the requested sequences, pass by pass, in the thread that calls `run`."""

    def __init__(self, network: PassNetwork):
        self._network = network
        self._pool = BlockPool(network.blocks, network.block_size, network.copy)
        self._roots: WeakKeyDictionary[Adapter, int] = WeakKeyDictionary()
        """A root for the sequences of each adapter, so that adapters share no blocks."""
        self._requests: list[SequenceRequest] = []
        self._decoding = 0
        """Clients that decode: those that have waited since the last pass, and those that got an answer and may send
        the next token."""
        self._wake = Condition()
        self._closed = False

    def kept(self, ids: Sequence[int]) -> list[int]:
        """The blocks that hold the beginning of a sequence, as far as blocks are full. Only for a scheduler that has no
        request."""
        chain = self._pool.find(ids, len(ids) // self._pool.size * self._pool.size)
        places = chain.places
        self._pool.release(chain, ids)
        return places

    def keep(self, ids: Sequence[int]) -> list[int]:
        """Blocks for a sequence of whole blocks, which the caller fills before `run`. Empty if there are too few."""
        chain = BlockChain()
        if not self._pool.grow(chain, len(ids)):
            return []
        places = chain.places
        self._pool.record(chain, ids, len(ids))
        self._pool.release(chain, ids)
        return places

    def submit(self, requests: Sequence[SequenceRequest]) -> None:
        """Queue sequences."""
        with self._wake:
            if not self._closed:
                self._requests += requests
                self._wake.notify()
                return
        for request in requests:
            request.error = RuntimeError("it is closed")
            request.answered.set()

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()

    def closed(self) -> bool:
        """Whether the scheduler has stopped."""
        return self._closed

    def run(self) -> None:
        """Run passes until the scheduler is closed or fails for good. Clients that still wait then get an error."""
        reason = RuntimeError("it is closed")
        try:
            while waiting := self._next():
                try:
                    self._run_pass(self._compose(waiting))
                except Exception as error:  # noqa: BLE001 (the clients that wait must get the error)
                    self._end(waiting, error)
        except Exception as error:
            reason = RuntimeError(f"it failed: {error}")
            raise
        finally:
            with self._wake:
                self._closed = True
            for request in self._requests:
                request.error = reason
                request.answered.set()

    def _next(self) -> list[SequenceRequest]:
        """Wait for requests and return them all; none if the scheduler is closed."""
        with self._wake:
            self._await()
            return [] if self._closed else list(self._requests)

    def _await(self) -> None:
        """Wait until there is a request, and then a moment for the other clients that decode: one pass with all of
        them is faster than two passes with half of them each."""
        while not self._requests and not self._closed:
            self._wake.wait()
        until = time.monotonic() + _PATIENCE
        while sum(request.decoding for request in self._requests) < self._decoding and not self._closed:
            self._start(self._requests)
            full = sum(request.left for request in self._requests) >= PASS_TOKENS
            if full or not self._wake.wait(until - time.monotonic()):
                return

    def _end(self, requests: Sequence[SequenceRequest], error: Exception | None = None) -> None:
        for request in requests:
            self._pool.release(request.chain, request.ids)
            request.error = error
        with self._wake:
            self._decoding = sum(request.decoding for request in self._requests)
            self._requests = [request for request in self._requests if request not in requests]
        for request in requests:
            request.answered.set()

    def _compose(self, waiting: Sequence[SequenceRequest]) -> list[tuple[SequenceRequest, int]]:
        """The next pass: sequences, and how many tokens of each to run.

        The oldest is always in it. The others come in the order of the passes that they still need, fewest first, so
        that nobody waits behind a long one.
        """
        self._start(waiting)
        first, *others = waiting
        rows: list[tuple[SequenceRequest, int]] = []
        begun = set()
        space, most = PASS_TOKENS, PASS_TOKENS if not others else PASS_TOKENS // 2
        adapters = self._adapters(waiting)
        for request in (first, *sorted(others, key=lambda each: each.left // (PASS_TOKENS // 2))):
            if request.adapter and request.adapter not in adapters:
                continue
            if (block := self._next_block(request)) in begun:
                # Another sequence of this pass runs it. This one looks it up in the next pass.
                self._release(request)
                continue
            together = request.together
            count = min(together, most, max(space, MIN_TOGETHER))
            if together - count == 1:  # a single token must not be left over
                count += 1
            if self._pool.grow(request.chain, request.chain.known + count):
                rows.append((request, count))
                begun |= {block} if block else set()
                space -= count
            if space <= 0:
                break
        if not rows:
            # Unfinished sequences hold all blocks. All but the oldest start again later.
            for request in others:
                self._release(request)
            return self._compose([first])
        return rows

    def _next_block(self, request: SequenceRequest) -> tuple[int, int, tuple[int, ...]] | None:
        """What the block that a sequence runs next will hold, if other sequences can use it then."""
        size = self._network.block_size
        begin = request.chain.known // size * size
        if begin + size > len(request.ids) - MIN_TOGETHER:
            return None
        return request.chain.root, begin, tuple(request.ids[begin : begin + size])

    def _release(self, request: SequenceRequest) -> None:
        """Take a sequence out of memory. It starts again in a later pass."""
        self._pool.release(request.chain, request.ids)
        request.started = False

    def _start(self, requests: Sequence[SequenceRequest]) -> None:
        """Look up which tokens of new sequences are in memory."""
        for request in requests:
            if not request.started:
                least = 1 if request.ids[-1] < 0 else MIN_TOGETHER
                root = self._root(request.adapter)
                request.chain = self._pool.find(request.ids, len(request.ids) - least, root)
                if request.halved and request.chain.known:  # a block of tokens that belong together was dropped
                    request.chain.known -= 1
                request.started = True

    def _root(self, adapter: Adapter | None) -> int:
        if adapter is None:
            return START
        if adapter not in self._roots:
            self._roots[adapter] = self._pool.new_root()
        return self._roots[adapter]

    def _adapters(self, waiting: Sequence[SequenceRequest]) -> list[Adapter]:
        """The adapters of the next pass: those of the requests that have waited longest."""
        return list(dict.fromkeys(request.adapter for request in waiting if request.adapter))[: self._network.slots]

    def _run_pass(self, rows: Sequence[tuple[SequenceRequest, int]]) -> None:
        logits = iter(self._network.forward([_part(request, count) for request, count in rows]))
        done = []
        for request, count in rows:
            finished = count == request.left
            self._pool.record(request.chain, request.ids, request.chain.known + count)
            if finished:
                row = next(logits)
                request.logits = np.array(row if request.choices is None else row[request.choices])
                done.append(request)
        self._end(done)


def _part(request: SequenceRequest, count: int) -> SequencePart:
    """The next tokens of a sequence."""
    known = request.chain.known
    tokens = [token if token >= 0 else ~token for token in request.ids[known : known + count]]
    return SequencePart(tokens, known, request.chain.places, request.adapter, count == request.left, request.choices)
