"""Matrix products that torch has no default for: 16-bit factors with float32 results, and float32 with oneDNN.

Every kernel sums a product in float32 and then rounds it to the type of its factors. In bfloat16, logits of about 20
are rounded to eighths; in float16, sums above 65,504 become infinity. Under autocast, even float32 factors are rounded
first.

On a CPU, torch gives float32 products to MKL, which uses only AVX2 on processors that are not Intel's. oneDNN, which
torch includes for 16 bits, uses AVX-512 wherever the processor has it: 2.2 times the numbers a second on a Zen 5, with
the same results up to the last rounding (`python bench/products.py`).
"""

from __future__ import annotations

import functools
import types
from typing import Any

from tunewright.core.processes import cpu_flags, processor_vendor


def product(left: Any, right: Any) -> Any:
    """left @ right, both [rows, columns] of one type, in that type. It has no gradient."""
    import torch

    if left.dtype == torch.float32 and left.device.type == "cpu" and onednn_is_faster():
        # The operation of a linear layer. It takes the weight as [columns, rows], with any strides.
        return torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")
    return left @ right


@functools.cache
def onednn_is_faster() -> bool:
    """Whether to use oneDNN for float32 products: the processor has AVX-512, and MKL would not use it."""
    import torch

    if processor_vendor() in ("", "GenuineIntel") or "avx512f" not in cpu_flags():
        return False
    # Not part of torch's public interface, so another version may lack it.
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def give_fast_products(model: Any) -> None:
    """Make a model's float32 linear layers use `product` when gradients are off."""
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
    """The tensor in float32, or in its own type if that is wider."""
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def float32_product(left: Any, right: Any) -> Any:
    """left @ right, both [rows, columns] of one type, in float32 or wider.

    A GPU returns its float32 sums. A CPU has kernels for bfloat16, which round the sums; for float16 it has none, so
    the product is computed in float32.
    """
    import torch

    if left.dtype in (torch.float16, torch.bfloat16) and left.device.type in ("cuda", "meta"):
        return torch.mm(left, right, out_dtype=torch.float32)
    if left.dtype == torch.float16:
        return left.float() @ right.float()
    return exact(left @ right)


def without_autocast(tensor: Any) -> Any:
    """A context without autocast on the tensor's device: products keep their own type."""
    import torch

    kind = tensor.device.type
    return torch.autocast(kind if kind != "meta" else "cpu", enabled=False)


def give_float32_logits(model: Any) -> None:
    """Make a causal model's 16-bit head return float32 logits when gradients are off."""
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
