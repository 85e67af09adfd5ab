"""Float32 products with gradients by oneDNN, where torch would leave them to a slower library.

See `tunewright.inference.runtimes.products`, which has the same for passes without gradients.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch import nn

from tunewright.inference.runtimes.products import onednn_is_faster, product


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
    """Have a model's float32 linear layers on a CPU compute forward and backward products so, where that is faster."""

    def forward(self: Any, x: Any) -> Any:
        if x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
            return nn.Linear.forward(self, x)
        return _Linear.apply(x, self.weight, self.bias)

    for module in model.modules() if onednn_is_faster() else ():
        if type(module) is nn.Linear:
            module.forward = types.MethodType(forward, module)
