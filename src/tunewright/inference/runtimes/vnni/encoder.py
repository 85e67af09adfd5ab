"""An encoder in our own kernels. It reads the weights off the graph that OpenVINO runs."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self
from weakref import finalize

import numpy as np
import numpy.typing as npt

from tunewright.inference.runtimes.openvino.encoder_graph import EightBits, EncoderWeights, read_encoder_graph
from tunewright.inference.runtimes.vnni.library import (
    LANES,
    KernelEncoderShape,
    address,
    free_in,
    library,
    reason_against,
)

GROUP = 64
"""Activations that are quantised together, in OpenVINO too. There one group of all 384 inputs is no faster, and has
twice the error (all-MiniLM-L6, BANKING77)."""
_TOKENS = 128
"""Tokens of a pass, or one longer text: more of them leave the core's own cache."""
_SHARE = 40
"""Tokens of a pass for each thread that works on it: waking one takes as long as it would save with fewer."""
_READS = ("mean", "first", "tokens")
"""As `encoder.c` numbers what the head reads."""
_QKV, _OUT, _UP, _DOWN, _HEAD = range(5)
_MOST_WIDTH = 256
_ZERO = 128
"""The level of zero in the kernels' unsigned bytes."""


class VnniEncoder:
    """An encoder in our own kernels. It runs as many passes beside each other as it has threads, and threads without a
    pass help with a long one. Thread-safe.

    Args:
        weights: of sizes that fit, as `_fit` checks them.
        context: tokens that a text may have.
        threads: CPU threads.
    """

    def __init__(self, weights: EncoderWeights, context: int, threads: int):
        self.threads = threads
        self._labels, self._per_token = len(weights.head.levels), weights.reads == "tokens"
        self._vocabulary, self._longest = len(weights.words.levels), min(context, weights.longest)
        tables: list[npt.NDArray[Any]] = [
            weights.words.levels,
            weights.words.scale,
            weights.places,
            weights.norm.weight,
            weights.norm.shift,
        ]
        norms = [
            (layer.norm.weight, layer.norm.shift, layer.last_norm.weight, layer.last_norm.shift)
            for layer in weights.layers
        ]
        self._model = library().encoder_new(ctypes.byref(_shape(weights)), *map(address, tables))
        if not self._model:
            raise MemoryError("no memory for the weights")
        # The last argument keeps what the kernels point at.
        finalize(self, free_in, os.getpid(), library().encoder_free, self._model, (tables, norms)).atexit = False
        for number, vectors in enumerate(norms):
            library().encoder_layer(self._model, number, *map(address, vectors))
        for layer, kind, at, matrix in _matrices(weights):
            self._pack(layer, kind, at, matrix)
        self._buffers: SimpleQueue[int] = SimpleQueue()
        for _ in range(threads):
            buffers = library().buffers_new(self._model, max(_TOKENS, self._longest), self._longest)
            if not buffers:
                raise MemoryError("no memory for a pass")
            finalize(self, free_in, os.getpid(), library().buffers_free, buffers, None).atexit = False
            self._buffers.put(buffers)
        self._workers = ThreadPoolExecutor(threads)

    @classmethod
    def load(cls, file: Path, context: int, threads: int) -> Self | None:
        """The encoder of OpenVINO's graph in a file; None if the kernels don't know it, its precision or this
        processor."""
        weights = None if reason_against() else read_encoder_graph(file)
        return cls(weights, context, threads) if weights and _fit(weights) else None

    def logits(self, sequences: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        """The logits [labels], or [tokens, labels], of each text. They don't depend on the other texts.

        Raises:
            ValueError: a text is empty or too long, or has a token that is not in the vocabulary.
        """
        passes = list(_passes([len(each) for each in sequences]))
        alone = len(passes) == 1 or self.threads == 1
        asked = ([sequences[number] for number in numbers] for numbers in passes)
        run = map if alone else self._workers.map
        found: list[Any] = [None] * len(sequences)
        for numbers, rows in zip(passes, run(partial(self._forward, alone), asked), strict=True):
            for number, row in zip(numbers, rows, strict=True):
                found[number] = row
        return found

    def _forward(self, alone: bool, texts: Sequence[Sequence[int]]) -> list[npt.NDArray[np.float32]]:
        """The logits of the texts of a pass.

        Args:
            alone: it is the only one of these texts, so idle threads may help.
        """
        lengths = [len(text) for text in texts]
        ids = np.array([token for text in texts for token in text], np.int64)
        if not 0 < min(lengths) <= max(lengths) <= self._longest or ids.min() < 0 or ids.max() >= self._vocabulary:
            raise ValueError(f"texts of {min(lengths)} to {max(lengths)} tokens, at most {self._longest}, or of others")
        begins = np.cumsum([0, *lengths], dtype=np.int32)
        count = len(ids) if self._per_token else len(texts)
        out = np.empty((count, -(-self._labels // LANES) * LANES), np.float32)
        buffers = self._take_buffers()
        try:
            helpers = max(0, min(self.threads, len(ids) // _SHARE) - 1) if alone else 0
            library().encoder_begin(buffers)
            for _ in range(helpers):
                self._workers.submit(self._help, buffers)
            arrays = [address(each) for each in (ids, begins, out)]
            library().encoder_forward(self._model, buffers, len(texts), *arrays, 1 + helpers)
        finally:
            library().encoder_end(buffers)
            self._buffers.put(buffers)
        logits = out[:, : self._labels]
        return np.split(logits, begins[1:-1]) if self._per_token else list(logits)

    def _take_buffers(self) -> int:
        try:
            return self._buffers.get_nowait()
        except Empty:
            library().encoder_wanted(self._model, 1)
            try:
                return self._buffers.get()
            finally:
                library().encoder_wanted(self._model, -1)

    def _help(self, buffers: int) -> None:
        """Help with the pass of these buffers, unless others are all taken."""
        try:
            own = self._buffers.get_nowait()
        except Empty:
            return
        try:
            library().encoder_help(self._model, buffers, own)
        finally:
            self._buffers.put(own)

    def _pack(self, layer: int, kind: int, at: int, matrix: EightBits) -> None:
        levels = matrix.levels.view(np.uint8) ^ _ZERO
        zero = np.full(len(levels), _ZERO, np.uint8)
        given = map(address, (levels, matrix.scale, zero, matrix.bias))
        library().encoder_pack(self._model, layer, kind, at, len(levels), *given)


def _shape(weights: EncoderWeights) -> KernelEncoderShape:
    first = weights.layers[0]
    return KernelEncoderShape(
        layers=len(weights.layers),
        hidden=weights.words.levels.shape[1],
        heads=first.heads,
        width=first.width,
        inner=len(first.up.levels),
        labels=len(weights.head.levels),
        group=GROUP,
        reads=_READS.index(weights.reads),
        padding=-1 if weights.padding is None else weights.padding,
        epsilon=weights.norm.epsilon,
        scale=first.scale,
    )


def _fit(weights: EncoderWeights) -> bool:
    """Whether the sizes are those that the kernels read without looking."""
    if not weights.is_whole:
        return False
    first = weights.layers[0]
    sides = (weights.words.levels.shape[1], first.heads * first.width, len(first.up.levels))
    return (
        0 < first.width <= _MOST_WIDTH
        and first.width % LANES == 0
        and min(*sides, weights.longest) > 0
        and not any(side % GROUP for side in sides)
    )


def _matrices(weights: EncoderWeights) -> Iterator[tuple[int, int, int, EightBits]]:
    """(layer, kind, first output, matrix) of each matrix."""
    for number, layer in enumerate(weights.layers):
        attended = layer.heads * layer.width
        for place, matrix in enumerate((layer.query, layer.key, layer.value)):
            yield number, _QKV, place * attended, matrix
        yield number, _OUT, 0, layer.out
        yield number, _UP, 0, layer.up
        yield number, _DOWN, 0, layer.down
    yield 0, _HEAD, 0, weights.head


def _passes(lengths: Sequence[int]) -> Iterator[list[int]]:
    """The numbers of the texts of each pass."""
    begun: list[int] = []
    tokens = 0
    for number, length in enumerate(lengths):
        if begun and tokens + length > _TOKENS:
            yield begun
            begun, tokens = [], 0
        begun.append(number)
        tokens += length
    if begun:
        yield begun
