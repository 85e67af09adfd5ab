"""How long a GPU takes for counted work: products at a share of what large matrices reach on it, and traffic at a share
of its bandwidth.

The two are added up, for nothing of an operation's traffic is taken to hide behind its products: that is what makes
small batches slow. `python bench/plan_published.py` finds the shares again from published trainings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tunewright.assess.prices import Card, Gpu

if TYPE_CHECKING:
    from tunewright.models.meter import Work

PRODUCTS = 0.30
"""Share of the card's `tflops` that an uncompiled training of a small batch reaches: from litgpt's LoRA on an A10G."""
TRAFFIC = 0.80
"""Share of the peak bandwidth that copies and sums of long vectors reach."""
DEQUANTISED = 0.10
"""NF4 weights made dense in the time of one byte of bandwidth: from litgpt's QLoRA against its LoRA on an A10G."""
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
