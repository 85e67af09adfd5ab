"""Averaging encoders: a model soup of whole models that began alike (Wortsman et al. 2022)."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tunewright.training.encoders.network import HEAD


def average_encoders(encoders: Sequence[Path], target: Path) -> None:
    """Write the mean of several tuned encoders as one.

    Args:
        encoders: folders that `Network.save_pretrained` wrote, of the same base and labels; at least one.
    """
    shutil.copytree(encoders[0], target)
    if len(encoders) == 1:
        return
    from safetensors.torch import load_file, save_file

    for name in ("model.safetensors", HEAD):
        parts = [load_file(folder / name) for folder in encoders]
        mean = {key: sum(part[key] for part in parts) / len(parts) for key in parts[0]}
        save_file(mean, target / name, metadata={"format": "pt"})
