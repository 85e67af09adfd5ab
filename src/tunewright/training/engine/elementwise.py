"""Norms and gated activations that keep only their inputs for the backward pass, on CPUs.

torch keeps what each of their operations reads: of an RMS norm its input twice in float32 and once in the model's type,
of a gated activation four numbers for each.

    norm: y = w x / sqrt(mean(x^2) + e)        gate: y = silu(g) u
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from typing import Any

from tunewright.training.engine.lora import is_fused, of_gates

_EPSILON = 0.1
"""Of the norms that are tried: so large that it counts."""


def fuse_elementwise(model: Any) -> None:
    """Give every plain RMS norm, and every MLP whose gates are SiLU, a forward pass that keeps less; other modules stay
    as they are. The results are the same, and the gradients are up to the last rounding."""
    for module in model.modules():
        if _is_norm(module):
            _replace(module, _norm_forward)
        elif _is_gated(module):
            _replace(module, _gated_forward)


def _replace(module: Any, forward: Callable[..., Any]) -> None:
    original = module.forward

    @functools.wraps(original)
    def chosen(self: Any, x: Any) -> Any:
        import torch

        return forward(self, x, original) if x.device.type == "cpu" and torch.is_grad_enabled() else original(x)

    module.forward = types.MethodType(chosen, module)


def _is_norm(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    if weight is None or weight.requires_grad or not hasattr(module, "variance_epsilon"):
        return False
    return _is_plain_norm(type(module).forward)


@functools.cache
def _is_plain_norm(forward: Callable[..., Any]) -> bool:
    import torch

    x, weight = (torch.linspace(-1, end, 8) for end in (2, 3))
    expected = weight * (x * torch.rsqrt(x.square().mean(-1, keepdim=True) + _EPSILON))
    return _gives(forward, {"weight": weight, "variance_epsilon": _EPSILON}, x, expected)


def _is_gated(module: Any) -> bool:
    if not all(hasattr(module, name) for name in ("gate_proj", "up_proj", "down_proj", "act_fn")):
        return False
    activation: Any = type(module.act_fn)
    return _is_plain_gate(type(module).forward, activation)


@functools.cache
def _is_plain_gate(forward: Callable[..., Any], activation: Any) -> bool:
    import torch
    from torch.nn.functional import silu

    try:
        act = activation()
    except TypeError:  # it has settings, so it is another one
        return False
    x = torch.linspace(-1, 2, 8)
    parts = {"gate_proj": lambda x: 2 * x, "up_proj": lambda x: x - 3, "down_proj": lambda x: x + 5, "act_fn": act}
    return _gives(forward, parts, x, silu(2 * x) * (x - 3) + 5)


def _gives(forward: Callable[..., Any], parts: dict[str, Any], x: Any, expected: Any) -> bool:
    """Whether a module's forward pass computes what is expected, if these are its parts."""
    import torch

    try:
        return bool(torch.equal(forward(types.SimpleNamespace(**parts), x), expected))
    # Any error of a module that was not written for this.
    except (AttributeError, TypeError, ValueError, RuntimeError):
        return False


def _norm_forward(self: Any, x: Any, original: Callable[[Any], Any]) -> Any:
    return _norm().apply(x, self.weight, self.variance_epsilon, original)


def _gated_forward(self: Any, x: Any, original: Callable[[Any], Any]) -> Any:
    return of_gates(self.down_proj, self.gate_proj(x), self.up_proj(x)) if is_fused(self.down_proj) else original(x)


@functools.cache
def _norm() -> Any:
    import torch

    class Norm(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
        @staticmethod
        def forward(ctx: Any, x: Any, weight: Any, epsilon: float, original: Callable[[Any], Any]) -> Any:
            ctx.save_for_backward(x, weight)
            ctx.epsilon = epsilon
            return original(x)

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> tuple[Any, ...]:
            x, weight = ctx.saved_tensors
            normal = x.to(torch.float32, copy=True)
            inverse = normal.square().mean(-1, keepdim=True).add_(ctx.epsilon).rsqrt_()
            normal.mul_(inverse)
            slope = (upstream * weight).to(torch.float32)
            along = (slope * normal).mean(-1, keepdim=True)
            return (slope.sub(normal.mul_(along)).mul_(inverse)).to(x.dtype), None, None, None

    return Norm
