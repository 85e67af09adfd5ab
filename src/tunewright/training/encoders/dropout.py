"""Cheaper dropout and linear layers on a CPU. torch draws a float for each number in dropout; here a byte is enough.

With few tokens in a text, drawing took 15 % of a step (all-MiniLM-L6, 32 texts of 14 tokens, 2 cores). The dropped
share is rounded to a 256th.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import nn

from tunewright.inference.runtimes.products import onednn_is_faster, product

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
    """Like `torch.nn.Dropout`, for tensors on a CPU."""

    def __init__(self, p: float):
        super().__init__()
        self.p, self._level = p, round(_LEVELS * p)

    def forward(self, x: Any) -> Any:
        return _Dropped.apply(x, self._level) if self.training and self._level else x


def give_fast_dropout(model: Any) -> None:
    """Replace the dropout modules of a model on a CPU with `FastDropout`."""
    for parent in list(model.modules()):
        for name, module in list(parent.named_children()):
            if type(module) is nn.Dropout:
                setattr(parent, name, FastDropout(module.p))


class _Linear(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
    @staticmethod
    def forward(ctx: Any, x: Any, weight: Any, bias: Any) -> Any:
        flat = x.reshape(-1, x.shape[-1])
        ctx.save_for_backward(flat, weight)
        y = product(flat, weight.t())
        return (y if bias is None else y.add_(bias)).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        flat, weight = ctx.saved_tensors
        g = gradient.reshape(-1, gradient.shape[-1])
        of_x = product(g, weight).view(*gradient.shape[:-1], -1) if ctx.needs_input_grad[0] else None
        return of_x, product(g.t().contiguous(), flat), g.sum(0) if ctx.needs_input_grad[2] else None


def give_fast_gradients(model: Any) -> None:
    """Make a model's float32 linear layers on a CPU compute forward and backward with `product`, where that is
    faster."""

    def forward(self: Any, x: Any) -> Any:
        if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return nn.Linear.forward(self, x)
        return _Linear.apply(x, self.weight, self.bias)

    for module in model.modules() if onednn_is_faster() else ():
        if type(module) is nn.Linear:
            module.forward = types.MethodType(forward, module)
