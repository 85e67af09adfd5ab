"""How long a GPU takes for counted work: products at a share of the rate that large matrices reach on it, and traffic
at a share of its bandwidth.

The estimate adds the two, because it assumes that no traffic of an operation hides behind its products. This makes
small batches slow. `python bench/plan_published.py` fits the shares again from published trainings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunewright.economics.prices import Card, Gpu

if TYPE_CHECKING:
    from tunewright.models.meter import Work


@dataclass(frozen=True)
class Range:
    """The range of an estimate."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        return math.sqrt(self.low * self.high)

    def times(self, factor: float) -> Range:
        return Range(self.low * factor, self.high * factor)

    def __add__(self, other: Range) -> Range:
        return Range(self.low + other.low, self.high + other.high)


def around(value: float, factor: float) -> Range:
    """The range of an estimate that is good to a factor."""
    return Range(value / factor, value * factor)


SERVED_PRODUCTS = 0.4
"""Share of a GPU's peak of products that serving reaches in prefill."""
SERVED_BANDWIDTH = 0.6
"""Share of a GPU's bandwidth that serving reaches in decoding."""
PRODUCTS = 0.30
"""Share of the card's `tflops` that an uncompiled training of a small batch reaches: from litgpt's LoRA on an A10G."""
TRAFFIC = 0.80
"""Share of the peak bandwidth that copies and sums of long vectors reach."""
DEQUANTISED = 0.10
"""NF4 weights dequantised in the time of one byte of bandwidth: from litgpt's QLoRA against its LoRA on an A10G."""
PLAIN_NF4 = 0.15e9
"""NF4 weights that a CPU core dequantises in a second, in a plain forward pass of bitsandbytes: a candidate of
Phi-3-mini took 27 s a ticket on two cores (`python bench/true_size.py`)."""
LAUNCH_SECONDS = 10e-6
"""Time of Python and the driver for one operation; a GPU with less work than that waits for them."""


def seconds(work: Work, card: Card, gpu: Gpu, *, float32: bool = False) -> float:
    """Time of some work on one GPU.

    Args:
        gpu: the machine's GPU; a share of a card has that share of its speed.
        float32: whether products are computed in float32 rather than in 16 bits.
    """
    share = gpu.gib / card.gib
    products = work.flops / (1e12 * (card.tflops32 if float32 else card.tflops) * PRODUCTS)
    bandwidth = 1e9 * card.gb_per_second
    traffic = work.moved / (bandwidth * TRAFFIC) + work.dequantised / (bandwidth * DEQUANTISED)
    return max((products + traffic) / share, LAUNCH_SECONDS * work.operations)
