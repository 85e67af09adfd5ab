"""A training on this machine's CPU: its memory as the process will show it, and its time from two short probes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.models.catalogue import catalogue
from tunewright.models.resolve import cached_folder
from tunewright.train.footprint import Footprint

if TYPE_CHECKING:
    from tunewright.models.meter import Work

PROCESS = 600e6
"""Bytes of Python, torch and the training libraries, before there is a model (`python bench/plan.py`)."""
ALLOCATOR = 1.08
"""What the C library's allocator holds for a byte that tensors ask for (`python bench/plan.py`)."""
_PRODUCTS = 0.6
"""Share of the probe's speed that the thinner matrices of a training reach (`python bench/plan.py`)."""
_PROBE = 0.1
"""Seconds of a probe."""
_SLOW = 100
"""Small products a second below which a large one is not tried; with instructions for the type there are thousands."""


def resident(footprint: Footprint, stored: float) -> float:
    """Peak resident bytes of the process that trains: in training, or when the model is loaded.

    Args:
        stored: bytes of the weights' files, which are mapped while they are loaded.
    """
    return PROCESS + max(ALLOCATOR * footprint.peak, stored + footprint.weights)


def stored_bytes(model: str, anchor: Path) -> float:
    """Bytes of a base model's files: those on this machine, or what its parameters take in 16 bits."""
    entry = catalogue().get(model)
    folder = cached_folder(model) if entry else (anchor / Path(model).expanduser()).resolve()
    found = sum(file.stat().st_size for file in folder.glob("*.safetensors")) if folder else 0
    return found or 2e9 * (entry.parameters if entry else 0)


@dataclass(frozen=True)
class CpuSpeed:
    flops: float
    """A second, of large products."""
    bytes: float
    """A second, read and written by sums of long vectors."""

    def seconds(self, work: Work) -> float:
        return work.flops / (self.flops * _PRODUCTS) + work.moved / self.bytes


def cpu_speed(dtype: str) -> CpuSpeed:
    """Measure this machine for about a quarter of a second.

    Args:
        dtype: type that products are computed in.
    """
    import torch

    vector = torch.ones(1 << 24, dtype=getattr(torch, dtype))
    into = torch.empty_like(vector)
    sums = _repeats(lambda: torch.add(vector, vector, out=into))
    return CpuSpeed(_product_flops(getattr(torch, dtype)), sums * 2 * vector.nbytes)


def _product_flops(dtype: Any) -> float:
    """Floating-point operations a second of large products."""
    import torch

    for side in (256, 1024):
        square = torch.ones(side, side, dtype=dtype)
        products = _repeats(partial(torch.mm, square, square))
        if products < _SLOW:  # no instructions for the type, as for float16 on most CPUs: a large one takes seconds
            break
    return products * 2 * side**3


def _repeats(once: Callable[[], object]) -> float:
    """How often a second something can be done."""
    once()
    times, start = 0, time.perf_counter()
    while (took := time.perf_counter() - start) < _PROBE:
        once()
        times += 1
    return times / took
