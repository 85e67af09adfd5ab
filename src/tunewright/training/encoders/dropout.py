"""Dropout at a fraction of its usual price on a CPU: torch draws a float for each number, here a byte is enough.

A text of a batch has few tokens, so drawing was 15 % of a step (all-MiniLM-L6, 32 texts of 14 tokens, 2 cores). The
share that is dropped is rounded to a 256th.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

_LEVELS = 256


class _Dropped(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
    @staticmethod
    def forward(ctx: Any, x: Any, level: int) -> Any:
        drawn = torch.empty(-(-x.numel() // 8), dtype=torch.int64).random_(-(2**63), None)
        factor = (drawn.view(torch.uint8)[: x.numel()] >= level).view(x.shape).to(x.dtype)
        factor *= _LEVELS / (_LEVELS - level)
        ctx.save_for_backward(factor)
        return x * factor

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        (factor,) = ctx.saved_tensors
        return gradient * factor, None


class FastDropout(nn.Module):  # type: ignore[misc, unused-ignore]
    """As `torch.nn.Dropout`, for tensors on a CPU."""

    def __init__(self, p: float):
        super().__init__()
        self.p, self._level = p, round(_LEVELS * p)

    def forward(self, x: Any) -> Any:
        return _Dropped.apply(x, self._level) if self.training and self._level else x


def give_fast_dropout(model: Any) -> None:
    """Have a model on a CPU drop out so."""
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if type(module) is nn.Dropout:
                setattr(parent, name, FastDropout(module.p))
