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
from pathlib import Path
from threading import Thread
from weakref import finalize

import numpy as np
import numpy.typing as npt

from tunewright.models.adapter import Adapter
from tunewright.models.paged_network import PagedNetwork
from tunewright.models.paged_reader import Ask, Reader


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
        network = PagedNetwork(folder, context, threads, adapted=adapted)
        reader = Reader(network)
        self._ask, self._reserve, self._closed = reader.ask, network.reserve, reader.closed
        self.close = finalize(self, reader.close)
        """End the thread; whoever waits is told."""
        Thread(target=reader.run, name="model", daemon=True).start()

    @property
    def ended(self) -> bool:
        """Whether it is closed, or failed for good."""
        return self._closed()

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
        return self.answered([Ask(list(ids), adapter) for ids in sequences])

    def answered(self, asks: Sequence[Ask]) -> list[npt.NDArray[np.float32]]:
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


def _answer(ask: Ask) -> npt.NDArray[np.float32]:
    ask.answered.wait()
    if ask.logits is None:
        raise RuntimeError(f"the model could not read a request: {ask.error}") from ask.error
    return ask.logits
