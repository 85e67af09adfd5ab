"""Loads and runs a model with torch and transformers: safetensors weights only, no remote code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunewright.core.errors import UserError
from tunewright.core.processes import process_count
from tunewright.inference.runtimes.prefix import common_prefix
from tunewright.inference.runtimes.products import give_fast_products, give_float32_logits, product
from tunewright.models.device import has_bfloat16
from tunewright.models.files import loading
from tunewright.models.tensor_files import FLOATS, Weights

if TYPE_CHECKING:
    import torch


def compute_type(precision: str) -> str:
    """The type of matrix products: `precision` itself, or for "auto" the fastest that this machine has in hardware.

    That is bfloat16 on a GPU since Ampere and on a CPU with AVX-512 BF16 or AMX, float16 on an older GPU, else float32.

    Raises:
        UserError: the precision is bfloat16 and the GPU has none. Torch would emulate it at a fraction of the speed.
    """
    import torch

    on_gpu = torch.cuda.is_available()
    if precision == "bfloat16" and on_gpu and not has_bfloat16():
        raise UserError(
            "This GPU has no bfloat16.",
            where="train.precision",
            fix="Type: train.precision=float16, or auto, which takes the best that the machine has.",
        )
    if precision != "auto":
        return precision
    if on_gpu:
        return "bfloat16" if has_bfloat16() else "float16"
    # An older torch doesn't have this function.
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return "bfloat16" if able.get("avx512_bf16") or able.get("amx_bf16") else "float32"


def weights_type(precision: str) -> str:
    """The type of the weights in memory: the compute type on a GPU; float32 on a CPU, which has enough memory."""
    import torch

    return compute_type(precision) if torch.cuda.is_available() else "float32"


def stored_type(folder: Path) -> str:
    """The type of the weights in their files, so that they are mapped without conversion; float32 if it is mixed."""
    kinds = {tensor.kind for tensor in Weights(folder).values() if tensor.kind in FLOATS}
    return {"BF16": "bfloat16", "F16": "float16"}.get(kinds.pop(), "float32") if len(kinds) == 1 else "float32"


def upcast(model: Any) -> Any:
    """On a CPU that multiplies only float32, make 16-bit linear layers do so too: each converts its weight on use.

    The weights keep their type and place. Torch's own 16-bit products would be many times slower there.
    """
    import types

    from torch import nn

    if model.dtype.itemsize != 2 or model.device.type != "cpu" or compute_type("auto") == str(model.dtype)[6:]:
        return model
    for module in model.modules():
        if type(module) is nn.Linear:
            module.forward = types.MethodType(_in_float32, module)
    return model


_CONVERTED = 1 << 26
"""Numbers of a weight that are converted at once."""


def _in_float32(layer: Any, x: Any) -> Any:
    """The output of a linear layer, computed in parts."""
    import torch

    step = max(1, _CONVERTED // layer.in_features)
    whole = x.float().flatten(0, -2)
    parts = [product(whole, weight.float().t()) for weight in layer.weight.split(step)]
    y = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
    return (y if layer.bias is None else y + layer.bias.float()).to(x.dtype).view(*x.shape[:-1], -1)


def attention_kind(dtype: str) -> str:
    """FlashAttention 2 in 16 bits on an Ampere GPU or later, if the package is installed; else torch's SDPA."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    able = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0) and is_flash_attn_2_available()
    return "flash_attention_2" if able and dtype != "float32" else "sdpa"


def load_torch_model(folder: Path, *, dtype: str = "float32", nf4: bool = False, device: str | None = None) -> Any:
    """Load a transformers causal language model.

    Args:
        dtype: type of the weights, "float32", "bfloat16" or "float16".
        nf4: load the linear layers as 4-bit NF4 with double quantisation (bitsandbytes). They are dequantised to
            `dtype` for each product. Source: QLoRA, Dettmers et al. 2023, section 3.
        device: "cuda" or "cpu"; by default a GPU if there is one.
    """
    import torch
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantization = None
    if nf4:
        quantization = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, dtype),
            # FSDP shards only floating-point tensors. With several processes the packed weights pose as such.
            bnb_4bit_quant_storage=getattr(torch, dtype) if process_count() > 1 else torch.uint8,
        )
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device != "cpu":
        # cuBLAS would add parts of long sums in float16, which overflows at 65,504.
        torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    with loading(folder):
        model = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            quantization_config=quantization,
            device_map={"": device},
            attn_implementation=attention_kind(dtype) if device != "cpu" else "sdpa",
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
        )
    for module in model.modules() if nf4 else ():
        # With AVX-512 BF16, bitsandbytes repacks a layer at its first inference, and training can't go on after that.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    if device == "cpu":
        give_fast_products(model)
    else:
        give_float32_logits(model)
    return model


class TorchNextToken:
    """Next-token logits with one key-value cache. The longest common prefix with the last call does not run again."""

    def __init__(self, model: Any):
        self._model = model.eval()
        self._ids: list[int] = []
        self._cache: Any = None

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:
        import torch

        common = common_prefix(self._ids, ids)
        with torch.inference_mode():
            logits = self._forward(list(ids), common)
        self._ids = list(ids)
        return logits.float().cpu().numpy()  # type: ignore[no-any-return]

    def _forward(self, ids: list[int], common: int) -> torch.Tensor:
        import torch
        from transformers import DynamicCache

        if self._cache is None or common == 0:
            self._cache, common = DynamicCache(), 0
        elif common < len(self._ids):
            self._cache.crop(common - len(self._ids))
        new = torch.tensor([ids[common:]], device=self._model.device)
        answer = self._model(new, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        return answer.logits[0, -1]
