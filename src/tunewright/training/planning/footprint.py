"""Counts the memory and work of a training step without a GPU or a download, by running the engine on the meta device.

The model is a skeleton on torch's meta device, but everything around it is the training code: peft's adapter, the fused
layers, packed attention, the loss at the learnt tokens, gradient checkpointing. So the counts follow the code.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from tunewright.config.sections import TrainSpec
from tunewright.models.meter import Filtered, GpuAttention, Meter, Work
from tunewright.models.skeleton import MetaWeights, PretendedCpu, skeleton, tensors_of
from tunewright.training.engine.attention import NAME, register_attention
from tunewright.training.engine.fast_paths import fuse_layers, supervised_loss
from tunewright.training.engine.head import add_supervision, is_linear
from tunewright.training.engine.packing import pack
from tunewright.training.loop.encode import IGNORED, Row
from tunewright.training.loop.trainer import hold_adapter_in_float32, lora_config

_MOMENTS = 8
"""Bytes of AdamW's two float32 moments for each trained number."""
_MOMENTS_8BIT = 2
_SHALLOW = 3
"""Layers of the shallow model from which a deep one is extrapolated, together with a model of one layer more."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a training step, by purpose, and its work."""

    weights: int
    """Bytes of the base model and its buffers."""
    trained: int
    """Trained numbers, not bytes."""
    adapter: int
    optimizer: int
    """Bytes of AdamW's moments; on a GPU a paged optimizer may move them to main memory."""
    gradients: int
    """Bytes of gradients that accumulated passes leave for the next ones."""
    activations: int
    """Bytes that the decoder's forward pass keeps for the backward pass."""
    logits: int
    """Peak bytes of the head and the loss."""
    backward: int
    """Peak bytes of the backward pass beyond the activations: gradients and the layers' working memory."""
    layer: int
    """Bytes of one layer's weights."""
    work: Work
    """Work of one forward and backward pass."""

    @property
    def fixed(self) -> int:
        """Bytes that do not depend on the batch."""
        return self.weights + self.adapter + self.optimizer

    @property
    def peak(self) -> int:
        return self.fixed + self.gradients + self.activations + max(self.logits, self.backward)

    def sharded(self, over: int) -> int:
        """Peak bytes on each of `over` GPUs if FSDP divides the model, the adapter and the optimizer among them.

        FSDP gathers two layers at a time: the one at work and the next one. Before it divides the model, every GPU
        loads all of it.
        """
        divided = self.peak - self.fixed + self.fixed // over + 2 * self.layer
        return max(divided, self.weights + self.adapter)


def adapted_skeleton(config: Any, settings: TrainSpec, dtype: str, again: Any = None) -> Any:
    """The skeleton of a base model with its adapter, on the engine's fast paths, in training mode.

    Args:
        config: transformers' config of the base model.
        again: a context for the second run of checkpointed layers.
    """
    from peft import get_peft_model

    model = get_peft_model(
        skeleton(config, dtype, nf4=settings.method == "qlora"), lora_config(settings.lora), low_cpu_mem_usage=True
    )
    hold_adapter_in_float32(model)
    base = model.get_base_model()
    add_supervision(base)
    base.fused_head = is_linear(base.get_output_embeddings())
    register_attention()
    base.set_attn_implementation(NAME)
    fuse_layers(model)
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()
        contexts = {} if again is None else {"context_fn": lambda: (nullcontext(), again)}
        base.gradient_checkpointing_enable({"use_reentrant": False, **contexts})
    return model.train()


def footprint(config: Any, settings: TrainSpec, rows: Sequence[Row], dtype: str, *, on_cpu: bool = False) -> Footprint:
    """Count one training step.

    If all layers are alike, each adds the same. So a shallow model and one with a layer more give the footprint of a
    deep one, in a fraction of the time.

    Args:
        config: transformers' config of the base model.
        rows: the examples of one batch.
        dtype: type of weights and products: "float32", "bfloat16" or "float16".
        on_cpu: count the code paths of a CPU, instead of a GPU's kernels.
    """
    layers = config.num_hidden_layers
    if layers <= _SHALLOW + 1 or len(set(getattr(config, "layer_types", None) or [])) > 1:
        return _counted(config, settings, rows, dtype, on_cpu=on_cpu)
    shallow, deeper = (
        _counted(_with_layers(config, n), settings, rows, dtype, on_cpu=on_cpu) for n in (_SHALLOW, _SHALLOW + 1)
    )
    whole: Footprint = _extrapolated(shallow, deeper, layers - _SHALLOW)
    return whole


def _with_layers(config: Any, layers: int) -> Any:
    """The config with its first layers only."""
    config = copy.deepcopy(config)
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:layers]
    config.num_hidden_layers = layers
    return config


def _extrapolated(shallow: Any, deeper: Any, times: int) -> Any:
    """Add `times` times the difference of the two to the shallow one, field by field."""
    pairs = ((field.name, getattr(shallow, field.name), getattr(deeper, field.name)) for field in fields(shallow))
    return type(shallow)(
        **{name: _extrapolated(a, b, times) if is_dataclass(a) else a + (b - a) * times for name, a, b in pairs}
    )


def _counted(config: Any, settings: TrainSpec, rows: Sequence[Row], dtype: str, *, on_cpu: bool) -> Footprint:
    """`footprint`, by running every layer."""
    meter = Meter()
    attention = nullcontext() if on_cpu else GpuAttention(meter)
    model = adapted_skeleton(config, settings, dtype, attention)
    decoder = model.get_base_model().base_model
    batch = pack(rows, long_lines=not on_cpu)
    filtered = Filtered(
        int((batch["labels"] != IGNORED).sum()),
        len({token for row in rows for offered in row.get("choices", ()) for token in offered}),
    )
    target = PretendedCpu(model) if on_cpu else MetaWeights()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adapter = sum(parameter.untyped_storage().nbytes() for parameter in trained)
    numbers = sum(parameter.numel() for parameter in trained)
    kept = logits = 0
    passes = min(settings.gradient_accumulation_steps, 2)  # in the second pass the gradients already exist
    with target:
        moved = [_moved(batch, target) for _ in range(passes)]
        meter.hold(tensors_of(model))
        static = meter.live

        def end_of_decoder(*_: Any) -> None:
            nonlocal kept
            kept = meter.peak = meter.live

        decoder.register_forward_hook(end_of_decoder)
        with meter:
            for _ in range(passes):
                meter.work = Work()
                before = meter.live - static
                with attention, filtered:
                    loss = supervised_loss(model, moved.pop())
                logits = meter.peak - kept
                loss.backward()
    return Footprint(
        weights=static - adapter,
        trained=numbers,
        adapter=adapter,
        optimizer=numbers * (_MOMENTS_8BIT if settings.optimizer == "paged_adamw_8bit" else _MOMENTS),
        gradients=before,
        activations=kept - static - before,
        logits=logits,
        backward=meter.peak - kept,
        layer=_held(tensors_of(decoder.layers[0])),
        work=meter.work,
    )


def _held(tensors: Iterable[Any]) -> int:
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def _moved(value: Any, target: MetaWeights | PretendedCpu) -> Any:
    """A batch with its tensors moved to the meta device or the pretended CPU."""
    if isinstance(value, dict):
        return {name: _moved(inner, target) for name, inner in value.items()}
    if isinstance(value, list):
        return [_moved(inner, target) for inner in value]
    return target.moved(value) if hasattr(value, "untyped_storage") else value
