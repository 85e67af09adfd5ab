"""A training on this machine's CPU: its memory as the process will show it, and its time from a few short probes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tunewright.core.processes import threads
from tunewright.economics.memory import TRAINER
from tunewright.economics.speed import Range
from tunewright.models import tensor_files
from tunewright.models.catalogue import catalogue
from tunewright.models.resolve import cached_folder
from tunewright.training.planning.footprint import Footprint

if TYPE_CHECKING:
    from tunewright.models.meter import Work

ALLOCATOR = 1.08
"""What the C library's allocator holds for a byte that tensors ask for (`python bench/plan.py`)."""
_PRODUCTS = {"float32": 0.75, "bfloat16": 0.32, "float16": 0.32}
"""Share of the probes' speed that the thinner matrices of a training reach, by the type of products: read off the
trainings of `python bench/plan.py`."""
_TRAFFIC = 0.5
"""The same of the bandwidth, which threads share."""
DEQUANTISED = 2.5e9
"""NF4 weights that a thread makes dense in a second (the difference of qlora and lora in `python bench/plan.py`)."""
_FASTER, _SLOWER = 0.6, 1.3
"""A training's time over its estimate, at the least and at the most: wide models come nearer to a processor's peak."""
_PROBES = 8
_PROBE = 0.02
"""Seconds of processor time of a probe."""
_SLOW = 0.01
"""Seconds of a small product from which a large one is not tried; with instructions for the type it is far quicker."""


def held(footprint: Footprint) -> float:
    """Bytes that the process that trains holds at its peak. While it loads the model, the pages of the weights' files
    come on top; those can be evicted, so they are not needed."""
    return TRAINER + ALLOCATOR * footprint.peak


def stored_bytes(model: str, anchor: Path) -> float:
    """Bytes of a base model's files: those on this machine, or what its parameters take in 16 bits."""
    entry = catalogue().get(model)
    folder = cached_folder(model) if entry else (anchor / Path(model).expanduser()).resolve()
    found = tensor_files.stored_bytes(folder) if folder else 0
    return found or 2e9 * (entry.parameters if entry else 0)


@dataclass(frozen=True)
class CpuSpeed:
    """What this machine's threads do together where nothing else runs on them."""

    flops: float
    """A second, of a training's products."""
    bytes: float
    """A second, read and written."""
    dequantised: float = DEQUANTISED
    """NF4 weights a second."""
    spread: float = 1.0
    """The best probe's speed over the usual one's."""

    def seconds(self, work: Work) -> float:
        return work.flops / self.flops + work.moved / self.bytes + work.dequantised / self.dequantised

    def range(self, seconds: float) -> Range:
        """Between what an estimate may come to."""
        return Range(seconds * _FASTER, seconds * _SLOWER * self.spread)


def cpu_speed(dtype: str) -> CpuSpeed:
    """Measure this machine for half a second of one thread's own time, so that others' work on it does not count.

    Args:
        dtype: type that products are computed in.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        products = rate(_product_probes(getattr(torch, dtype)))
        vector = torch.ones(1 << 24, dtype=getattr(torch, dtype))
        into = torch.empty_like(vector)
        sums = rate(_probes(lambda: torch.add(vector, vector, out=into), 2 * vector.nbytes))
    finally:
        torch.set_num_threads(before)
    count = threads()
    return CpuSpeed(
        count * products.high * _PRODUCTS[dtype],
        count * sums.high * _TRAFFIC,
        count * DEQUANTISED,
        products.high / products.low,
    )


def rate(probes: Sequence[tuple[float, float]]) -> Range:
    """What is done in a second, by several probes: the usual one's speed, and the best one's.

    The best is what the machine can do. Others' work makes a probe slower, by what it takes out of the caches, never
    quicker.

    Args:
        probes: how much each did, and the seconds of processor time that it took.
    """
    speeds = [done / took for done, took in probes]
    return Range(median(speeds), max(speeds))


def _product_probes(dtype: Any) -> list[tuple[float, float]]:
    """Of floating-point operations of large products."""
    import torch

    found = []
    for side in (256, 1024):
        square = torch.ones(side, side, dtype=dtype)
        found = _probes(partial(torch.mm, square, square), 2.0 * side**3)
        # No instructions for the type, as for float16 on most CPUs: a large product takes seconds.
        if rate(found).high * _SLOW < 2.0 * side**3:
            break
    return found


def _probes(once: Callable[[], object], work: float) -> list[tuple[float, float]]:
    """Do something again and again, in several probes.

    Args:
        work: how much is done once.
    """
    once()
    found = []
    for _ in range(_PROBES):
        done, start, took = 0.0, time.thread_time(), 0.0
        while took < _PROBE:
            once()
            done += work
            took = time.thread_time() - start
        found.append((done, took))
    return found
