"""LoRA layers as one operation: the same update as peft's, without its copies between types and its intermediate sums.

    y = x W^T + s (drop(x) A^T) B^T

The forward pass keeps only x, the dropout mask, and drop(x) A^T; of an x = silu(g) u it keeps g and u, and computes it
anew. The backward pass adds the adapter's part of the gradient into the base's product. A 4-bit NF4 base is dequantised
once in each direction and never kept. The adapter's master weights stay in float32; products are computed in the base's
type.
"""

from __future__ import annotations

import functools
import types
from typing import Any

from tunewright.inference.runtimes.products import float32_product, product


def fuse_lora(model: Any) -> int:
    """Give every plain LoRA layer of a peft model the fused forward pass; other layers keep their own.

    Returns:
        The number of layers that were changed.
    """
    from peft.tuners.lora import LoraLayer

    layers = [module for module in model.modules() if isinstance(module, LoraLayer) and _is_plain(module)]
    for layer in layers:
        layer.forward = types.MethodType(_forward_of(layer), layer)  # type: ignore[method-assign, unused-ignore]
        (layer.fused_adapter,) = layer.lora_A  # type: ignore[assignment, unused-ignore]
    return len(layers)


def _is_plain(layer: Any) -> bool:
    """Whether the layer has one adapter of the original kind, without bias, on a linear layer or an NF4 one."""
    from torch import nn

    names = list(layer.lora_A)
    if len(names) != 1 or layer.lora_variant or layer.lora_A[names[0]].bias is not None:
        return False
    if layer.lora_B[names[0]].bias is not None or not isinstance(layer.lora_A[names[0]], nn.Linear):
        return False
    return type(layer.base_layer) is nn.Linear or hasattr(layer.base_layer.weight, "quant_state")


def _forward_of(layer: Any) -> Any:
    (name,) = layer.lora_A
    original = layer.forward

    def forward(self: Any, x: Any, *args: Any, **kwargs: Any) -> Any:
        if args or kwargs or not _is_active(self):
            return original(x, *args, **kwargs)
        return _fused(self, name, x)

    return forward


def _is_active(layer: Any) -> bool:
    return not layer.disable_adapters and not layer.merged


def is_fused(layer: Any) -> bool:
    """Whether a layer has the fused forward pass, and its adapter is on."""
    return hasattr(layer, "fused_adapter") and _is_active(layer)


def of_gates(layer: Any, gate: Any, up: Any) -> Any:
    """A fused layer's result for x = silu(gate) * up."""
    return _fused(layer, layer.fused_adapter, gate, up)


def _fused(layer: Any, name: str, x: Any, up: Any = None) -> Any:
    """The fused forward pass for x, or for silu(x) * up."""
    drop, base = layer.lora_dropout[name], layer.base_layer
    rate = drop.p if layer.training and hasattr(drop, "p") else 0.0
    # FSDP puts a plain tensor in the weight's place; the layer still has the quantization state.
    state = getattr(base.weight, "quant_state", None) or getattr(base, "quant_state", None)
    dtype = base.weight.dtype if state is None else base.compute_dtype or x.dtype
    return _fused_lora().apply(
        x,
        up,
        base.weight,
        state,
        dtype,
        base.bias,
        layer.lora_A[name].weight,
        layer.lora_B[name].weight,
        layer.scaling[name],
        rate,
    )


def _dense(weight: Any, state: Any, dtype: Any) -> Any:
    """The base's weight [out, in] in `dtype`; `state` is its NF4 quantization state."""
    if state is None:
        return weight
    from bitsandbytes.functional import dequantize_4bit

    return dequantize_4bit(weight.data, state).to(dtype)


def drawn(values: Any, rate: float) -> Any:
    """A dropout mask, int16 of the values' shape: -1 (all bits set) where a value is kept, 0 with probability `rate`,
    to 1 in 32768.

    It draws 16 random bits a value instead of a float: on a CPU, drawing is what dropout costs.
    """
    import torch

    bits = torch.empty(-(-values.numel() // 4), dtype=torch.int64, device=values.device).random_(-(2**63), None)
    bits = bits.view(torch.int16)[: values.numel()].view(values.shape)
    # The mask is the sign of a 15-bit number minus a bound: working with a comparison's bool would be ten times slower.
    return bits.bitwise_right_shift_(1).sub_(round(32768 * (1 - rate)) - 16384).bitwise_right_shift_(15)


def _keep(values: Any, kept: Any) -> Any:
    """`values`, with zeros where dropout drops them; not scaled. Without dropout `kept` is None."""
    import torch

    if kept is None:
        return values
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[values.itemsize]
    return (values.view(integers) & kept.to(integers)).view(values.dtype)


def _input(x: Any, gated: Any) -> Any:
    from torch.nn.functional import silu

    return x if gated is None else silu(x).mul_(gated)


@functools.cache
def _fused_lora() -> Any:
    import torch
    from torch.nn.functional import silu

    class FusedLora(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
        @staticmethod
        def forward(
            ctx: Any,
            x: Any,
            gated: Any,
            weight: Any,
            state: Any,
            dtype: Any,
            bias: Any,
            down: Any,
            up: Any,
            scale: float,
            rate: float,
        ) -> Any:
            flat = _input(x, gated).reshape(-1, x.shape[-1]).to(dtype)
            down, up = down.to(dtype), up.to(dtype)
            y = product(flat, _dense(weight, state, dtype).t())
            if bias is not None:
                y += bias
            kept = drawn(flat, rate) if rate else None
            inner = _keep(flat, kept) @ down.t()
            scale /= 1 - rate
            y.addmm_(inner, up.t(), alpha=scale)
            ctx.save_for_backward(flat if gated is None else x, gated, inner, kept, weight, down, up)
            ctx.state, ctx.scale, ctx.shape, ctx.type = state, scale, x.shape, x.dtype
            return y.view(*x.shape[:-1], -1)

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> tuple[Any, ...]:
            x, gated, inner, kept, weight, down, up = ctx.saved_tensors
            flat = _input(x, gated).reshape(-1, x.shape[-1]).to(down.dtype)
            grad_y = upstream.reshape(-1, upstream.shape[-1])
            grad_inner = (grad_y @ up).mul_(ctx.scale)
            # float32, because these are sums over all tokens of the batch, and float16 training multiplies gradients by
            # up to 65,536.
            grad_up = float32_product(grad_y.t(), inner).mul_(ctx.scale)
            grad_down = float32_product(grad_inner.t(), _keep(flat, kept))
            grad_x = grad_gated = None
            if ctx.needs_input_grad[0]:
                grad_x = product(grad_y, _dense(weight, ctx.state, grad_y.dtype))
                if kept is None:
                    grad_x.addmm_(grad_inner, down)
                else:
                    grad_x.add_(_keep(grad_inner @ down, kept))
                grad_x = grad_x.view(ctx.shape).to(ctx.type)
                if gated is not None:
                    grad_gated = silu(x).mul_(grad_x)
                    grad_x = torch.ops.aten.silu_backward(grad_x.mul_(gated), x)
            return grad_x, grad_gated, None, None, None, None, grad_down, grad_up, None, None

    return FusedLora
