"""A decoder in OpenVINO with its memory: it runs forward passes over parts of many sequences."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.inference.runtimes.openvino.adapter import Adapter, side_by_side
from tunewright.inference.runtimes.openvino.graph import build
from tunewright.inference.runtimes.openvino.passes import SequencePart, blocks_in_memory
from tunewright.inference.runtimes.openvino.shape import (
    DOWN,
    KEY_CACHE,
    SHARE,
    UP,
    VALUE_CACHE,
    GraphShape,
    adapted_matrices,
)

ADAPTERS = 4
"""Adapters in a forward pass if many are served. The pass runs their columns for every token."""
_WIDTH = 16
"""Columns by which an adapter slot grows. All slots are as wide as the largest adapter that was ever needed, and their
number never changes. A product of another shape would be summed in another order, and a value that is rounded
differently is quantised differently."""
_FINEST, _COARSEST = 2, 8
"""Passes are padded to a multiple of 2 to 8 tokens; longer ones are padded more. OpenVINO keeps about a megabyte of
code and buffers for good for each length it ever met. Short passes are hardly padded: with 4-bit weights, eight tokens
take almost twice as long as two."""
_MIN_ROWS = 2
"""Rows of the logits. A single row would be multiplied by another kernel."""


class CompiledGraph:
    """A graph, compiled once for any number of networks that run in parallel.

    Args:
        folder, threads, streams, adapters, adapter: see `tunewright.inference.runtimes.openvino.model.PagedNextToken`.
    """

    def __init__(self, folder: Path, threads: int | None, streams: int, adapters: int, adapter: Adapter | None):
        import openvino

        core = openvino.Core()
        half = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        graph = build(folder, half=half, adapted=adapters > 0, adapter=adapter)
        settings: dict[str, Any] = graph.settings | {"PERFORMANCE_HINT": "LATENCY"}
        if threads:
            # Not pinned: OpenVINO would pin parallel workers to the same cores.
            settings |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        if streams > 1:
            settings |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(streams)}
            settings |= {"INFERENCE_NUM_THREADS": streams * (threads or 1), "ENABLE_CPU_PINNING": False}
        self.model, self.shape, self.adapters = core.compile_model(graph.model, "CPU", settings), graph.shape, adapters
        self._weights, self._released = graph.weights, False

    def release_weights(self) -> None:
        """Drop the file's pages after the first pass: by then OpenVINO has its own copies, in its own order."""
        if not self._released:
            self._released = True
            self._weights.let_go()


class PagedNetwork:
    """A compiled graph with blocks of memory for keys and values, and with the adapters in its slots; see
    `tunewright.inference.runtimes.openvino.passes.PassNetwork`.

    Args:
        context: see `tunewright.inference.runtimes.openvino.model.PagedNextToken`.
    """

    def __init__(self, compiled: CompiledGraph, context: int):
        import openvino

        self._compiled = compiled
        self._request = compiled.model.create_infer_request()
        self._tensor = openvino.Tensor
        self._allocate(compiled.model, compiled.shape, context)
        self._sizes = _sizes(compiled.model, compiled.shape) if compiled.adapters else {}
        self._width, self._growing = _WIDTH, Lock()
        self._slots: list[Adapter | None] = [None] * compiled.adapters
        """The adapters whose columns the graph has now."""
        if compiled.adapters:
            self._fill_slots()

    def _allocate(self, compiled: Any, shape: GraphShape, context: int) -> None:
        """Allocate the blocks in the layout that OpenVINO chose."""
        ports = {port.get_any_name(): port for port in compiled.inputs}
        names = [name.format(layer) for layer in range(shape.layers) for name in (KEY_CACHE, VALUE_CACHE)]
        sizes = {name: [side.get_length() for side in list(ports[name].partial_shape)[1:]] for name in names}
        self.block_size = sizes[names[0]][1]
        bytes_a_block = sum(int(np.prod(sizes[name])) * ports[name].element_type.size for name in names)
        self.blocks = blocks_in_memory(bytes_a_block, self.block_size, context)
        # One more block, for padding tokens.
        tensors = {name: self._tensor(ports[name].element_type, [self.blocks + 1, *sizes[name]]) for name in names}
        for name, tensor in tensors.items():
            self._request.set_tensor(name, tensor)
        self._caches = [tensor.data for tensor in tensors.values()]

    @property
    def slots(self) -> int:
        return len(self._slots)

    def copy(self, source: int, target: int) -> None:
        for cache in self._caches:
            cache[target] = cache[source]

    def reserve(self, rank: int) -> None:
        """Make the slots wide enough for an adapter, from the next pass on."""
        with self._growing:
            self._width = max(self._width, -(-rank // _WIDTH) * _WIDTH)

    def forward(self, parts: Sequence[SequencePart]) -> npt.NDArray[np.float32]:
        for name, value in self._inputs(parts).items():
            self._request.set_tensor(name, self._tensor(value))
        self._request.infer()
        self._compiled.release_weights()
        logits: npt.NDArray[np.float32] = self._request.get_output_tensor(0).data
        return logits

    def _inputs(self, parts: Sequence[SequencePart]) -> dict[str, npt.NDArray[Any]]:
        """The inputs of the graph, by name."""
        padded = [*parts, *self._padding(_padding_tokens(sum(len(part.tokens) for part in parts)))]
        counts = [len(part.tokens) for part in padded]
        ends = np.cumsum(counts)
        positions = [int(end) - 1 for part, end in zip(padded, ends, strict=True) if part.needs_logits]
        positions += [0] * (max(_MIN_ROWS, 1 << (len(positions) - 1).bit_length()) - len(positions))
        inputs: dict[str, npt.NDArray[Any]] = {
            "input_ids": np.array([token for part in padded for token in part.tokens], np.int64),
            "position_ids": np.concatenate([np.arange(len(part.tokens)) + part.past for part in padded]),
            "past_lens": np.array([part.past for part in padded], np.int32),
            "subsequence_begins": np.array([0, *ends], np.int32),
            "block_indices": np.array([block for part in padded for block in part.blocks], np.int32),
            "block_indices_begins": np.cumsum([0, *(len(part.blocks) for part in padded)], dtype=np.int32),
            "max_context_len": np.array(max(part.past + len(part.tokens) for part in parts), np.int32),
            "logit_positions": np.array(positions, np.int64),
        }
        if self._sizes:
            inputs[SHARE] = self._shares(padded)
        return inputs

    def _padding(self, tokens: int) -> list[SequencePart]:
        return [SequencePart([0] * tokens, 0, [self.blocks], None, needs_logits=False)] if tokens else []

    def _shares(self, parts: Sequence[SequencePart]) -> npt.NDArray[np.float32]:
        """How much of each adapter column each token takes. Fills the slots anew if an adapter is missing."""
        needed = list(dict.fromkeys(part.adapter for part in parts if part.adapter))
        missing = [adapter for adapter in needed if adapter not in self._slots]
        if missing or self._width != self._set_width:
            idle = [slot for slot, adapter in enumerate(self._slots) if adapter not in needed]
            for slot, adapter in zip(idle, missing, strict=False):
                self._slots[slot] = adapter
            self._fill_slots()
        shares = np.zeros((sum(len(part.tokens) for part in parts), len(self._slots) * self._set_width), np.float32)
        start = 0
        for part in parts:
            end = start + len(part.tokens)
            if part.adapter:
                first = self._slots.index(part.adapter) * self._set_width
                shares[start:end, first : first + self._set_width] = 1
            start = end
        return shares

    def _fill_slots(self) -> None:
        """Give the graph the columns of the adapters in the slots."""
        self._set_width = self._width
        columns = side_by_side(self._slots, self._sizes, self._set_width)
        for name in self._sizes:
            self._request.set_tensor(DOWN.format(name), self._tensor(columns.down[name], shared_memory=True))
            self._request.set_tensor(UP.format(name), self._tensor(columns.up[name], shared_memory=True))
        self._columns = columns  # the graph uses these arrays without a copy


def _padding_tokens(tokens: int) -> int:
    """How many padding tokens a pass of so many tokens gets."""
    eighth = 1 << tokens.bit_length() >> 4
    return -tokens % min(max(eighth, _FINEST), _COARSEST)


def _sizes(compiled: Any, shape: GraphShape) -> dict[str, tuple[int, int]]:
    """(in, out) of every matrix that can have an adapter."""
    sides = {port.get_any_name(): port.partial_shape for port in compiled.inputs}
    return {
        name: (sides[DOWN.format(name)][0].get_length(), sides[UP.format(name)][1].get_length())
        for name in adapted_matrices(shape.layers)
    }
