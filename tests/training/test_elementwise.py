"""Norms and gated activations that keep less: the same numbers and gradients, and other modules are left alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import nn
from transformers import AutoConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm
from transformers.models.mistral.modeling_mistral import MistralMLP, MistralRMSNorm
from transformers.models.phi3.modeling_phi3 import Phi3RMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2MLP, Qwen2RMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP, Qwen3RMSNorm

from tunewright.training.engine.elementwise import fuse_elementwise
from tunewright.training.engine.lora import fuse_lora

pytestmark = pytest.mark.slow  # its libraries take seconds to import

WIDTH = 64
NORMS = [LlamaRMSNorm, MistralRMSNorm, Phi3RMSNorm, Qwen2RMSNorm, Qwen3RMSNorm]
GATES = [LlamaMLP, MistralMLP, Qwen2MLP, Qwen3MLP]


def norm(kind: Callable[..., nn.Module]) -> nn.Module:
    module = kind(WIDTH, eps=1e-2)
    nn.init.normal_(module.weight)
    return module.requires_grad_(False)


def gate(kind: Callable[[Any], nn.Module], **changes: Any) -> nn.Module:
    """An MLP with an adapter on its layers."""
    torch.manual_seed(0)
    sizes = {"hidden_size": WIDTH, "intermediate_size": 3 * WIDTH}
    module = kind(AutoConfig.for_model("llama", **sizes, mlp_bias=False, **changes))
    adapted = LoraConfig(r=4, target_modules=["gate_proj", "up_proj", "down_proj"], init_lora_weights=False)
    module = inject_adapter_in_model(adapted, module)
    fuse_lora(module)
    return module


def passed(module: nn.Module, dtype: torch.dtype) -> tuple[Any, Any, int]:
    """(the result, the gradient of the input, bytes that were kept besides the input and the weights)"""
    draw = torch.Generator().manual_seed(1)
    module = module.to(dtype)
    for name, parameter in module.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()  # as in a training
    x = torch.randn(5, 7, WIDTH, generator=draw).to(dtype).requires_grad_()
    known = {tensor.untyped_storage().data_ptr() for tensor in (x, *module.parameters())}
    kept: dict[int, int] = {}

    def keep(tensor: Any) -> Any:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = module(x)
    y.backward(torch.randn(y.shape, generator=draw).to(dtype))
    return y.detach(), x.grad, sum(size for place, size in kept.items() if place not in known)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", [*NORMS, *GATES], ids=lambda kind: kind.__name__)
def test_the_results_are_the_same_and_less_is_kept(kind: Callable[..., nn.Module], dtype: torch.dtype) -> None:
    own, lean = (norm(kind) if kind in NORMS else gate(kind) for _ in range(2))
    lean.load_state_dict(own.state_dict())
    fuse_elementwise(lean)
    expected, ours = passed(own, dtype), passed(lean, dtype)
    assert torch.equal(ours[0], expected[0])
    within = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(ours[1], expected[1], rtol=within, atol=within * float(expected[1].abs().max()))
    assert ours[2] < expected[2]


def test_modules_that_compute_otherwise_or_are_trained_keep_their_own() -> None:
    for module in (
        Gemma3RMSNorm(WIDTH).requires_grad_(False),
        gate(LlamaMLP, hidden_act="gelu"),
        LlamaRMSNorm(WIDTH),
    ):
        fuse_elementwise(module)
        assert "forward" not in vars(module)


def test_an_adapter_that_is_off_leaves_the_mlp_as_it_is() -> None:
    own = gate(LlamaMLP)
    x = torch.randn(3, WIDTH)
    for layer in (own.gate_proj, own.up_proj, own.down_proj):
        layer.enable_adapters(False)
    expected = own(x)
    fuse_elementwise(own)
    assert torch.equal(own(x.requires_grad_()), expected)
