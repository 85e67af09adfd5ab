"""Matrix products as torch does not give them by itself: of 16-bit numbers in float32, and of float32 by oneDNN.

A product is summed in float32 by every kernel, and then rounded to its factors' type: logits about 20 to eighths in
bfloat16, sums above 65,504 to infinity in float16. Under autocast even float32 factors are rounded first.

On a CPU, torch leaves products of float32 to MKL, which takes AVX2 on processors that are not Intel's. oneDNN, which
torch brings along for 16 bits, takes AVX-512 on all that have it: 2.2 times the numbers a second on a Zen 5, the same
to the last rounding (`python bench/products.py`).
"""

from __future__ import annotations

import functools
import types
from typing import Any

from tunewright.core.processes import cpu_flags, processor_vendor


def product(left: Any, right: Any) -> Any:
    """left @ right, both [rows, columns] of one type, in that type; no gradient goes through it."""
    import torch

    if left.dtype == torch.float32 and left.device.type == "cpu" and onednn_is_faster():
        # A linear layer's, which takes its weight [columns, rows]; any strides will do.
        return torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")
    return left @ right


@functools.cache
def onednn_is_faster() -> bool:
    """Whether float32 products are oneDNN's here: the processor has AVX-512, and MKL would not use it."""
    import torch

    if processor_vendor() in ("", "GenuineIntel") or "avx512f" not in cpu_flags():
        return False
    # No part of torch's public interface, so another version may be without it.
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def give_fast_products(model: Any) -> None:
    """Have a model's float32 linear layers take `product` where no gradients are asked for."""
    import torch
    from torch import nn

    def forward(self: Any, x: Any) -> Any:
        if torch.is_grad_enabled() or x.dtype != torch.float32:
            return nn.Linear.forward(self, x)
        y = product(x.reshape(-1, x.shape[-1]), self.weight.t())
        return (y if self.bias is None else y.add_(self.bias)).view(*x.shape[:-1], -1)

    for module in model.modules() if onednn_is_faster() else ():
        if type(module) is nn.Linear and module.weight.dtype == torch.float32 and module.weight.device.type == "cpu":
            module.forward = types.MethodType(forward, module)


def exact(tensor: Any) -> Any:
    """In float32, or in a wider type where it is one."""
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def float32_product(left: Any, right: Any) -> Any:
    """left @ right, both [rows, columns] of one type, in float32 or wider.

    A GPU gives its sums as they are. A CPU rounds bfloat16's, which its kernels are made for; float16's, which they are
    not, are computed in float32.
    """
    import torch

    if left.dtype in (torch.float16, torch.bfloat16) and left.device.type in ("cuda", "meta"):
        return torch.mm(left, right, out_dtype=torch.float32)
    if left.dtype == torch.float16:
        return left.float() @ right.float()
    return exact(left @ right)


def without_autocast(tensor: Any) -> Any:
    """A context in which products of tensors on this one's device are computed in their own type."""
    import torch

    kind = tensor.device.type
    return torch.autocast(kind if kind != "meta" else "cpu", enabled=False)


def give_float32_logits(model: Any) -> None:
    """Have a causal model's 16-bit head give logits as they were summed, where no gradients are asked for."""
    import torch
    from torch import nn

    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None or head.weight.dtype not in (torch.float16, torch.bfloat16):
        return
    original = head.forward

    def forward(self: Any, hidden: Any) -> Any:
        if torch.is_grad_enabled() or hidden.dtype != self.weight.dtype:
            return original(hidden)
        flat = hidden.reshape(-1, hidden.shape[-1])
        return float32_product(flat, self.weight.t()).view(*hidden.shape[:-1], -1)

    head.forward = types.MethodType(forward, head)
