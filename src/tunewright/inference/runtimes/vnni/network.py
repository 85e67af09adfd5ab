"""A decoder in our own kernels, with its memory. It reads the weights that OpenVINO reads, and follows
`tunewright.inference.runtimes.openvino.passes.Network`."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self
from weakref import finalize

import numpy as np
import numpy.typing as npt

from tunewright.core.threads import threads as default_threads
from tunewright.inference.runtimes.openvino.passes import MIN_TOGETHER, PASS_TOKENS, SequencePart, blocks_in_memory
from tunewright.inference.runtimes.openvino.shape import WEIGHTS, GraphShape
from tunewright.inference.runtimes.vnni.library import (
    KINDS,
    LANES,
    MOST_WIDTH,
    TOKENS,
    Pass,
    Shape,
    library,
    reason_against,
)
from tunewright.models.tensor_files import TensorFile

_MOST = PASS_TOKENS + MIN_TOGETHER
_QKV, _OUT, _UP, _DOWN, _HEAD = range(5)
_MATRICES = {
    "self_attn.q_proj": _QKV,
    "self_attn.k_proj": _QKV,
    "self_attn.v_proj": _QKV,
    "self_attn.o_proj": _OUT,
    "mlp.gate_proj": _UP,
    "mlp.up_proj": _UP,
    "mlp.down_proj": _DOWN,
}
"""The matrices of a layer -> the one of `decoder.c` that they are part of, in the order of its outputs."""
_EMBEDDING = "model.embed_tokens"


class PackedWeights:
    """A decoder's weights in the kernels' order, for any number of networks.

    Args:
        folder: what `tunewright.exporters.openvino` wrote in int8.
    """

    def __init__(self, folder: Path, shape: GraphShape, weights: TensorFile):
        self._weights = weights
        """The embedding and the norms are used where they are."""
        tensors = {name: tensor.raw for name, tensor in weights.items()}
        self.vocabulary, hidden = tensors[f"{_EMBEDDING}.weight"].shape
        self.shape = Shape(
            layers=shape.layers,
            hidden=hidden,
            heads=shape.heads,
            key_heads=shape.key_heads,
            width=shape.width,
            inner=len(tensors["model.layers.0.mlp.up_proj.weight"]),
            vocabulary=self.vocabulary,
            group=shape.group,
            epsilon=shape.epsilon,
            scale=shape.scale,
            rotary_scale=float(tensors["rotary.scale"][0]),
        )
        told = (
            "rotary.inv_freq",
            "model.norm.weight",
            *(f"{_EMBEDDING}.{part}" for part in ("weight", "scale", "zero")),
        )
        self.model = library().model_new(ctypes.byref(self.shape), *(_address(tensors.get(name)) for name in told))
        if not self.model:
            raise MemoryError(f"no memory for the weights of {folder}")
        finalize(self, library().model_free, self.model).atexit = False
        norms = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")
        for layer in range(shape.layers):
            own = (tensors.get(f"model.layers.{layer}.{norm}.weight") for norm in norms)
            library().model_norms(self.model, layer, *map(_address, own))
        with ThreadPoolExecutor(default_threads()) as workers:
            list(workers.map(lambda job: library().model_pack(self.model, *job), _jobs(tensors, shape.layers)))
        weights.let_go()

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The weights in a folder; None if the kernels don't know the model, its precision or this processor."""
        if reason_against():
            return None
        shape, weights = GraphShape.read(folder), TensorFile(folder / WEIGHTS)
        return cls(folder, shape, weights) if _known(shape, weights) else None


def _known(shape: GraphShape, weights: TensorFile) -> bool:
    """Whether the kernels compute what a model's graph does."""
    plain = not (
        any(shape.windows)
        or shape.outer_norms
        or shape.rotary_by_kind
        or shape.growing
        or shape.capped
        or shape.embedded != 1
        or shape.activation != "silu"
        or shape.width > MOST_WIDTH
        or shape.width % (4 * LANES)
        or shape.width != 2 * len(weights["rotary.inv_freq"].raw)
    )
    matrices = [tensor for tensor in weights.values() if len(tensor.shape) == 2 and tensor.name.endswith(".weight")]
    scales = [tensor for name, tensor in weights.items() if name.endswith(".scale") and not name.startswith("rotary")]
    bytes_each = all(tensor.kind == "U8" for tensor in matrices)
    return plain and bytes_each and all(len(tensor.shape) == 2 for tensor in scales)


def _jobs(tensors: dict[str, Any], layers: int) -> Iterator[tuple[Any, ...]]:
    """The arguments of each `model_pack`."""
    for layer in range(layers):
        at = dict.fromkeys(_MATRICES.values(), 0)
        for part, kind in _MATRICES.items():
            rows, *told = _matrix(tensors, f"model.layers.{layer}.{part}")
            yield (layer, kind, at[kind], rows, *told)
            at[kind] += rows
    yield (0, _HEAD, 0, *_matrix(tensors, "lm_head" if "lm_head.weight" in tensors else _EMBEDDING))


def _matrix(tensors: dict[str, Any], name: str) -> tuple[Any, ...]:
    """(rows, the addresses of a matrix's levels, scales, zero points and bias)"""
    parts = (tensors.get(f"{name}.{part}") for part in ("weight", "scale", "zero", "bias"))
    return (len(tensors[f"{name}.weight"]), *map(_address, parts))


def _address(array: npt.NDArray[Any] | None) -> int | None:
    return None if array is None else array.ctypes.data


class VnniNetwork:
    """A decoder with blocks of memory for keys and values.

    Args:
        context: tokens that a sequence may have.
        threads: CPU threads.
    """

    block_size = TOKENS
    slots = 0

    def __init__(self, weights: PackedWeights, context: int, threads: int):
        shape = weights.shape
        bytes_a_block = shape.layers * shape.key_heads * TOKENS * 2 * (2 * shape.width + 4)
        self.blocks = blocks_in_memory(bytes_a_block, TOKENS, context)
        self._vocabulary = weights.vocabulary
        self._network = library().network_new(weights.model, threads, _MOST, self.blocks, context)
        if not self._network:
            raise MemoryError(f"no memory for {self.blocks} blocks of keys and values, or no thread")
        # The argument keeps the weights until the network has gone.
        finalize(self, _free, self._network, weights).atexit = False

    def copy(self, source: int, target: int) -> None:
        library().network_copy(self._network, source, target)

    def forward(self, parts: Sequence[SequencePart]) -> npt.NDArray[np.float32]:
        counts = [len(part.tokens) for part in parts]
        ids = np.array([token for part in parts for token in part.tokens], np.int64)
        if len(ids) > _MOST or ids.min() < 0 or ids.max() >= self._vocabulary:
            raise ValueError(f"a pass of {len(ids)} tokens, at most {_MOST}, from {ids.min()} to {ids.max()}")
        begins = np.cumsum([0, *counts], dtype=np.int32)
        wanted = np.array([begins[n + 1] - 1 for n, part in enumerate(parts) if part.needs_logits], np.int64)
        logits = np.empty((len(wanted), -(-self._vocabulary // LANES) * LANES), np.float32)
        arrays = {
            "ids": ids,
            "positions": np.concatenate([np.arange(len(part.tokens), dtype=np.int64) + part.past for part in parts]),
            "past": np.array([part.past for part in parts], np.int32),
            "begins": begins,
            "blocks": np.array([block for part in parts for block in part.blocks], np.int32),
            "block_begins": np.cumsum([0, *(len(part.blocks) for part in parts)], dtype=np.int32),
            "wanted_at": wanted,
            "logits": logits,
        }
        addresses = {name: _address(array) for name, array in arrays.items()}
        told = Pass(tokens=len(ids), sequences=len(parts), wanted=len(wanted), **addresses)
        library().network_forward(self._network, ctypes.byref(told))
        return logits[:, : self._vocabulary]

    def spent(self) -> dict[str, float]:
        """The cycles of the first thread so far, by what it did; see `library.KINDS`."""
        counted = (ctypes.c_double * len(KINDS))()
        library().network_spent(self._network, counted)
        return dict(zip(KINDS, counted, strict=True))


def _free(network: int, _: PackedWeights) -> None:
    library().network_free(network)
