"""Running a decoder with OpenVINO for many askers at once: what they ask is read in common passes, without torch.

Whoever asks gives a whole sequence of tokens and waits for the logits behind it. A thread of its own packs what is new
of all sequences into passes. The same sequence gets the same logits to the last bit, whoever else asks and whatever was
asked before: sums over a row don't depend on the other rows. One token alone is read by another kernel than several, a
little otherwise. So what is given as a whole is read at least two tokens at a time, be the first of them in memory
already; only an answer that grows token by token is read so, and is remembered apart: a token that is read alone stands
as ~token in a sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from threading import Thread, current_thread, local
from weakref import finalize

import numpy as np
import numpy.typing as npt

from tunewright.inference.runtimes.openvino.adapter import Adapter
from tunewright.inference.runtimes.openvino.network import CompiledGraph, PagedNetwork
from tunewright.inference.runtimes.openvino.scheduler import Ask, PassScheduler

_AT_ONCE = 32
_LONGEST_PASS = 30.0
"""Seconds."""


class PagedNextToken:
    """Next-token logits, for many threads at once. When nobody holds it any more, or at `close`, the threads that read
    end and the memory is given back.

    Args:
        folder: what `tunewright.exporters.openvino` wrote.
        context: tokens that a sequence may have.
        threads: CPU threads; all cores by default.
        streams: passes that are read side by side, of `threads` each (one by default), from one copy of the weights:
            more a second, and each request waits longer.
        adapters: how many may be asked for in one pass. Without any the logits are the same, found the more slowly the
            more there may be.
        adapter: one that changes every answer; as part of the graph it costs the least.
    """

    def __init__(
        self,
        folder: Path,
        *,
        context: int,
        threads: int | None = None,
        streams: int = 1,
        adapters: int = 0,
        adapter: Adapter | None = None,
    ):
        self._context = context
        self.at_once = _AT_ONCE * streams
        compiled = CompiledGraph(folder, threads, streams, adapters, adapter)
        self._networks = [PagedNetwork(compiled, context) for _ in range(streams)]
        self._readers = [PassScheduler(network) for network in self._networks]
        self._turn, self._mine = count(), local()
        threads_of = [Thread(target=reader.run, name="model", daemon=True) for reader in self._readers]
        self.close = finalize(self, _end, self._readers, threads_of)
        """End the threads; requests that wait get an error."""
        for thread in threads_of:
            thread.start()

    @property
    def ended(self) -> bool:
        """Whether it is closed, or failed for good."""
        return any(reader.closed() for reader in self._readers)

    def with_adapter(self, adapter: Adapter) -> Adapted:
        """The same model as this adapter changes it."""
        for network in self._networks:
            network.reserve(adapter.rank)
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
        return self.answered([Ask(list(ids), adapter) for ids in sequences])

    def answered(self, asks: Sequence[Ask]) -> list[npt.NDArray[np.float32]]:
        """The logits that are asked for; for `Growing` and the methods above."""
        if (longest := max(len(ask.ids) for ask in asks)) > self._context:
            raise ValueError(f"a sequence of {longest} tokens, longer than {self._context}")
        self._reader.ask(asks)
        return [_answer(ask) for ask in asks]

    @property
    def _reader(self) -> PassScheduler:
        """That of the thread that asks: what it has read for a request is there for the next question about it."""
        if not hasattr(self._mine, "reader"):
            self._mine.reader = self._readers[next(self._turn) % len(self._readers)]
        mine: PassScheduler = self._mine.reader
        return mine


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
        (logits,) = self._model.answered([Ask(list(self._ids), self._adapter, writes=True)])
        return logits


class Adapted:
    """A `PagedNextToken` as one adapter changes it, beside all others."""

    def __init__(self, model: PagedNextToken, adapter: Adapter):
        self._model = model
        self._adapter = adapter
        self.at_once = model.at_once

    @property
    def ended(self) -> bool:
        return self._model.ended

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return self._model(ids, self._adapter)

    def many(self, sequences: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        return self._model.many(sequences, self._adapter)

    def begin(self, prompt: Sequence[int]) -> Growing:
        return self._model.begin(prompt, self._adapter)


def _end(readers: Sequence[PassScheduler], threads: Sequence[Thread]) -> None:
    """Close readers and wait for their threads: one that is in OpenVINO when Python ends takes the process down."""
    for reader in readers:
        reader.close()
    for thread in threads:
        if thread is not current_thread():
            thread.join(_LONGEST_PASS)


def _answer(ask: Ask) -> npt.NDArray[np.float32]:
    ask.answered.wait()
    if ask.logits is None:
        raise RuntimeError(f"the model could not read a request: {ask.error}") from ask.error
    return ask.logits
