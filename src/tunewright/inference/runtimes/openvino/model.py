"""Runs a decoder with OpenVINO, or with our own kernels (`tunewright.inference.runtimes.vnni`) where they are faster,
for many clients at once: it packs their sequences into common forward passes. No torch.

A client sends a whole sequence of tokens and waits for the logits after it. A scheduler in a thread of its own packs
the new tokens of all sequences into passes.

The same sequence gets the same logits to the last bit, whatever other sequences are in its passes and whatever ran
before: sums over a row don't depend on the other rows. But OpenVINO runs a single token with another kernel than
several, with slightly different results (our own kernels don't). So a sequence that comes as a whole runs at least two
tokens at a time, even if its first tokens are in memory already. Only an answer that grows token by token runs one
token at a time, and its keys and values are kept apart: a token that ran alone stands as ~token in a sequence.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from threading import Thread, current_thread, local
from weakref import finalize

import numpy as np
import numpy.typing as npt

from tunewright.core.threads import threads as default_threads
from tunewright.inference.runtimes.openvino.adapter import Adapter
from tunewright.inference.runtimes.openvino.network import CompiledGraph, PagedNetwork
from tunewright.inference.runtimes.openvino.passes import PassNetwork
from tunewright.inference.runtimes.openvino.scheduler import PassScheduler, SequenceRequest
from tunewright.inference.runtimes.openvino.shape import KEPT_PROMPT
from tunewright.inference.runtimes.vnni.kept_prompt import KeptPrompt
from tunewright.inference.runtimes.vnni.network import PackedWeights, VnniNetwork

_AT_ONCE = 32
_LONGEST_PASS = 30.0
"""Seconds."""


class PagedNextToken:
    """Next-token logits, for many threads at once. `close`, or the end of the last reference, ends its threads and
    frees the memory.

    Args:
        folder: what `tunewright.exporters.openvino` wrote.
        context: tokens that a sequence may have.
        threads: CPU threads; all cores by default.
        streams: passes that run in parallel, each with `threads` threads (one by default), from one copy of the
            weights. More streams give more throughput, and each request waits longer.
        adapters: how many adapters a pass can have in OpenVINO. The more there may be, the slower are requests without
            one; their logits stay the same. Our own kernels take any number.
        adapter: an adapter for every answer. In OpenVINO it is built into the graph, which costs the least.
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
        self._adaptable: list[PagedNetwork] = []
        networks: Sequence[PassNetwork]
        self._own: Adapter | None = None
        """The adapter of every answer, if it is not in the graph."""
        self._kernels: Sequence[VnniNetwork] = ()
        if packed := PackedWeights.load(folder):
            each = threads or (1 if streams > 1 else default_threads())
            networks = self._kernels = [VnniNetwork(packed, context, each) for _ in range(streams)]
            self._own = adapter
        else:
            compiled = CompiledGraph(folder, threads, streams, adapters, adapter)
            networks = self._adaptable = [PagedNetwork(compiled, context) for _ in range(streams)]
        self._schedulers = [PassScheduler(network) for network in networks]
        if self._kernels and adapter is None and (file := folder / KEPT_PROMPT).exists():
            self._keep(KeptPrompt.load(file))
        self._turn, self._mine = count(), local()
        scheduler_threads = [Thread(target=each.run, name="model", daemon=True) for each in self._schedulers]
        self.close = finalize(self, _end, self._schedulers, scheduler_threads)
        """End the threads. Requests that wait get an error."""
        for thread in scheduler_threads:
            thread.start()

    @property
    def ended(self) -> bool:
        """Whether it is closed, or failed for good."""
        return any(scheduler.closed() for scheduler in self._schedulers)

    def with_adapter(self, adapter: Adapter) -> Adapted:
        """The same model with this adapter."""
        for network in self._adaptable:
            network.reserve(adapter.rank)
        return Adapted(self, adapter)

    def __call__(self, ids: Sequence[int], adapter: Adapter | None = None) -> npt.NDArray[np.float32]:
        """The logits after a sequence.

        Raises:
            ValueError: the sequence is longer than the context.
            RuntimeError: the model failed, or was closed.
        """
        (logits,) = self.logits_of([SequenceRequest(list(ids), adapter)])
        return logits

    def kept_prompt(self, ids: Sequence[int]) -> KeptPrompt | None:
        """What our own kernels remember of the beginning of a sequence. Only while nobody else asks.

        Returns: None if OpenVINO runs the model, each answer has an adapter, or the sequence fills no block, or more
            than the context.
        """
        if not self._kernels or self._own or not VnniNetwork.block_size <= len(ids) <= self._context:
            return None
        request, network = SequenceRequest(list(ids), None), self._kernels[0]
        self._schedulers[0].submit([request])
        _wait(request)
        blocks = [network.block(index) for index in self._schedulers[0].kept(ids)]
        whole = list(ids)[: len(blocks) * network.block_size]
        return KeptPrompt(whole, np.stack(blocks), network.fingerprint)

    def _keep(self, prompt: KeptPrompt) -> None:
        """Have the networks remember a prompt, if these weights and kernels computed what is kept of it."""
        for scheduler, network in zip(self._schedulers, self._kernels, strict=True):
            if prompt.fits(network.fingerprint, network.block_size, network.bytes_a_block):
                for index, kept in zip(scheduler.keep(prompt.tokens), prompt.blocks, strict=False):
                    network.block(index)[:] = kept

    def begin(self, prompt: Sequence[int], adapter: Adapter | None = None) -> PagedDecoding:
        """Decode an answer after a prompt."""
        return PagedDecoding(self, prompt, adapter)

    def of_tokens(
        self, queries: Sequence[tuple[Sequence[int], Sequence[int]]], adapter: Adapter | None = None
    ) -> list[npt.NDArray[np.float32]]:
        """As in `tunewright.tasks.BranchModel`, from common passes. Raises what a call raises."""
        return self.logits_of([SequenceRequest(list(ids), adapter, choices) for ids, choices in queries])

    def logits_of(self, requests: Sequence[SequenceRequest]) -> list[npt.NDArray[np.float32]]:
        """The logits of some requests; for `PagedDecoding` and the methods above."""
        if (longest := max(len(request.ids) for request in requests)) > self._context:
            raise ValueError(f"a sequence of {longest} tokens, longer than {self._context}")
        for request in requests:
            request.adapter = request.adapter or self._own
        self._scheduler.submit(requests)
        return [_wait(request) for request in requests]

    @property
    def _scheduler(self) -> PassScheduler:
        """The scheduler of the calling thread: it still has what ran for the thread's last request."""
        if not hasattr(self._mine, "scheduler"):
            self._mine.scheduler = self._schedulers[next(self._turn) % len(self._schedulers)]
        mine: PassScheduler = self._mine.scheduler
        return mine


class PagedDecoding:
    """The logits after an answer that grows token by token. Raises what `PagedNextToken` raises."""

    def __init__(self, model: PagedNextToken, prompt: Sequence[int], adapter: Adapter | None):
        self._model, self._adapter = model, adapter
        self._ids = list(prompt)
        self._known = 0
        self._begun = False

    def __call__(self, answer: Sequence[int]) -> npt.NDArray[np.float32]:
        """The logits after all tokens of the answer so far."""
        fresh = answer[self._known :]
        self._ids += [~fresh[0]] if self._begun and len(fresh) == 1 else fresh
        self._known, self._begun = len(answer), True
        (logits,) = self._model.logits_of([SequenceRequest(list(self._ids), self._adapter, decoding=True)])
        return logits


class Adapted:
    """A `PagedNextToken` with one adapter, beside all others."""

    def __init__(self, model: PagedNextToken, adapter: Adapter):
        self._model = model
        self._adapter = adapter
        self.at_once = model.at_once

    @property
    def ended(self) -> bool:
        return self._model.ended

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        return self._model(ids, self._adapter)

    def of_tokens(self, queries: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[npt.NDArray[np.float32]]:
        return self._model.of_tokens(queries, self._adapter)

    def begin(self, prompt: Sequence[int]) -> PagedDecoding:
        return self._model.begin(prompt, self._adapter)


def _end(schedulers: Sequence[PassScheduler], threads: Sequence[Thread]) -> None:
    """Close the schedulers and wait for their threads. A thread inside OpenVINO would crash the process when Python
    ends."""
    for scheduler in schedulers:
        scheduler.close()
    for thread in threads:
        if thread is not current_thread():
            thread.join(_LONGEST_PASS)


def _wait(request: SequenceRequest) -> npt.NDArray[np.float32]:
    request.answered.wait()
    if request.logits is None:
        raise RuntimeError(f"the model could not run a request: {request.error}") from request.error
    return request.logits
