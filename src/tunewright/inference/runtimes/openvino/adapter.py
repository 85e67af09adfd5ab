"""A LoRA adapter in the form that is served beside others: two thin matrices for each adapted one. The second one
includes the scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.models.tensor_files import FLOATS, TensorFile

Floats = npt.NDArray[np.float32]

ADAPTER = "adapter.safetensors"


@dataclass(frozen=True, eq=False)
class Adapter:
    """The matrices of a loaded adapter, by the name of the matrix that they adapt."""

    down: Mapping[str, Floats]
    """[in, rank]"""
    up: Mapping[str, Floats]
    """[rank, out]"""

    @property
    def rank(self) -> int:
        return max((matrix.shape[1] for matrix in self.down.values()), default=0)

    @property
    def nbytes(self) -> int:
        return sum(matrix.nbytes for part in (self.down, self.up) for matrix in part.values())


def save_adapter(adapter: Adapter, folder: Path) -> None:
    """Write an adapter in float16 into a new folder."""
    from safetensors.numpy import save_file

    folder.mkdir()
    tensors = {
        f"{part}.{name}": np.ascontiguousarray(matrix, np.float16)
        for part in ("down", "up")
        for name, matrix in getattr(adapter, part).items()
    }
    save_file(tensors, folder / ADAPTER)


def load_adapter(folder: Path) -> Adapter:
    """Load what `save_adapter` wrote.

    Raises:
        UserError: the file is not an adapter, or some of its values are not finite.
    """
    path = folder / ADAPTER
    parts: dict[str, dict[str, Floats]] = {"down": {}, "up": {}}
    for key, tensor in TensorFile(path).items():
        part, _, name = key.partition(".")
        if part not in parts or tensor.kind not in FLOATS or len(tensor.shape) != 2:
            raise _not_an_adapter(path, f"It has a tensor {key[:100]} of type {tensor.kind}, {list(tensor.shape)}.")
        parts[part][name] = np.array(tensor.float32())
        if not np.isfinite(parts[part][name]).all():
            raise _not_an_adapter(path, f"Some values of {key[:100]} are not finite numbers.")
    down, up = parts["down"], parts["up"]
    for name in down.keys() | up.keys():
        if name not in down or name not in up or down[name].shape[1] != up[name].shape[0]:
            raise _not_an_adapter(path, f"The matrices for {name[:100]} don't fit together.")
    return Adapter(down, up)


def _not_an_adapter(path: Path, why: str) -> UserError:
    return UserError("This is not an adapter.", where=path, why=why, fix="Export it again, or copy it again.")


def side_by_side(slots: Sequence[Adapter | None], sizes: Mapping[str, tuple[int, int]], width: int) -> Adapter:
    """Put the columns of several adapters side by side. Each gets `width` columns; those beyond its rank are zero.

    Args:
        slots: None is an empty slot.
        sizes: (in, out) of every matrix that can have an adapter.
        width: columns of a slot; at least the rank of each adapter.
    """
    down: dict[str, Floats] = {}
    up: dict[str, Floats] = {}
    for name, (inputs, outputs) in sizes.items():
        down[name] = np.zeros((inputs, width * len(slots)), np.float32)
        up[name] = np.zeros((width * len(slots), outputs), np.float32)
        for number, adapter in enumerate(slots):
            if adapter and name in adapter.down:
                columns = slice(number * width, number * width + adapter.down[name].shape[1])
                down[name][:, columns], up[name][columns] = adapter.down[name], adapter.up[name]
    return Adapter(down, up)
