"""A decoder in our own kernels, with its memory. It reads the weights that OpenVINO reads, and follows
`tunewright.inference.runtimes.openvino.passes.PassNetwork`."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import Any, Self
from weakref import WeakKeyDictionary, finalize

import numpy as np
import numpy.typing as npt

from tunewright.core.threads import threads as default_threads
from tunewright.inference.runtimes.openvino.adapter import Adapter
from tunewright.inference.runtimes.openvino.passes import MIN_TOGETHER, PASS_TOKENS, SequencePart, blocks_in_memory
from tunewright.inference.runtimes.openvino.shape import WEIGHTS, GraphShape, adapted_matrices
from tunewright.inference.runtimes.vnni.library import (
    KINDS,
    LANES,
    MOST_WIDTH,
    PANEL,
    TOKENS,
    KernelAdapter,
    KernelShape,
    MatrixPiece,
    Pass,
    Thin,
    address,
    free_in,
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
_EMBEDDING, _OWN_HEAD = "model.embed_tokens", "lm_head"
_FIRST_UP = "model.layers.0.mlp.up_proj.weight"
_LONGEST = 1 << 24
"""Tokens of a context."""

Tensors = Mapping[str, npt.NDArray[Any]]


class PackedWeights:
    """A decoder's weights in the kernels' order, for any number of networks. All are copies, so the file may change.

    Args:
        tensors: of a model of this shape, as `_fit` checks them.
    """

    def __init__(self, shape: GraphShape, tensors: Tensors):
        hidden = tensors[f"{_EMBEDDING}.weight"].shape[1]
        self.vocabulary = len(tensors[f"{_EMBEDDING}.weight"])
        self.shape = KernelShape(
            layers=shape.layers,
            hidden=hidden,
            heads=shape.heads,
            key_heads=shape.key_heads,
            width=shape.width,
            inner=len(tensors[_FIRST_UP]),
            vocabulary=self.vocabulary,
            group=shape.group,
            epsilon=shape.epsilon,
            scale=shape.scale,
            rotary_scale=float(tensors["rotary.scale"][0]),
        )
        of_model = (
            "rotary.inv_freq",
            "model.norm.weight",
            *(f"{_EMBEDDING}.{part}" for part in ("weight", "scale", "zero")),
        )
        norms = ("input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm")
        by_layer = [[f"model.layers.{layer}.{norm}.weight" for norm in norms] for layer in range(shape.layers)]
        kept = {name: np.array(tensors[name]) for name in (*of_model, *chain(*by_layer)) if name in tensors}
        self.model = library().model_new(ctypes.byref(self.shape), *(address(kept[name]) for name in of_model))
        if not self.model:
            raise MemoryError("no memory for the weights")
        # The argument keeps what the kernels point at.
        finalize(self, free_in, os.getpid(), library().model_free, self.model, kept).atexit = False
        for layer, (window, names) in enumerate(zip(shape.windows, by_layer, strict=True)):
            library().model_layer(self.model, layer, window, *(address(kept.get(name)) for name in names))
        self._pack(tensors)
        self.fingerprint = _fingerprint(shape, tensors)
        self._adapters: WeakKeyDictionary[Adapter, _PackedAdapter] = WeakKeyDictionary()
        self._packing = Lock()

    def _pack(self, tensors: Tensors) -> None:
        """Copy the matrices, in one call of each thread: between calls it may wait for the GIL."""
        pieces = [MatrixPiece(*each) for each in _pieces(tensors, self.shape.layers)]
        given = self.model, (MatrixPiece * len(pieces))(*pieces), len(pieces), ctypes.byref(ctypes.c_int())
        threads = default_threads()
        with ThreadPoolExecutor(threads) as workers:
            list(workers.map(lambda _: library().model_pack(*given), range(threads)))

    def adapter(self, adapter: Adapter) -> int:
        """The address of an adapter in the form that the kernels read. It is valid as long as the adapter is.

        Raises:
            ValueError: it is one of another model.
        """
        with self._packing:
            if adapter not in self._adapters:
                self._adapters[adapter] = _PackedAdapter(adapter, self.shape)
            return self._adapters[adapter].address

    @classmethod
    def load(cls, folder: Path) -> Self | None:
        """The weights that `tunewright.exporters.openvino` wrote into a folder; None if the kernels don't know the
        model, its precision or this processor, or if something is wrong with the file, which OpenVINO then says."""
        if reason_against():
            return None
        shape = GraphShape.read(folder)
        tensors = {name: tensor.raw for name, tensor in TensorFile(folder / WEIGHTS).items()}
        return cls(shape, tensors) if _known(shape) and _fit(shape, tensors) else None


def _fingerprint(shape: GraphShape, tensors: Tensors) -> str:
    """Of what these kernels compute with these weights. It reads the vectors, a hundredth of the bytes: a training
    changes every matrix, and so its scales."""
    hashed = hashlib.sha256(f"{library().source_hash().decode()} {shape}".encode())
    for name in sorted(tensors):
        if not name.endswith(".weight") or tensors[name].ndim == 1:
            hashed.update(name.encode() + tensors[name].tobytes())
    return hashed.hexdigest()


def _known(shape: GraphShape) -> bool:
    """Whether the kernels compute what a model's graph does."""
    return not (
        shape.outer_norms
        or shape.rotary_by_kind
        or shape.growing
        or shape.capped
        or shape.embedded != 1
        or shape.activation != "silu"
        or shape.width > MOST_WIDTH
        or shape.width % (2 * LANES)
        or shape.heads % shape.key_heads
    )


def _fit(shape: GraphShape, tensors: Tensors) -> bool:
    """Whether all tensors are there, in the types and sizes that the kernels read without looking."""
    embedding, up = tensors.get(f"{_EMBEDDING}.weight"), tensors.get(_FIRST_UP)
    if embedding is None or up is None or embedding.ndim != 2 or up.ndim != 2:
        return False
    (vocabulary, hidden), inner = embedding.shape, len(up)
    attended = shape.heads * shape.width
    sides = _sides(attended, shape.key_heads * shape.width, hidden, inner)
    vectors = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    if shape.head_norms:
        vectors |= {"self_attn.q_norm": shape.width, "self_attn.k_norm": shape.width}
    wanted: dict[str, tuple[type, tuple[int, ...]]] = {
        "rotary.inv_freq": (np.float32, (shape.width // 2,)),
        "rotary.scale": (np.float32, (1,)),
        "model.norm.weight": (np.float32, (hidden,)),
    }
    matrices = {_EMBEDDING: (vocabulary, hidden)} | ({_OWN_HEAD: (vocabulary, hidden)} if _own_head(tensors) else {})
    for layer in range(shape.layers):
        matrices |= {f"model.layers.{layer}.{part}": both for part, both in sides.items()}
        wanted |= {f"model.layers.{layer}.{norm}.weight": (np.float32, (n,)) for norm, n in vectors.items()}
        if f"model.layers.{layer}.mlp.up_proj.weight" not in tensors:  # a config may claim a million layers
            return False
    for name, (outputs, inputs) in matrices.items():
        wanted[f"{name}.weight"] = (np.uint8, (outputs, inputs))
        wanted |= {f"{name}.{part}": (kind, (outputs, 1)) for part, kind in (("scale", np.float32), ("zero", np.uint8))}
        if name.startswith("model.layers.") and f"{name}.bias" in tensors:
            wanted[f"{name}.bias"] = (np.float32, (outputs,))
    return (
        not any(side % shape.group for side in (hidden, attended, inner))
        and tensors.keys() == wanted.keys()
        and all(tensors[name].dtype == kind and tensors[name].shape == sizes for name, (kind, sizes) in wanted.items())
    )


def _sides(attended: int, keys: int, hidden: int, inner: int) -> dict[str, tuple[int, int]]:
    """(outputs, inputs) of each matrix of a layer."""
    return {
        "self_attn.q_proj": (attended, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, attended),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }


def _own_head(tensors: Tensors) -> bool:
    return f"{_OWN_HEAD}.weight" in tensors


def _pieces(tensors: Tensors, layers: int) -> Iterator[tuple[Any, ...]]:
    """The fields of each `MatrixPiece`, the largest first, so that threads end together."""
    yield (0, _HEAD, 0, *_matrix(tensors, _OWN_HEAD if _own_head(tensors) else _EMBEDDING))
    for layer in range(layers):
        at = dict.fromkeys(_MATRICES.values(), 0)
        for part, kind in _MATRICES.items():
            rows, *addresses = _matrix(tensors, f"model.layers.{layer}.{part}")
            yield (layer, kind, at[kind], rows, *addresses)
            at[kind] += rows


def _matrix(tensors: Tensors, name: str) -> tuple[Any, ...]:
    """(rows, the addresses of a matrix's levels, scales, zero points and bias)"""
    parts = (tensors.get(f"{name}.{part}") for part in ("weight", "scale", "zero", "bias"))
    return (len(tensors[f"{name}.weight"]), *map(address, parts))


class _PackedAdapter:
    """The matrices of an adapter, with zeros up to whole registers of columns.

    Raises:
        ValueError: it is one of another model.
    """

    def __init__(self, adapter: Adapter, shape: KernelShape):
        rank = -(-adapter.rank // LANES) * LANES
        names = adapted_matrices(shape.layers)
        sides = _sides(shape.heads * shape.width, shape.key_heads * shape.width, shape.hidden, shape.inner)
        if not adapter.down.keys() <= set(names):
            raise ValueError(f"an adapter of another model: it has {min(adapter.down.keys() - set(names))}")
        self._kept: list[npt.NDArray[np.float32]] = []
        thin = (Thin * len(names))()
        for number, name in enumerate(names):
            if name in adapter.down:
                outputs, inputs = sides[".".join(name.split(".")[3:])]
                down, up = np.zeros((inputs, rank), np.float32), np.zeros((rank, outputs), np.float32)
                own = adapter.down[name].shape[1]
                if adapter.down[name].shape[0] != inputs or adapter.up[name].shape != (own, outputs):
                    raise ValueError(f"an adapter of another model: {name} is {inputs} to {outputs} there")
                down[:, :own], up[:own] = adapter.down[name], adapter.up[name]
                self._kept += [down, up]
                thin[number] = Thin(address(down), address(up))
        self._thin, self._adapter = thin, KernelAdapter(rank, thin)
        self.address = ctypes.addressof(self._adapter)


class VnniNetwork:
    """A decoder with blocks of memory for keys and values.

    Args:
        context: tokens that a sequence may have.
        threads: CPU threads.
    """

    block_size = TOKENS
    slots = PASS_TOKENS  # any number of adapters

    def __init__(self, weights: PackedWeights, context: int, threads: int):
        shape = weights.shape
        if not 0 < context < _LONGEST:
            raise ValueError(f"a context of {context} tokens")
        self.bytes_a_block = shape.layers * shape.key_heads * TOKENS * (4 * shape.width + 3 * 4)
        self.blocks = blocks_in_memory(self.bytes_a_block, TOKENS, context)
        self._vocabulary, self._adapter = weights.vocabulary, weights.adapter
        self.fingerprint = weights.fingerprint
        self._network = library().network_new(weights.model, threads, _MOST, self.blocks, context)
        if not self._network:
            raise MemoryError(f"no memory for {self.blocks} blocks of keys and values, or no thread")
        # The argument keeps the weights until the network has gone.
        finalize(self, free_in, os.getpid(), library().network_free, self._network, weights).atexit = False

    def copy(self, source: int, target: int) -> None:
        library().network_copy(self._network, source, target)

    def block(self, index: int) -> npt.NDArray[np.uint8]:
        """The memory of a block. It is valid as long as the network is."""
        where = library().network_block(self._network, index)
        return np.ctypeslib.as_array((ctypes.c_uint8 * self.bytes_a_block).from_address(where))

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
        if any(part.adapter for part in parts):
            each = [self._adapter(part.adapter) if part.adapter else 0 for part in parts]
            arrays["adapters"] = np.repeat(np.array(each, np.uint64), counts)
        if all(part.choices is not None for part in parts if part.needs_logits):
            arrays["panels"] = self._panels([token for part in parts for token in part.choices or ()])
        addresses = {name: address(array) for name, array in arrays.items()}
        counted = {"tokens": len(ids), "sequences": len(parts), "wanted": len(wanted)}
        this_pass = Pass(**counted, panel_count=len(arrays.get("panels", ())), **addresses)
        library().network_forward(self._network, ctypes.byref(this_pass))
        return logits[:, : self._vocabulary]

    def _panels(self, tokens: Sequence[int]) -> npt.NDArray[np.int32]:
        """The panels of the head that some tokens are in."""
        if tokens and not 0 <= min(tokens) <= max(tokens) < self._vocabulary:
            raise ValueError(f"logits of the tokens from {min(tokens)} to {max(tokens)}, of {self._vocabulary}")
        return np.array(sorted({token // PANEL for token in tokens}), np.int32)

    def spent(self) -> dict[str, float]:
        """The cycles of the first thread so far, by what it did; see `library.KINDS`."""
        counted = (ctypes.c_double * len(KINDS))()
        library().network_spent(self._network, counted)
        return dict(zip(KINDS, counted, strict=True))
