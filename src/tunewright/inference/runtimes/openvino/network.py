"""A decoder in OpenVINO with its memory: the graph that reads one pass over parts of many sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.inference.runtimes.openvino.adapter import Adapter, side_by_side
from tunewright.inference.runtimes.openvino.graph import (
    DOWN,
    KEY_CACHE,
    SHARE,
    UP,
    VALUE_CACHE,
    GraphShape,
    adapted_matrices,
    build,
)

ADAPTERS = 4
"""Adapters in a pass where many are served: their columns are run for every token of it."""
_WIDTH = 16
"""Columns by which an adapter's place grows. All places are as wide as the largest adapter that was ever asked for, and
there are always as many: a product of another shape would be summed in another order, and what was rounded otherwise is
quantised otherwise."""
_FINEST, _COARSEST = 2, 8
"""Passes are filled up to a multiple of 2 to 8 tokens, the more the longer they are: for each length it ever met, the
plug-in keeps about a megabyte of code and room for good. Short ones are hardly filled: where weights have four bits,
eight tokens take almost twice as long as two."""
_LEAST = 2
"""Rows of the logits: one alone would be multiplied by another kernel."""
_MEMORY = 256 * 2**20
"""Bytes for keys and values, if the context does not need more."""
_CONTEXTS = 2
"""Sequences as long as the context that memory must hold."""


@dataclass(frozen=True)
class SequencePart:
    """What is read of a sequence in a pass."""

    tokens: Sequence[int]
    past: int
    """Tokens of the sequence before them, which are in memory."""
    blocks: Sequence[int]
    """Where all of these lie, and room for the new ones."""
    adapter: Adapter | None
    asked: bool
    """Whether the logits behind the last token are asked for."""


class CompiledGraph:
    """A graph that is compiled once, for any number of networks that read side by side.

    Args:
        folder, threads, streams, adapters, adapter: as for
            `tunewright.inference.runtimes.openvino.model.PagedNextToken`.
    """

    def __init__(self, folder: Path, threads: int | None, streams: int, adapters: int, adapter: Adapter | None):
        import openvino

        core = openvino.Core()
        half = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        graph = build(folder, half=half, adapted=adapters > 0, adapter=adapter)
        settings: dict[str, Any] = graph.settings | {"PERFORMANCE_HINT": "LATENCY"}
        if threads:
            # Not pinned: workers side by side would all be pinned to the same cores.
            settings |= {"INFERENCE_NUM_THREADS": threads, "ENABLE_CPU_PINNING": False}
        if streams > 1:
            settings |= {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": str(streams)}
            settings |= {"INFERENCE_NUM_THREADS": streams * (threads or 1), "ENABLE_CPU_PINNING": False}
        self.model, self.shape, self.adapters = core.compile_model(graph.model, "CPU", settings), graph.shape, adapters
        self._weights, self._begun = graph.weights, False

    def begun(self) -> None:
        """The first pass is over, in which the plug-in has made copies in its own order of what it needs: the file's
        pages would only count as this process's."""
        if not self._begun:
            self._begun = True
            self._weights.let_go()


class PagedNetwork:
    """A compiled graph with blocks of memory for keys and values, and the adapters that are in their places.

    Args:
        context: as for `tunewright.inference.runtimes.openvino.model.PagedNextToken`.
    """

    blocks: int
    """That memory has."""
    block_size: int
    """Tokens of one."""

    def __init__(self, compiled: CompiledGraph, context: int):
        import openvino

        self._compiled = compiled
        self._request = compiled.model.create_infer_request()
        self._tensor = openvino.Tensor
        self._allocate(compiled.model, compiled.shape, context)
        self._sizes = _sizes(compiled.model, compiled.shape) if compiled.adapters else {}
        self._width, self._growing = _WIDTH, Lock()
        self._places: list[Adapter | None] = [None] * compiled.adapters
        """Whose columns are set now."""
        if compiled.adapters:
            self._set_places()

    def _allocate(self, compiled: Any, shape: GraphShape, context: int) -> None:
        """Memory for blocks, as the plug-in wants it."""
        ports = {port.get_any_name(): port for port in compiled.inputs}
        names = [name.format(layer) for layer in range(shape.layers) for name in (KEY_CACHE, VALUE_CACHE)]
        sizes = {name: [side.get_length() for side in list(ports[name].partial_shape)[1:]] for name in names}
        self.block_size = sizes[names[0]][1]
        bytes_a_block = sum(int(np.prod(sizes[name])) * ports[name].element_type.size for name in names)
        self.blocks = max(_MEMORY // bytes_a_block, _CONTEXTS * -(-context // self.block_size))
        # One more, for tokens that only fill up a pass.
        tensors = {name: self._tensor(ports[name].element_type, [self.blocks + 1, *sizes[name]]) for name in names}
        for name, tensor in tensors.items():
            self._request.set_tensor(name, tensor)
        self._caches = [tensor.data for tensor in tensors.values()]

    @property
    def places(self) -> int:
        """Adapters that can be in a pass."""
        return len(self._places)

    def copy(self, source: int, target: int) -> None:
        """Copy the content of a block over another's."""
        for cache in self._caches:
            cache[target] = cache[source]

    def reserve(self, rank: int) -> None:
        """Make places wide enough for an adapter, from the next pass on."""
        with self._growing:
            self._width = max(self._width, -(-rank // _WIDTH) * _WIDTH)

    def read(self, parts: Sequence[SequencePart]) -> npt.NDArray[np.float32]:
        """Read a pass with at most as many adapters as there are places for.

        Returns: the logits of the parts that ask for them, in order, [at least as many, vocabulary], until the next
        pass.
        """
        for name, value in self._inputs(parts).items():
            self._request.set_tensor(name, self._tensor(value))
        self._request.infer()
        self._compiled.begun()
        logits: npt.NDArray[np.float32] = self._request.get_output_tensor(0).data
        return logits

    def _inputs(self, parts: Sequence[SequencePart]) -> dict[str, npt.NDArray[Any]]:
        """Those of the graph, by name."""
        filled = [*parts, *self._filling(_missing(sum(len(part.tokens) for part in parts)))]
        counts = [len(part.tokens) for part in filled]
        ends = np.cumsum(counts)
        wanted = [int(end) - 1 for part, end in zip(filled, ends, strict=True) if part.asked]
        wanted += [0] * (max(_LEAST, 1 << (len(wanted) - 1).bit_length()) - len(wanted))
        inputs: dict[str, npt.NDArray[Any]] = {
            "input_ids": np.array([token for part in filled for token in part.tokens], np.int64),
            "position_ids": np.concatenate([np.arange(len(part.tokens)) + part.past for part in filled]),
            "past_lens": np.array([part.past for part in filled], np.int32),
            "subsequence_begins": np.array([0, *ends], np.int32),
            "block_indices": np.array([block for part in filled for block in part.blocks], np.int32),
            "block_indices_begins": np.cumsum([0, *(len(part.blocks) for part in filled)], dtype=np.int32),
            "max_context_len": np.array(max(part.past + len(part.tokens) for part in parts), np.int32),
            "wanted": np.array(wanted, np.int64),
        }
        if self._sizes:
            inputs[SHARE] = self._shares(filled)
        return inputs

    def _filling(self, missing: int) -> list[SequencePart]:
        """A sequence that nobody asked for."""
        return [SequencePart([0] * missing, 0, [self.blocks], None, asked=False)] if missing else []

    def _shares(self, parts: Sequence[SequencePart]) -> npt.NDArray[np.float32]:
        """What each token takes of the adapters' columns, which are set anew where one is missing."""
        needed = list(dict.fromkeys(part.adapter for part in parts if part.adapter))
        missing = [adapter for adapter in needed if adapter not in self._places]
        if missing or self._width != self._set_width:
            idle = [place for place, adapter in enumerate(self._places) if adapter not in needed]
            for place, adapter in zip(idle, missing, strict=False):
                self._places[place] = adapter
            self._set_places()
        shares = np.zeros((sum(len(part.tokens) for part in parts), len(self._places) * self._set_width), np.float32)
        start = 0
        for part in parts:
            end = start + len(part.tokens)
            if part.adapter:
                first = self._places.index(part.adapter) * self._set_width
                shares[start:end, first : first + self._set_width] = 1
            start = end
        return shares

    def _set_places(self) -> None:
        """Put the columns of the adapters in their places into the graph."""
        self._set_width = self._width
        whole = side_by_side(self._places, self._sizes, self._set_width)
        for name in self._sizes:
            self._request.set_tensor(DOWN.format(name), self._tensor(whole.down[name], shared_memory=True))
            self._request.set_tensor(UP.format(name), self._tensor(whole.up[name], shared_memory=True))
        self._columns = whole  # the graph reads its arrays where they are


def _missing(tokens: int) -> int:
    """How many are filled in behind the tokens of a pass."""
    eighth = 1 << tokens.bit_length() >> 4
    return -tokens % min(max(eighth, _FINEST), _COARSEST)


def _sizes(compiled: Any, shape: GraphShape) -> dict[str, tuple[int, int]]:
    """Of every matrix that can be adapted, (in, out)."""
    sides = {port.get_any_name(): port.partial_shape for port in compiled.inputs}
    return {
        name: (sides[DOWN.format(name)][0].get_length(), sides[UP.format(name)][1].get_length())
        for name in adapted_matrices(shape.layers)
    }
