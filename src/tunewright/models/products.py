"""Matrix products of 16-bit numbers whose result must not be 16 bits.

A product is summed in float32 by every kernel, and then rounded to its factors' type: logits about 20 to eighths in
bfloat16, sums above 65,504 to infinity in float16. Under autocast even float32 factors are rounded first.
"""

from __future__ import annotations

import types
from typing import Any


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
