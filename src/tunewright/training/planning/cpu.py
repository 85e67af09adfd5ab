"""Predicts a training on this machine's CPU: its memory as the process will show it, and its time from a few short
probes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from tunewright.core.threads import threads
from tunewright.economics.memory import TRAINER
from tunewright.economics.speed import Range
from tunewright.models import tensor_files
from tunewright.models.catalogue import catalogue
from tunewright.models.naming import cached_folder, local_path
from tunewright.training.planning.footprint import Footprint

if TYPE_CHECKING:
    from tunewright.models.meter import Work

ALLOCATOR = 1.08
"""Bytes that the C library's allocator holds for each byte of a tensor (`python bench/plan.py`)."""
_PRODUCTS = {"float32": 0.75, "bfloat16": 0.32, "float16": 0.32}
"""Share of the probes' speed that the thinner matrices of a training reach, by the type of products; taken from the
trainings of `python bench/plan.py`."""
_TRAFFIC = 0.5
"""Share of the probes' bandwidth that a training reaches; threads share it."""
DEQUANTISED = 2.5e9
"""NF4 weights that a thread dequantises in a second (the difference between qlora and lora in `python
bench/plan.py`)."""
_FASTER, _SLOWER = 0.6, 1.3
"""Lowest and highest ratio of a training's time to its estimate: wide models come nearer to a processor's peak."""
_PROBES = 8
_PROBE = 0.02
"""Seconds of processor time for one probe."""
_SLOW = 0.01
"""If a small product takes more seconds than this, a large one is not tried; with instructions for the type it is
far quicker."""


def held(footprint: Footprint) -> float:
    """Peak bytes of the training process. While it loads the model, pages of the weight files come on top; those can
    be evicted, so they are not needed."""
    return TRAINER + ALLOCATOR * footprint.peak


def stored_bytes(model: str, anchor: Path) -> float:
    """Bytes of a base model's files on this machine, or of its parameters in 16 bits if it is not here."""
    entry = catalogue().get(model)
    folder = cached_folder(model) if entry else local_path(model, anchor)
    on_disk = tensor_files.stored_bytes(folder) if folder else 0
    return on_disk or 2e9 * (entry.parameters if entry else 0)


@dataclass(frozen=True)
class CpuSpeed:
    """Speed of all threads of this machine if nothing else runs on them."""

    flops: float
    """Floating-point operations a second in a training's products."""
    bytes: float
    """Bytes a second, read and written."""
    dequantised: float = DEQUANTISED
    """NF4 weights a second."""
    spread: float = 1.0
    """Ratio of the best probe's speed to the median one's."""

    def seconds(self, work: Work) -> float:
        return work.flops / self.flops + work.moved / self.bytes + work.dequantised / self.dequantised

    def range(self, seconds: float) -> Range:
        """The range that an estimate may come to."""
        return Range(seconds * _FASTER, seconds * _SLOWER * self.spread)


def cpu_speed(dtype: str) -> CpuSpeed:
    """Measure this machine for half a second of one thread's processor time, so that other processes' work does not
    count.

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
    """The speed of several probes: low is the median, high the best.

    The best probe shows what the machine can do. Other processes slow a probe down, by evicting its data from the
    caches, but never speed it up.

    Args:
        probes: the work of each probe, and the seconds of processor time that it took.
    """
    speeds = [done / took for done, took in probes]
    return Range(median(speeds), max(speeds))


def _product_probes(dtype: Any) -> list[tuple[float, float]]:
    """Probes of large matrix products, in floating-point operations."""
    import torch

    probes = []
    for side in (256, 1024):
        square = torch.ones(side, side, dtype=dtype)
        probes = _probes(partial(torch.mm, square, square), 2.0 * side**3)
        # Without instructions for the type, as for float16 on most CPUs, a large product takes seconds.
        if rate(probes).high * _SLOW < 2.0 * side**3:
            break
    return probes


def _probes(once: Callable[[], object], work: float) -> list[tuple[float, float]]:
    """Repeat a call in several probes.

    Args:
        work: the work of one call.
    """
    once()
    probes = []
    for _ in range(_PROBES):
        done, start, took = 0.0, time.thread_time(), 0.0
        while took < _PROBE:
            once()
            done += work
            took = time.thread_time() - start
        probes.append((done, took))
    return probes
