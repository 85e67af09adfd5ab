"""Measures the memory and the work of torch code, operation by operation, on any device, even torch's meta device."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry


@dataclass
class Work:
    """The work of a device."""

    flops: float = 0.0
    moved: float = 0.0
    """Bytes that operations read and wrote, without dequantisation."""
    dequantised: float = 0.0
    """Weights dequantised from NF4."""
    operations: int = 0


class Meter(TorchDispatchMode):  # type: ignore[misc, unused-ignore]
    """While active, it counts the bytes of all live tensors (`live`, `peak`) and the work."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self.work = Work()
        self._sizes: dict[int, int] = {}

    def hold(self, tensors: Iterable[Any]) -> None:
        """Count tensors that existed before."""
        for tensor in tensors:
            self._hold(tensor)

    def _hold(self, tensor: Any) -> bool:
        """Count a tensor's storage. Returns whether it is new."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return False
        self._sizes[key] = storage.nbytes()
        self.live += self._sizes[key]
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._drop, key)
        return True

    def _drop(self, key: int) -> None:
        self.live -= self._sizes.pop(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if hasattr(leaf, "untyped_storage")]
        fresh = [self._hold(tensor) for tensor in outputs]
        packet = func._overloadpacket
        name = packet.__name__
        if name == "dequantize_4bit":
            self.work.dequantised += result.numel()
        elif (any(fresh) and not name.startswith("empty")) or name.endswith("_"):
            flops_of = flop_registry.get(packet)
            inputs = [leaf for leaf in tree_leaves((args, kwargs)) if hasattr(leaf, "untyped_storage")]
            self.note(flops_of(*args, **kwargs, out_val=result) if flops_of else 0, [*inputs, *outputs])
        return result

    def note(self, flops: float, touched: Iterable[Any]) -> None:
        """Add an operation that reads or writes each of the tensors once."""
        self.work.flops += flops
        self.work.moved += sum(tensor.numel() * tensor.element_size() for tensor in touched)
        self.work.operations += 1


class GpuAttention(TorchFunctionMode):  # type: ignore[misc, unused-ignore]
    """While active, attention has the memory and the work of a GPU's kernels. On the meta device, torch would use the
    plain implementation, which holds all scores.

    FlashAttention and the memory-efficient kernel keep queries, keys, values, the output, one number a row, and the
    mask, which they convert to numbers if it has none (Dao et al. 2022; Rabe and Staats 2021). The backward pass does
    2.5 times the work.
    """

    def __init__(self, meter: Meter):
        super().__init__()
        self._function = _attention_of(meter)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.nn.functional import scaled_dot_product_attention

        kwargs = kwargs or {}
        if func is not scaled_dot_product_attention:
            return func(*args, **kwargs)
        mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
        return self._function.apply(*args[:3], mask)


def _attention_of(meter: Meter) -> Any:
    import torch

    class Attention(torch.autograd.Function):  # type: ignore[misc, unused-ignore]
        @staticmethod
        def forward(ctx: Any, query: Any, key: Any, value: Any, mask: Any) -> Any:
            output = torch.empty_like(query)
            rows = query.new_empty(query.shape[:-1], dtype=torch.float32)
            bias = mask if mask is None or mask.dtype == query.dtype else query.new_empty(mask.shape)
            ctx.flops = 4 * query.numel() * key.shape[-2]
            meter.note(ctx.flops, [query, key, value, output])
            ctx.save_for_backward(query, key, value, output, rows, bias)
            return output

        @staticmethod
        def backward(ctx: Any, upstream: Any) -> tuple[Any, ...]:
            query, key, value, output, *_ = ctx.saved_tensors
            gradients = [torch.empty_like(x) for x in (query, key, value)]
            meter.note(2.5 * ctx.flops, [query, key, value, output, upstream, *gradients])
            return (*gradients, None)

    return Attention


class Filtered(TorchFunctionMode):  # type: ignore[misc, unused-ignore]
    """While active, it decides for tensors without numbers what depends on numbers: how many places a mask keeps, and
    how many different values a tensor has.

    Args:
        kept: places that every mask keeps.
        different: different values of every tensor.
    """

    def __init__(self, kept: int, different: int):
        super().__init__()
        self._kept, self._different = kept, different

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        import torch

        kwargs = kwargs or {}
        if func is torch.Tensor.__getitem__ and getattr(args[1], "dtype", None) == torch.bool:
            values, mask = args
            places = torch.zeros(self._kept, dtype=torch.long, device=values.device)
            return values.flatten(0, mask.dim() - 1).index_select(0, places)
        if func is torch.unique:
            return args[0].new_empty(self._different), torch.empty_like(args[0])
        return func(*args, **kwargs)
