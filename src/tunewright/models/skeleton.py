"""A model without numbers: every tensor has its shape and type and lies on torch's meta device.

Any machine can count a model's memory and that of a training step on it, without a download.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tunewright.models.catalogue import catalogue
from tunewright.models.files import loading
from tunewright.models.resolve import resolve_tokenizer

_BLOCK, _SUPERBLOCK = 64, 256
"""Weights per NF4 scale, and scales per scale of the second quantisation (bitsandbytes' defaults)."""


def config_of(model: str, anchor: Path) -> Any:
    """The transformers config of a base model: from the catalogue, else from its folder or the hub.

    Raises:
        UserError: see `tunewright.models.resolve.resolve_tokenizer`.
    """
    from transformers import AutoConfig

    entry = catalogue().get(model)
    if entry and entry.shape:
        return entry.shape.config(entry.context)
    folder = resolve_tokenizer(model, anchor)[0]
    with loading(folder):
        return AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config()


def skeleton(config: Any, dtype: str, *, nf4: bool = False) -> Any:
    """The model of a config on the meta device.

    Args:
        dtype: type of the weights and of products, "float32", "bfloat16" or "float16".
        nf4: quantise the decoder's linear layers like `tunewright.inference.runtimes.torch_model.load_torch_model`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype), attn_implementation="sdpa")
        if nf4:
            _quantise(model, getattr(torch, dtype))
    return model


def _quantise(model: Any, dtype: Any) -> None:
    """Replace the decoder's linear layers with 4-bit ones."""
    from bitsandbytes.nn import Linear4bit
    from torch import nn

    head = model.get_output_embeddings()
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if type(layer) is nn.Linear and layer is not head:
                quantised = Linear4bit(layer.in_features, layer.out_features, layer.bias is not None, dtype)
                quantised.weight = _nf4_weight(layer.weight, dtype)
                quantised.bias = layer.bias
                setattr(parent, name, quantised)
    model.is_loaded_in_4bit = True


def _nf4_weight(weight: Any, dtype: Any) -> Any:
    """An NF4 weight with double quantisation, in the sizes that bitsandbytes gives this weight."""
    import torch
    from bitsandbytes.functional import QuantState
    from bitsandbytes.nn import Params4bit

    blocks = -(-weight.numel() // _BLOCK)
    second = QuantState(
        absmax=torch.empty(-(-blocks // _SUPERBLOCK)), code=torch.empty(256), blocksize=_SUPERBLOCK, dtype=torch.float32
    )
    state = QuantState(
        absmax=torch.empty(blocks, dtype=torch.uint8),
        shape=weight.shape,
        code=torch.empty(16),
        blocksize=_BLOCK,
        quant_type="nf4",
        dtype=dtype,
        offset=torch.empty(()),
        state2=second,
    )
    packed = torch.empty(-(-weight.numel() // 2), 1, dtype=torch.uint8)
    return Params4bit(
        packed,
        requires_grad=False,
        quant_state=state,
        blocksize=_BLOCK,
        compress_statistics=True,
        quant_type="nf4",
        bnb_quantized=True,
    )


def parameters_of(config: Any) -> int:
    """The number of a model's parameters. Tied ones count once."""
    return sum(parameter.numel() for parameter in skeleton(config, "bfloat16").parameters())


def tensors_of(model: Any) -> list[Any]:
    """All tensors of a model, with the scales of NF4. Tied ones appear once."""
    import torch

    states = [getattr(parameter, "quant_state", None) for parameter in model.parameters()]
    scales = [
        tensor
        for state in states
        if state
        for tensor in (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)
    ]
    return [*model.parameters(), *(b for b in model.buffers() if isinstance(b, torch.Tensor)), *scales]


class MetaWeights:
    """Runs a skeleton on the meta device. Code that asks for the device sees neither a CPU nor a GPU."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def moved(self, tensor: Any) -> Any:
        return tensor.to("meta")


class PretendedCpu:
    """Runs a skeleton whose tensors claim to lie on a CPU, so that code takes the same paths as on a CPU."""

    def __init__(self, model: Any):
        from torch._subclasses.fake_tensor import FakeTensorMode

        self._mode = FakeTensorMode(allow_non_fake_inputs=True)
        known: dict[int, Any] = {}
        for module in model.modules():
            for name, parameter in module._parameters.items():
                if parameter is not None:
                    module._parameters[name] = known.setdefault(id(parameter), self._parameter(parameter))
            for name, buffer in module._buffers.items():
                module._buffers[name] = None if buffer is None else self._named(buffer)

    def __enter__(self) -> None:
        self._mode.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._mode.__exit__(*error)

    def moved(self, tensor: Any) -> Any:
        return self._mode.from_tensor(tensor)

    def _named(self, tensor: Any) -> Any:
        from torch import device
        from torch._subclasses.fake_tensor import FakeTensor

        return FakeTensor(self._mode, tensor.detach(), device("cpu"))

    def _parameter(self, parameter: Any) -> Any:
        from torch import nn

        pretended = nn.Parameter(self._named(parameter.data), requires_grad=parameter.requires_grad)
        state = getattr(parameter, "quant_state", None)
        if state:
            for part in (state, state.state2):
                part.absmax, part.code = self._named(part.absmax), self._named(part.code)
            state.offset = self._named(state.offset)
            pretended.quant_state = state
        return pretended
