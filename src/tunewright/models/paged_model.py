"""Running a decoder with OpenVINO for many askers at once: what they ask is read in common passes, without torch.

Whoever asks gives a whole sequence of tokens and waits for the logits behind it. A thread of its own packs what is new
of all sequences into passes. The same sequence gets the same logits to the last bit, whoever else asks and whatever was
asked before: sums over a row don't depend on the other rows. One token alone is read by another kernel than several, a
little otherwise. So what is given as a whole is read at least two tokens at a time, be the first of them in memory
already; only an answer that grows token by token is read so, and is remembered apart: a token that is read alone stands
as ~token in a sequence.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice, takewhile
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any
from weakref import WeakKeyDictionary, finalize

import numpy as np
import numpy.typing as npt

from tunewright.models.adapter import Adapter, side_by_side
from tunewright.models.blocks import START, BlockPool, Chain
from tunewright.models.paged_graph import DOWN, KEY_CACHE, SHARE, UP, VALUE_CACHE, Shape, adapted_matrices, build

_PASS = 256
"""Tokens of a pass. More are hardly read any faster, and everybody in a pass waits for its end."""
_LEAST = 2
"""Tokens of a sequence in a pass."""
_STEP = 8
"""Passes are filled up to multiples of so many tokens: for each length it ever met, the plug-in keeps about a megabyte
of code and room for good."""
_PATIENCE = 0.005
"""Seconds that a pass waits for those who are likely to ask on."""
_MEMORY = 256 * 2**20
"""Bytes for keys and values, if the context does not need more."""
_ADAPTERS = 4
"""Adapters in a pass: their columns are run for every token of it."""
_WIDTH = 16
"""Columns by which an adapter's place grows. All places are as wide as the largest adapter that was ever asked for, and
there are always as many: a product of another shape would be summed in another order, and what was rounded otherwise is
quantised otherwise."""
_CONTEXTS = 2
"""Sequences as long as the context that memory must hold."""


@dataclass(eq=False)
class _Ask:
    """A sequence whose logits somebody waits for."""

    ids: list[int]
    """Its tokens; ~token where one is read alone."""
    adapter: Adapter | None
    writes: bool = False
    """Whether whoever asks is likely to ask for the next token soon."""
    chain: Chain = field(default_factory=Chain)
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


class PagedNextToken:
    """Next-token logits, for many threads at once. When nobody holds it any more, or at `close`, the thread that reads
    ends and the memory is given back.

    Args:
        folder: what `tunewright.export.openvino` wrote.
        context: tokens that a sequence may have.
        threads: CPU threads; all cores by default.
        adapted: whether adapters may be asked for. Without any the logits are the same, found a little more slowly.
    """

    at_once = 32

    def __init__(self, folder: Path, *, context: int, threads: int | None = None, adapted: bool = False):
        self._context = context
        reader = _Reader(folder, context, threads, adapted=adapted)
        self._ask, self._reserve = reader.ask, reader.reserve
        self.close = finalize(self, reader.close)
        """End the thread; whoever waits is told."""
        Thread(target=reader.run, name="model", daemon=True).start()

    def with_adapter(self, adapter: Adapter) -> Adapted:
        """The same model as this adapter changes it."""
        self._reserve(adapter.rank)
        return Adapted(self, adapter)

    def __call__(self, ids: Sequence[int], adapter: Adapter | None = None) -> npt.NDArray[np.float32]:
        """Raises:
        ValueError: the sequence is longer than the context.
        RuntimeError: the model failed, or was closed.
        """
        (logits,) = self.many([ids], adapter)
        return logits

    def begin(self, prompt: Sequence[int], adapter: Adapter | None = None) -> Growing:
        """For an answer that is written behind a prompt."""
        return Growing(self, prompt, adapter)

    def many(self, sequences: Sequence[Sequence[int]], adapter: Adapter | None = None) -> list[npt.NDArray[np.float32]]:
        """Of several sequences, in common passes; raises what a call raises."""
        return self.answered([_Ask(list(ids), adapter) for ids in sequences])

    def answered(self, asks: Sequence[_Ask]) -> list[npt.NDArray[np.float32]]:
        """The logits that are asked for; for `Growing` and the methods above."""
        if (longest := max(len(ask.ids) for ask in asks)) > self._context:
            raise ValueError(f"a sequence of {longest} tokens, longer than {self._context}")
        self._ask(asks)
        return [_answer(ask) for ask in asks]


class Growing:
    """An answer as it is written: the logits behind it, each time it is longer; raises what `PagedNextToken` raises."""

    def __init__(self, model: PagedNextToken, prompt: Sequence[int], adapter: Adapter | None):
        self._model, self._adapter = model, adapter
        self._ids = list(prompt)
        self._known = 0
        self._begun = False

    def __call__(self, written: Sequence[int]) -> npt.NDArray[np.float32]:
        """Args:
        written: all its tokens so far.
        """
        fresh = written[self._known :]
        self._ids += [~fresh[0]] if self._begun and len(fresh) == 1 else fresh
        self._known, self._begun = len(written), True
        (logits,) = self._model.answered([_Ask(list(self._ids), self._adapter, writes=True)])
        return logits


class Adapted:
    """A `PagedNextToken` as one adapter changes it, beside all others."""

    def __init__(self, model: PagedNextToken, adapter: Adapter):
        self._model = model
        self._adapter = adapter
        self.at_once = model.at_once

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return self._model(ids, self._adapter)

    def many(self, sequences: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        return self._model.many(sequences, self._adapter)

    def begin(self, prompt: Sequence[int]) -> Growing:
        return self._model.begin(prompt, self._adapter)


def _answer(ask: _Ask) -> npt.NDArray[np.float32]:
    ask.answered.wait()
    if ask.logits is None:
        raise RuntimeError(f"the model could not read a request: {ask.error}") from ask.error
    return ask.logits


class _Reader:
    """The graph, its memory, and the thread that reads what is asked, pass by pass."""

    def __init__(self, folder: Path, context: int, threads: int | None, *, adapted: bool):
        import openvino

        core = openvino.Core()
        half = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        graph = build(folder, half=half, adapted=adapted)
        settings: dict[str, Any] = graph.settings | {"PERFORMANCE_HINT": "LATENCY"}
        settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
        compiled, shape = core.compile_model(graph.model, "CPU", settings), graph.shape
        self._request = compiled.create_infer_request()
        self._tensor = openvino.Tensor
        self._allocate(compiled, shape, context)
        self._roots: WeakKeyDictionary[Adapter, int] = WeakKeyDictionary()
        """For each adapter, what its sequences follow: none of it is another's."""
        self._sizes = _sizes(compiled, shape) if adapted else {}
        self._width = _WIDTH
        self._places: list[Adapter | None] = [None] * _ADAPTERS
        """Whose columns are set now."""
        if adapted:
            self._set_places()
        self._asks: list[_Ask] = []
        self._writers = 0
        """Askers that write: those who wait since the last pass, and those who were answered and may ask on."""
        self._wake = Condition()
        self._closed = False

    def _allocate(self, compiled: Any, shape: Shape, context: int) -> None:
        """Memory for blocks, as the plug-in wants it, and the pool that gives them out."""
        ports = {port.get_any_name(): port for port in compiled.inputs}
        names = [name.format(layer) for layer in range(shape.layers) for name in (KEY_CACHE, VALUE_CACHE)]
        sizes = {name: [side.get_length() for side in list(ports[name].partial_shape)[1:]] for name in names}
        size = sizes[names[0]][1]
        bytes_a_block = sum(int(np.prod(sizes[name])) * ports[name].element_type.size for name in names)
        count = max(_MEMORY // bytes_a_block, _CONTEXTS * -(-context // size))
        # The last block is that of tokens that only fill up a pass.
        tensors = {name: self._tensor(ports[name].element_type, [count + 1, *sizes[name]]) for name in names}
        for name, tensor in tensors.items():
            self._request.set_tensor(name, tensor)
        caches = [tensor.data for tensor in tensors.values()]

        def copy(source: int, target: int) -> None:
            for cache in caches:
                cache[target] = cache[source]

        self._pool, self._filling = BlockPool(count, size, copy), count

    def ask(self, asks: Sequence[_Ask]) -> None:
        """Take sequences on."""
        with self._wake:
            if not self._closed:
                self._asks += asks
                self._wake.notify()
                return
        for ask in asks:
            ask.error = RuntimeError("it is closed")
            ask.answered.set()

    def reserve(self, rank: int) -> None:
        """Make places wide enough for an adapter."""
        with self._wake:
            self._width = max(self._width, -(-rank // _WIDTH) * _WIDTH)

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()

    def run(self) -> None:
        """Read until it is closed."""
        while True:
            with self._wake:
                self._await()
                waiting = list(self._asks)
                if self._closed:
                    self._end(waiting, RuntimeError("it is closed"))
                    return
            try:
                self._read(self._compose(waiting))
            except Exception as error:  # noqa: BLE001 (whoever waits must hear of it)
                self._end(waiting, error)

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

    def _end(self, asks: Sequence[_Ask], error: Exception | None = None) -> None:
        for ask in asks:
            self._pool.release(ask.chain, ask.ids)
            ask.error = error
        with self._wake:
            self._writers = sum(ask.writes for ask in self._asks)
            self._asks = [ask for ask in self._asks if ask not in asks]
        for ask in asks:
            ask.answered.set()

    def _compose(self, waiting: Sequence[_Ask]) -> list[tuple[_Ask, int]]:
        """The next pass: sequences, and how many tokens of each are read. The oldest is never left out; of the others
        those come first that are done in the fewest passes, so that nobody waits behind a long one."""
        self._begin(waiting)
        first, *others = waiting
        rows: list[tuple[_Ask, int]] = []
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

    def _begin(self, asks: Sequence[_Ask]) -> None:
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

    def _together(self, waiting: Sequence[_Ask]) -> list[Adapter]:
        """The adapters of the next pass: of those that wait the longest."""
        return list(dict.fromkeys(ask.adapter for ask in waiting if ask.adapter))[:_ADAPTERS]

    def _set_places(self) -> None:
        """Put the columns of the adapters in their places into the graph."""
        self._set_width = self._width
        whole = side_by_side(self._places, self._sizes, self._set_width)
        for name in self._sizes:
            self._request.set_tensor(DOWN.format(name), self._tensor(whole.down[name], shared_memory=True))
            self._request.set_tensor(UP.format(name), self._tensor(whole.up[name], shared_memory=True))
        self._columns = whole  # the graph reads its arrays where they are

    def _shares(self, rows: Sequence[tuple[_Ask, int]], tokens: int) -> npt.NDArray[np.float32]:
        """What each of a pass's tokens takes of the adapters' columns, which are set anew where one is missing."""
        needed = list(dict.fromkeys(ask.adapter for ask, _ in rows if ask.adapter))
        missing = [adapter for adapter in needed if adapter not in self._places]
        if missing or self._width != self._set_width:
            idle = [place for place, adapter in enumerate(self._places) if adapter not in needed]
            for place, adapter in zip(idle, missing, strict=False):
                self._places[place] = adapter
            self._set_places()
        shares = np.zeros((tokens, _ADAPTERS * self._set_width), np.float32)
        start = 0
        for ask, count in rows:
            if ask.adapter:
                first = self._places.index(ask.adapter) * self._set_width
                shares[start : start + count, first : first + self._set_width] = 1
            start += count
        return shares

    def _read(self, rows: Sequence[tuple[_Ask, int]]) -> None:
        for name, value in self._inputs(rows).items():
            self._request.set_tensor(name, self._tensor(value))
        self._request.infer()
        logits = iter(self._request.get_output_tensor(0).data)
        done = []
        for ask, count in rows:
            finished = count == ask.left
            self._pool.record(ask.chain, ask.ids, ask.chain.known + count)
            if finished:
                ask.logits = np.array(next(logits))
                done.append(ask)
        self._end(done)

    def _inputs(self, rows: Sequence[tuple[_Ask, int]]) -> dict[str, npt.NDArray[Any]]:
        """Those of the graph for a pass, by name; filled up by a sequence that nobody asked for."""
        ids: list[int] = []
        positions: list[int] = []
        blocks: list[int] = []
        begins, block_begins, wanted = [0], [0], []
        past = [ask.chain.known for ask, _ in rows]
        for ask, count in rows:
            known = ask.chain.known
            ids += [token if token >= 0 else ~token for token in ask.ids[known : known + count]]
            positions += range(known, known + count)
            blocks += [block.index for block in ask.chain.blocks]
            begins.append(len(ids))
            block_begins.append(len(blocks))
            if count == ask.left:
                wanted.append(len(ids) - 1)
        if missing := -len(ids) % _STEP:
            ids += [0] * missing
            positions += range(missing)
            past.append(0)
            blocks.append(self._filling)
            begins.append(len(ids))
            block_begins.append(len(blocks))
        wanted += [0] * (max(_LEAST, 1 << (len(wanted) - 1).bit_length()) - len(wanted))
        inputs: dict[str, npt.NDArray[Any]] = {
            "input_ids": np.array(ids, np.int64),
            "position_ids": np.array(positions, np.int64),
            "past_lens": np.array(past, np.int32),
            "subsequence_begins": np.array(begins, np.int32),
            "block_indices": np.array(blocks, np.int32),
            "block_indices_begins": np.array(block_begins, np.int32),
            "max_context_len": np.array(max(ask.chain.known + count for ask, count in rows), np.int32),
            "wanted": np.array(wanted, np.int64),
        }
        if self._sizes:
            inputs[SHARE] = self._shares(rows, len(ids))
        return inputs


def _sizes(compiled: Any, shape: Shape) -> dict[str, tuple[int, int]]:
    """Of every matrix that can be adapted, (in, out)."""
    sides = {port.get_any_name(): port.partial_shape for port in compiled.inputs}
    return {
        name: (sides[DOWN.format(name)][0].get_length(), sides[UP.format(name)][1].get_length())
        for name in adapted_matrices(shape.layers)
    }
