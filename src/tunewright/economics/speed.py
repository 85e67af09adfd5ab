"""How long a GPU takes for counted work: products at a share of what large matrices reach on it, and traffic at a share
of its bandwidth.

The two are added up, for nothing of an operation's traffic is taken to hide behind its products: that is what makes
small batches slow. `python bench/plan_published.py` finds the shares again from published trainings.
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
    """Between what something lies."""

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
    """An estimate that is good to a factor."""
    return Range(value / factor, value * factor)


SERVED_PRODUCTS = 0.4
"""Share of a GPU's peak of products that serving reaches while it reads prompts."""
SERVED_BANDWIDTH = 0.6
"""Share of its bandwidth while it writes."""
PRODUCTS = 0.30
"""Share of the card's `tflops` that an uncompiled training of a small batch reaches: from litgpt's LoRA on an A10G."""
TRAFFIC = 0.80
"""Share of the peak bandwidth that copies and sums of long vectors reach."""
DEQUANTISED = 0.10
"""NF4 weights made dense in the time of one byte of bandwidth: from litgpt's QLoRA against its LoRA on an A10G."""
PLAIN_NF4 = 0.15e9
"""NF4 weights that a core of a CPU makes dense in a second, in a plain forward pass of bitsandbytes: a candidate of
Phi-3-mini took 27 s a ticket on two (`python bench/true_size.py`)."""
LAUNCH_SECONDS = 10e-6
"""What Python and the driver take for one operation; a GPU with less to do than that waits for them."""


def seconds(work: Work, card: Card, gpu: Gpu, *, float32: bool = False) -> float:
    """Time of some work on one GPU.

    Args:
        gpu: the machine's; a share of a card is that share as fast.
        float32: products are computed in float32 rather than in 16 bits.
    """
    share = gpu.gib / card.gib
    products = work.flops / (1e12 * (card.tflops32 if float32 else card.tflops) * PRODUCTS)
    bandwidth = 1e9 * card.gb_per_second
    traffic = work.moved / (bandwidth * TRAFFIC) + work.dequantised / (bandwidth * DEQUANTISED)
    return max((products + traffic) / share, LAUNCH_SECONDS * work.operations)
