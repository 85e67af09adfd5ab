"""Reads a peft adapter for export: two thin matrices and a scale for each changed matrix."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.config.patterns import Unusable, is_found
from tunewright.core.errors import UserError
from tunewright.models.tensor_files import TensorFile

Floats = npt.NDArray[np.float32]

_STEM = "base_model.model."
_ADAPTER, _SETTINGS = "adapter_model.safetensors", "adapter_config.json"


@dataclass(frozen=True)
class Update:
    """The update of a matrix [out, in]: scale * up @ down (Hu et al. 2021)."""

    down: Floats
    """[rank, in]"""
    up: Floats
    """[out, rank]"""
    scale: float

    def rows(self, start: int, end: int) -> Floats:
        """Some rows of the update."""
        return (self.up[start:end] @ self.down) * np.float32(self.scale)


def read_lora(folder: Path) -> dict[str, Update]:
    """The updates by the names of the base's modules.

    Raises:
        UserError: the adapter changes a model in other ways than by LoRA's two matrices, or its files are incomplete.
    """
    try:
        settings = json.loads((folder / _SETTINGS).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"The adapter's settings can't be read: {error}.", where=folder / _SETTINGS) from None
    parts: dict[str, dict[str, Floats]] = {}
    for key, tensor in TensorFile(folder / _ADAPTER).items():
        name, _, part = key.removeprefix(_STEM).rpartition(".lora_")
        if part not in ("A.weight", "B.weight"):
            raise _unknown(folder, f"It holds {key}.")
        parts.setdefault(name, {})[part[0]] = tensor.float32()
    if settings.get("use_dora") or settings.get("fan_in_fan_out"):
        raise _unknown(folder, "Its settings have use_dora or fan_in_fan_out.")
    return {name: _update(name, both, settings, folder) for name, both in parts.items()}


def _update(name: str, both: dict[str, Floats], settings: dict[str, Any], folder: Path) -> Update:
    if len(both) != 2:
        raise _unknown(folder, f"It holds one of the two matrices of {name} only.")
    rank = len(both["A"])
    alpha = settings["lora_alpha"]
    for pattern, value in (settings.get("alpha_pattern") or {}).items():
        try:
            alpha = value if is_found(rf"^(.*\.)?({pattern})$", name) else alpha
        except Unusable as error:
            raise _unknown(folder, f"Its alpha_pattern has {pattern[:80]!r}, which can't be used: {error}.") from None
    return Update(both["A"], both["B"], alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank))


def _unknown(folder: Path, why: str) -> UserError:
    return UserError(
        "This adapter can't be exported: it is not plain LoRA.",
        where=folder,
        why=why,
        fix="Train it again with tunewright, or merge it with peft and give the result as `model:`.",
    )
