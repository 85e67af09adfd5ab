"""A decoder's tensors by their names in Llama, a few rows at a time, rotated where they will be quantised."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.core.progress import track
from tunewright.exporters.rotation import Rotation
from tunewright.models.architectures import SLIDING, architecture_of
from tunewright.models.files import loading
from tunewright.models.tensor_files import Tensor, TensorWriter, Weights

Floats = npt.NDArray[np.float32]

_NUMBERS = 1 << 20
"""Numbers of a matrix that are processed at once; in float32 they fit a core's cache."""
_TENSORS_A_LAYER, _OTHERS = 40, 16
"""The most tensors that a decoder's file has."""
HEAD, EMBEDDING = "lm_head", "model.embed_tokens"


@dataclass(frozen=True)
class Matrix:
    """A weight [out, in] of a decoder."""

    module: str
    shape: tuple[int, int]
    rows: Callable[[int, int], Floats]
    """Some of its rows, in float32."""

    def blocks(self) -> Iterator[tuple[int, int]]:
        """(first row, row after the last) of each block that is processed at once."""
        rows, width = self.shape
        step = max(1, _NUMBERS // width)
        return ((start, min(start + step, rows)) for start in range(0, rows, step))


@dataclass(frozen=True)
class Vector:
    """A norm's weight, a bias, a position encoding, or a factor of the graph's rotation."""

    name: str
    values: Floats


class Decoder:
    """A Hugging Face folder in the form from which runtimes are built.

    Args:
        rotated: whether to rotate the inputs of the matrices; see `tunewright.exporters.rotation`. The output layer is
            then a separate matrix.
        plus_one: whether norms that multiply by 1 + w are given as 1 + w.
        own_head: whether the output layer is a separate matrix in any case.

    Raises:
        UserError: the folder is incomplete, or its tensors are not a decoder's.
    """

    def __init__(self, folder: Path, *, rotated: bool, plus_one: bool = True, own_head: bool = False):
        from transformers import AutoConfig

        self.folder = folder
        with loading(folder):
            self.config = AutoConfig.from_pretrained(folder, local_files_only=True)
        self._weights = Weights(folder)
        if f"{EMBEDDING}.weight" not in self._weights:
            raise UserError(
                "These weights are not a decoder's.",
                where=folder,
                why=f"They have no {EMBEDDING}.weight.",
                fix="Give the folder of a causal language model as transformers saves it.",
            )
        self.architecture = architecture_of(self.config.to_dict())
        self._rotation = Rotation(self._weights, self.config.hidden_size, self.architecture) if rotated else None
        self._plus_one = plus_one and self.architecture.one_plus
        self._own_head = own_head or self._rotation is not None

    def writer(self, path: Path) -> TensorWriter:
        """A writer with space for all of the decoder's tensors, scales and zeros included."""
        return TensorWriter(path, self.config.num_hidden_layers * _TENSORS_A_LAYER + _OTHERS)

    def tracked(self, name: str) -> Iterator[Matrix | Vector]:
        """`parts` with a progress bar."""
        with track(name, len(self._weights), "tensors") as tracker:
            for number, part in enumerate(self.parts()):
                tracker.update(min(number, len(self._weights)))
                yield part

    def parts(self) -> Iterator[Matrix | Vector]:
        """Every tensor once, in the order of the files."""
        for name, tensor in self._weights.items():
            module, _, kind = name.rpartition(".")
            if module.endswith("rotary_emb") or (module == HEAD and self._shared_head):
                continue
            if len(tensor.shape) == 2:
                for part, rows in rows_of(module, len(tensor.raw), self.config):
                    yield self._matrix(part, tensor, rows)
            else:
                for part, rows in rows_of(module, len(tensor.raw), self.config):
                    yield Vector(f"{part}.{kind}", self._vector(part, kind, tensor.float32(rows)))
        if self._own_head and self.config.tie_word_embeddings:
            yield self._matrix(HEAD, self._weights[f"{EMBEDDING}.weight"], slice(0, self.config.vocab_size))
        yield from self._rotary()
        for name, values in self._rotation.factors().items() if self._rotation else ():
            yield Vector(f"turn.{name}", values)

    @property
    def _shared_head(self) -> bool:
        """Whether the output layer is the embedding, so that the files may only have a copy of it."""
        return bool(self.config.tie_word_embeddings)

    def _matrix(self, module: str, tensor: Tensor, of: slice) -> Matrix:
        rotation, shape = self._rotation, (of.stop - of.start, tensor.shape[1])
        if rotation and rotation.writes(module):  # each rotated row depends on all rows
            whole = rotation.weight(module, tensor.float32(of))
            return Matrix(module, shape, lambda start, end: whole[start:end])

        def rows(start: int, end: int) -> Floats:
            exact = tensor.float32(slice(of.start + start, of.start + end))
            return rotation.weight(module, exact) if rotation else exact

        return Matrix(module, shape, rows)

    def _vector(self, module: str, kind: str, values: Floats) -> Floats:
        if self._plus_one and module.endswith("norm"):
            values = values + np.float32(1)
        if self._rotation is None:
            return values
        if kind == "bias":
            return self._rotation.outputs(module, values[:, None])[:, 0]
        return self._rotation.weight(module, values)

    def _rotary(self) -> Iterator[Vector]:
        """The rotary position encoding as in transformers; both encodings where layers with a window have another."""
        from transformers import AutoModel

        config = copy.deepcopy(self.config)
        config.num_hidden_layers, config.vocab_size = 0, 8
        config.pad_token_id = None
        if getattr(config, "layer_types", None):
            config.layer_types = []
        kind = type(AutoModel.from_config(config).rotary_emb)
        rotary = kind(self.config)
        prefixes = {"rotary": ""}
        if self.architecture.rotary_by_kind:
            prefixes = {"rotary": "full_attention_", f"rotary.{SLIDING}": f"{SLIDING}_"}
        for name, prefix in prefixes.items():
            if hasattr(rotary, f"{prefix}inv_freq"):
                yield Vector(f"{name}.inv_freq", getattr(rotary, f"{prefix}inv_freq").float().cpu().numpy())
                scale = getattr(rotary, f"{prefix}attention_scaling")
                yield Vector(f"{name}.scale", np.array([scale], np.float32))


def parts_of(name: str, config: Any) -> dict[str, int]:
    """The matrices inside a fused one, as in Phi-3, with their shares of its outputs; for any other, itself."""
    if name.endswith("qkv_proj"):
        stem, heads, key_heads = name.removesuffix("qkv_proj"), config.num_attention_heads, config.num_key_value_heads
        return {f"{stem}q_proj": heads, f"{stem}k_proj": key_heads, f"{stem}v_proj": key_heads}
    if name.endswith("gate_up_proj"):
        stem = name.removesuffix("gate_up_proj")
        return {f"{stem}gate_proj": 1, f"{stem}up_proj": 1}
    return {name: 1}


def rows_of(name: str, count: int, config: Any) -> Iterator[tuple[str, slice]]:
    """(name, rows) of each matrix inside a fused one."""
    shares = parts_of(name, config)
    unit = count // sum(shares.values())
    start = 0
    for part, share in shares.items():
        yield part, slice(start, start + unit * share)
        start += unit * share
