"""Who is read when: sequences that many threads ask about, packed into passes of one network."""

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
from tunewright.inference.runtimes.openvino.network import PagedNetwork, SequencePart

_PASS = 256
"""Tokens of a pass. More are hardly read any faster, and everybody in a pass waits for its end."""
_LEAST = 2
"""Tokens in a pass of what is not to be read one by one."""
_PATIENCE = 0.005
"""Seconds that a pass waits for those who are likely to ask on."""


@dataclass(eq=False)
class Ask:
    """A sequence whose logits somebody waits for."""

    ids: list[int]
    """Its tokens; ~token where one is read alone."""
    adapter: Adapter | None
    writes: bool = False
    """Whether whoever asks is likely to ask for the next token soon."""
    chain: BlockChain = field(default_factory=BlockChain)
    begun: bool = False
    answered: Event = field(default_factory=Event)
    logits: npt.NDArray[np.float32] | None = None
    error: Exception | None = None

    @property
    def left(self) -> int:
        """Tokens that are to be read."""
        return len(self.ids) - self.chain.known

    @property
    def together(self) -> int:
        """How many of them can be read in one pass."""
        following = islice(self.ids, self.chain.known, None)
        return sum(1 for _ in takewhile(lambda token: token >= 0, following)) or 1

    @property
    def halved(self) -> bool:
        """Whether one token would be read alone that must not be."""
        return self.together < _LEAST and self.ids[self.chain.known] >= 0


class PassScheduler:
    """Reads what is asked, pass by pass, in a thread that `run`s."""

    def __init__(self, network: PagedNetwork):
        self._network = network
        self._pool = BlockPool(network.blocks, network.block_size, network.copy)
        self._roots: WeakKeyDictionary[Adapter, int] = WeakKeyDictionary()
        """For each adapter, what its sequences follow: none of it is another's."""
        self._asks: list[Ask] = []
        self._writers = 0
        """Askers that write: those who wait since the last pass, and those who were answered and may ask on."""
        self._wake = Condition()
        self._closed = False

    def ask(self, asks: Sequence[Ask]) -> None:
        """Take sequences on."""
        with self._wake:
            if not self._closed:
                self._asks += asks
                self._wake.notify()
                return
        for ask in asks:
            ask.error = RuntimeError("it is closed")
            ask.answered.set()

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()

    def closed(self) -> bool:
        """Whether nothing is read any more."""
        return self._closed

    def run(self) -> None:
        """Read until it is closed, or fails where it must not. Whoever waits then is told."""
        reason = RuntimeError("it is closed")
        try:
            while waiting := self._next():
                try:
                    self._read(self._compose(waiting))
                except Exception as error:  # noqa: BLE001 (whoever waits must hear of it)
                    self._end(waiting, error)
        except Exception as error:
            reason = RuntimeError(f"it failed: {error}")
            raise
        finally:
            with self._wake:
                self._closed = True
            for ask in self._asks:
                ask.error = reason
                ask.answered.set()

    def _next(self) -> list[Ask]:
        """Those who wait, as soon as there are any; none where it is closed."""
        with self._wake:
            self._await()
            return [] if self._closed else list(self._asks)

    def _await(self) -> None:
        """Wait until there is something to be read, and a moment for those who write: all in one pass they are read
        sooner than one half after the other."""
        while not self._asks and not self._closed:
            self._wake.wait()
        until = time.monotonic() + _PATIENCE
        while sum(ask.writes for ask in self._asks) < self._writers and not self._closed:
            self._begin(self._asks)
            if sum(ask.left for ask in self._asks) >= _PASS or not self._wake.wait(until - time.monotonic()):
                return

    def _end(self, asks: Sequence[Ask], error: Exception | None = None) -> None:
        for ask in asks:
            self._pool.release(ask.chain, ask.ids)
            ask.error = error
        with self._wake:
            self._writers = sum(ask.writes for ask in self._asks)
            self._asks = [ask for ask in self._asks if ask not in asks]
        for ask in asks:
            ask.answered.set()

    def _compose(self, waiting: Sequence[Ask]) -> list[tuple[Ask, int]]:
        """The next pass: sequences, and how many tokens of each are read. The oldest is never left out; of the others
        those come first that are done in the fewest passes, so that nobody waits behind a long one."""
        self._begin(waiting)
        first, *others = waiting
        rows: list[tuple[Ask, int]] = []
        room, most = _PASS, _PASS if not others else _PASS // 2
        adapters = self._together(waiting)
        for ask in (first, *sorted(others, key=lambda ask: ask.left // (_PASS // 2))):
            if ask.adapter and ask.adapter not in adapters:
                continue
            together = ask.together
            count = min(together, most, max(room, _LEAST))
            if together - count == 1:  # what is left must be enough for a pass
                count += 1
            if self._pool.grow(ask.chain, ask.chain.known + count):
                rows.append((ask, count))
                room -= count
            if room <= 0:
                break
        if not rows:
            # Sequences that are half read hold all blocks: but for the oldest they begin again later.
            for ask in others:
                self._pool.release(ask.chain, ask.ids)
                ask.begun = False
            return self._compose([first])
        return rows

    def _begin(self, asks: Sequence[Ask]) -> None:
        """Find what of new sequences is in memory."""
        for ask in asks:
            if not ask.begun:
                least = 1 if ask.ids[-1] < 0 else _LEAST
                ask.chain = self._pool.find(ask.ids, len(ask.ids) - least, self._root(ask.adapter))
                if ask.halved and ask.chain.known:  # a part of what belongs together was given away
                    ask.chain.known -= 1
                ask.begun = True

    def _root(self, adapter: Adapter | None) -> int:
        if adapter is None:
            return START
        if adapter not in self._roots:
            self._roots[adapter] = self._pool.new_root()
        return self._roots[adapter]

    def _together(self, waiting: Sequence[Ask]) -> list[Adapter]:
        """The adapters of the next pass: of those that wait the longest."""
        return list(dict.fromkeys(ask.adapter for ask in waiting if ask.adapter))[: self._network.places]

    def _read(self, rows: Sequence[tuple[Ask, int]]) -> None:
        logits = iter(self._network.read([_part(ask, count) for ask, count in rows]))
        done = []
        for ask, count in rows:
            finished = count == ask.left
            self._pool.record(ask.chain, ask.ids, ask.chain.known + count)
            if finished:
                ask.logits = np.array(next(logits))
                done.append(ask)
        self._end(done)


def _part(ask: Ask, count: int) -> SequencePart:
    """The next tokens of a sequence."""
    known = ask.chain.known
    tokens = [token if token >= 0 else ~token for token in ask.ids[known : known + count]]
    return SequencePart(
        tokens, known, [block.index for block in ask.chain.blocks], ask.adapter, asked=count == ask.left
    )
