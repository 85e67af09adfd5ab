"""A LoRA adapter as it is served beside others: for each matrix two thin ones, the scale already in the second."""

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
    """Loaded."""

    down: Mapping[str, Floats]
    """For each adapted matrix [in, rank]."""
    up: Mapping[str, Floats]
    """[rank, out]"""

    @property
    def rank(self) -> int:
        return max((matrix.shape[1] for matrix in self.down.values()), default=0)

    @property
    def nbytes(self) -> int:
        return sum(matrix.nbytes for part in (self.down, self.up) for matrix in part.values())


def save_adapter(adapter: Adapter, folder: Path) -> None:
    """Write it in float16, into a new folder."""
    from safetensors.numpy import save_file

    folder.mkdir()
    tensors = {
        f"{part}.{name}": np.ascontiguousarray(matrix, np.float16)
        for part in ("down", "up")
        for name, matrix in getattr(adapter, part).items()
    }
    save_file(tensors, folder / ADAPTER)


def load_adapter(folder: Path) -> Adapter:
    """What `save_adapter` wrote.

    Raises:
        UserError: it is none, or has values that are no numbers.
    """
    path = folder / ADAPTER
    parts: dict[str, dict[str, Floats]] = {"down": {}, "up": {}}
    for key, tensor in TensorFile(path).items():
        part, _, name = key.partition(".")
        if part not in parts or tensor.kind not in FLOATS or len(tensor.shape) != 2:
            raise _unlike(path, f"It has a tensor {key[:100]} of the type {tensor.kind}, {list(tensor.shape)}.")
        parts[part][name] = np.array(tensor.float32())
        if not np.isfinite(parts[part][name]).all():
            raise _unlike(path, f"Some values of {key[:100]} are no numbers.")
    down, up = parts["down"], parts["up"]
    for name in down.keys() | up.keys():
        if name not in down or name not in up or down[name].shape[1] != up[name].shape[0]:
            raise _unlike(path, f"What it has for {name[:100]} is no pair of matrices.")
    return Adapter(down, up)


def _unlike(path: Path, why: str) -> UserError:
    return UserError("This is no adapter.", where=path, why=why, fix="Export it again, or copy it again.")


def side_by_side(places: Sequence[Adapter | None], sizes: Mapping[str, tuple[int, int]], width: int) -> Adapter:
    """One adapter that has the columns of several in order, each with as many: those beyond its rank change nothing.

    Args:
        places: None: nobody's.
        sizes: of every matrix that could be adapted, (in, out).
        width: columns of a place; no adapter's rank is larger.
    """
    down: dict[str, Floats] = {}
    up: dict[str, Floats] = {}
    for name, (inputs, outputs) in sizes.items():
        down[name] = np.zeros((inputs, width * len(places)), np.float32)
        up[name] = np.zeros((width * len(places), outputs), np.float32)
        for number, adapter in enumerate(places):
            if adapter and name in adapter.down:
                columns = slice(number * width, number * width + adapter.down[name].shape[1])
                down[name][:, columns], up[name][columns] = adapter.down[name], adapter.up[name]
    return Adapter(down, up)
