"""Merges an adapter into its base, from file to file, a few rows at a time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.exporters.lora import Update, read_lora
from tunewright.models.tensor_files import ALONE, FLOATS, INDEX, Tensor, TensorWriter, Weights

_BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json")
_NUMBERS = 1 << 22
"""Numbers of a matrix that are processed at once."""
_WORDS = {"BF16": "bfloat16", "F16": "float16"}
_EXPONENT = {"BF16": 0x7F80, "F16": 0x7C00}
"""The bits of a number's exponent. All of them are set in those that are not finite."""


def merge(base: Path, adapter: Path, target: Path) -> None:
    """Write base + adapter as one Hugging Face folder in 16 bits: bfloat16 where the base has it, else float16.

    The update is added in float32 and rounded once. An adapter trained on NF4 weights is merged into the original
    weights, which gives a slightly different model: the parity table shows how different. A bfloat16 base stays
    bfloat16, because its activations may exceed float16's range. This needs the memory of a few rows. The files are
    divided as in the base.

    Raises:
        UserError: the base or the adapter is incomplete, they don't belong together, or the base's numbers or the sum
            are not finite.
    """
    weights, updates = Weights(base), read_lora(adapter)
    kind = "BF16" if any(tensor.kind == "BF16" for tensor in weights.values()) else "F16"
    named = _named(weights, updates, adapter)
    target.mkdir(parents=True)
    for file in weights.files:
        writer = TensorWriter(target / file.path.name, len(file))
        for name, tensor in file.items():
            if tensor.kind in FLOATS:
                writer.write(name, _rounded(tensor, named.get(name), kind), kind)
            else:
                writer.write(name, tensor.raw, tensor.kind)
        writer.close()
    if [file.path.name for file in weights.files] != [ALONE]:
        _write_index(weights, target)
    _write_config(base, target, _WORDS[kind])
    for beside in _BESIDE:
        if (base / beside).is_file():
            shutil.copy(base / beside, target / beside)


def _named(weights: Weights, updates: dict[str, Update], adapter: Path) -> dict[str, Update]:
    """The updates by the names of their tensors."""
    named = {f"{name}.weight": update for name, update in updates.items()}
    for name, update in named.items():
        shape = (len(update.up), update.down.shape[1])
        if name not in weights or weights[name].shape != shape:
            problem = f"has {list(weights[name].shape)} numbers" if name in weights else "does not exist"
            raise UserError(
                "The adapter does not belong to this base model.",
                where=adapter,
                why=f"It changes {name} {list(shape)}, which {problem} in {weights.folder}.",
                fix="Export with the base that it was trained on.",
            )
    return named


def _rounded(tensor: Tensor, update: Update | None, kind: str) -> Iterator[npt.NDArray[Any]]:
    """A tensor plus its update in 16 bits, a few rows at a time."""
    if update is None and tensor.kind == kind:
        if not _is_finite(tensor):
            raise _not_finite(tensor.name, kind, is_base=True)
        yield tensor.raw
        return
    if not tensor.shape:
        yield _in_16_bits(tensor.float32(), kind, tensor.name, is_base=True)
        return
    step = max(1, _NUMBERS // max(1, int(np.prod(tensor.shape[1:]))))
    for start in range(0, tensor.shape[0], step):
        rows = tensor.float32(slice(start, start + step))
        whole = rows if update is None else rows + update.rows(start, start + step)
        yield _in_16_bits(whole, kind, tensor.name, is_base=update is None)


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers of a tensor of 16 bits are finite."""
    bits, exponent = tensor.raw.reshape(-1).view(np.uint16), np.uint16(_EXPONENT[tensor.kind])
    parts = (bits[start : start + _NUMBERS] for start in range(0, len(bits), _NUMBERS))
    return not any(((part & exponent) == exponent).any() for part in parts)


def _in_16_bits(values: npt.NDArray[np.float32], kind: str, name: str, *, is_base: bool) -> npt.NDArray[Any]:
    """Values rounded to the nearest, ties to even."""
    with np.errstate(over="ignore"):
        half = values.astype(np.float16) if kind == "F16" else values
    if not np.isfinite(half).all():
        raise _not_finite(name, kind, is_base=is_base)
    if kind == "F16":
        return half
    bits = values.view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def _not_finite(name: str, kind: str, *, is_base: bool) -> UserError:
    """
    Args:
        is_base: the adapter does not change these weights.
    """
    if is_base:
        return UserError(
            f"The base model's weights of {name} are not finite numbers in {_WORDS[kind]}.",
            why="A model with such weights gives no useful answer, and a fast runtime may hide that.",
            fix="Copy the base again, or choose another: tunewright models ls",
        )
    return UserError(
        f"The merged weights of {name} are not finite numbers in {_WORDS[kind]}.",
        why="The training diverged: an adapter with such large updates gives no useful answer.",
        fix="Train again with a smaller train.lr; the diagnosis of the training says more.",
    )


def _write_index(weights: Weights, target: Path) -> None:
    placed = {name: file.path.name for file in weights.files for name in file}
    total = sum(tensor.raw.size * (2 if tensor.kind in FLOATS else tensor.raw.itemsize) for tensor in weights.values())
    content = {"metadata": {"total_size": total}, "weight_map": placed}
    (target / INDEX).write_text(json.dumps(content, indent=2), "utf-8")


def _write_config(base: Path, target: Path, dtype: str) -> None:
    """Write the base's config with the new type of the weights."""
    config = json.loads((base / "config.json").read_text("utf-8"))
    config.pop("torch_dtype", None)  # the older name of the key
    (target / "config.json").write_text(json.dumps(config | {"dtype": dtype}, indent=2), "utf-8")
