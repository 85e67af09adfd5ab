"""Divides a batch on a CPU into passes, so that a training of long examples takes little memory."""

from __future__ import annotations

_TOKENS = 1280
"""Tokens of a pass to come down to; fewer are no faster, and what the backward pass needs grows with them."""
_REPEATED = 0.05
"""Share of a batch's tokens that may be computed again, because each pass computes the shared prefix."""


def passes_of(shared: int, own: float, batch: int, shares: int, rows: int) -> int:
    """Passes for one process's share of a batch. Their gradients add up to those of the whole, so nothing else is
    learnt.

    Args:
        shared: tokens that all examples begin with.
        own: mean tokens of an example after them.
        batch: examples in a batch of all processes.
        shares: the processes, each of which must get an example of the last batch too.
        rows: training examples.
    """
    size, best = batch // shares, 1
    tokens = shared + own * size
    for count in range(1, size + 1):
        if (count - 1) * shared > _REPEATED * tokens:
            break
        if size % count or 0 < rows % (batch // count) < shares:
            continue
        best = count
        if shared + own * size / count <= _TOKENS:
            break
    return best
