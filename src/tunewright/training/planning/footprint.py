"""What a training step holds and does, before there is a GPU or a download: the engine itself, run without numbers.

The model is a skeleton on torch's meta device, but everything around it is what trains: peft's adapter, the fused
layers, packed attention, the loss at the learnt tokens, gradient checkpointing. So what is counted follows the code.
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
from tunewright.training.engine.fast_paths import supervised_loss
from tunewright.training.engine.head import add_supervision, is_linear
from tunewright.training.engine.lora import fuse_lora
from tunewright.training.engine.packing import pack
from tunewright.training.loop.encode import IGNORED, Row
from tunewright.training.loop.trainer import hold_adapter_in_float32, lora_config

_MOMENTS = 8
"""Bytes of AdamW's two moments for each trained number, in float32."""
_MOMENTS_8BIT = 2
_SHALLOW = 3
"""Layers of the model that a deep one is extrapolated from, together with one of a layer more."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of a training step, by what they are for, and its work."""

    weights: int
    """The base model and its buffers."""
    trained: int
    """Numbers of the adapter, not bytes."""
    adapter: int
    optimizer: int
    """AdamW's moments; on a GPU a paged optimizer may move them to main memory."""
    gradients: int
    """Those that accumulated passes leave for the next ones."""
    activations: int
    """What the decoder's forward pass keeps for the backward pass."""
    logits: int
    """What the head and the loss need at most."""
    backward: int
    """What the backward pass holds at most beyond the activations: gradients, and what the layers work with."""
    layer: int
    """The weights of one layer."""
    work: Work
    """Of one forward and backward pass."""

    @property
    def fixed(self) -> int:
        """What is held whatever the batch is."""
        return self.weights + self.adapter + self.optimizer

    @property
    def peak(self) -> int:
        return self.fixed + self.gradients + self.activations + max(self.logits, self.backward)

    def sharded(self, over: int) -> int:
        """Peak bytes on each of `over` GPUs among which FSDP divides the model, the adapter and the optimizer.

        Two layers are gathered at a time: the one at work, and the one that is fetched ahead. Before the model is
        divided, every GPU loads all of it.
        """
        divided = self.peak - self.fixed + self.fixed // over + 2 * self.layer
        return max(divided, self.weights + self.adapter)


def adapted_skeleton(config: Any, settings: TrainSpec, dtype: str, again: Any = None) -> Any:
    """The skeleton of a base model with its adapter, on the engine's fast paths, in training.

    Args:
        config: transformers' config of the base model.
        again: a context in which checkpointed layers are run again.
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
    fuse_lora(model)
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()
        contexts = {} if again is None else {"context_fn": lambda: (nullcontext(), again)}
        base.gradient_checkpointing_enable({"use_reentrant": False, **contexts})
    return model.train()


def footprint(config: Any, settings: TrainSpec, rows: Sequence[Row], dtype: str, *, on_cpu: bool = False) -> Footprint:
    """Count one step of training.

    Layers that are all alike add alike: a shallow model and a deeper one tell what a deep one takes, in a fraction of
    the time.

    Args:
        config: transformers' config of the base model.
        rows: the examples of one batch.
        dtype: type of weights and products, "float32", "bfloat16" or "float16".
        on_cpu: take the ways that code takes on a CPU, instead of a GPU's kernels.
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
    """What is measured by so many times the difference beyond the shallow one, field by field."""
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
    place = PretendedCpu(model) if on_cpu else MetaWeights()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    adapter = sum(parameter.untyped_storage().nbytes() for parameter in trained)
    numbers = sum(parameter.numel() for parameter in trained)
    kept = logits = 0
    passes = min(settings.gradient_accumulation_steps, 2)  # from the second on, gradients are there already
    with place:
        moved = [_moved(batch, place) for _ in range(passes)]
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


def _moved(value: Any, place: MetaWeights | PretendedCpu) -> Any:
    """A batch with its tensors in a place."""
    if isinstance(value, dict):
        return {name: _moved(inner, place) for name, inner in value.items()}
    if isinstance(value, list):
        return [_moved(inner, place) for inner in value]
    return place.moved(value) if hasattr(value, "untyped_storage") else value
