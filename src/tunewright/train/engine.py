"""Which of the fast paths a model can be trained on. Packing and the head are tried on a few examples against the plain
way first; a LoRA layer that is not of the plain kind is left to peft.

A path that gives another loss than the model's own forward, or that the model refuses, is left out, and the reason is
told: nothing here is allowed to change what is learnt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tunewright.train.attention import NAME, register_attention
from tunewright.train.encode import IGNORED, Row
from tunewright.train.head import add_supervision, is_linear
from tunewright.train.lora import fuse_lora
from tunewright.train.packing import pack, pad

_TRIED = 8
_TOLERANCE = {"float64": (1e-4, 1e-4), "float32": (1e-4, 1e-4), "bfloat16": (0.03, 0.1), "float16": (0.01, 0.02)}
"""Difference of the loss that rounding alone explains, by the type products are computed in: a share of it, and where
the loss is small, nats a token. In bfloat16 two ways to the same loss of SmolLM2-135M lie 0.07 nats a token apart
(standard deviation), so the mean of eight lies within 0.1."""


@dataclass(frozen=True)
class Wanted:
    """The fast paths to try; benchmarks leave some out."""

    shared_prefix: bool = True
    fused_head: bool = True
    fused_lora: bool = True


@dataclass
class Engine:
    """What a model is trained with."""

    shared_prefix: bool = False
    fused_head: bool = False
    fused_layers: int = 0
    long_lines: bool = False
    """The model is on a GPU, whose attention kernels read a line's keys from a copy."""
    reasons: dict[str, str] = field(default_factory=dict)
    """For each path that was left out, why."""

    def collate(self, rows: Sequence[Row]) -> dict[str, Any]:
        """A batch for this model; see `tunewright.train.packing`."""
        return pack(rows, long_lines=self.long_lines) if self.shared_prefix else pad(rows)


def fit_engine(model: Any, rows: Sequence[Row], wanted: Wanted | None = None) -> Engine:
    """Put a peft model on the fast paths it can take.

    Args:
        rows: training rows; the eight shortest are tried.
    """
    wanted = wanted or Wanted()
    base = model.get_base_model()
    engine = Engine(long_lines=base.device.type != "cpu")
    tried = sorted(rows, key=lambda row: len(row["input_ids"]))[:_TRIED]
    add_supervision(base)
    expected = sum(_loss(model, pad([row])) for row in tried)

    labelled = sum(label != IGNORED for row in tried for label in row["labels"])

    def equal(found: float) -> bool:
        share, nats = _TOLERANCE[str(base.dtype).removeprefix("torch.")]
        return math.isclose(found, expected, rel_tol=share, abs_tol=nats * labelled)

    if not wanted.fused_head:
        engine.reasons["fused_head"] = "not asked for"
    elif not is_linear(base.get_output_embeddings()):
        engine.reasons["fused_head"] = "the head is not a plain frozen matrix"
    else:
        base.fused_head = True
        found = sum(_loss(model, pad([row])) for row in tried)
        engine.fused_head = base.fused_head = equal(found)
        if not engine.fused_head:
            engine.reasons["fused_head"] = f"the model does more to its logits: loss {found:.4f} against {expected:.4f}"
    if not wanted.shared_prefix:
        engine.reasons["shared_prefix"] = "not asked for"
    else:
        engine.reasons |= _try_packed(model, tried, equal, expected)
        engine.shared_prefix = "shared_prefix" not in engine.reasons
    if wanted.fused_lora:
        engine.fused_layers = fuse_lora(model)
    return engine


def _try_packed(model: Any, rows: Sequence[Row], equal: Any, expected: float) -> dict[str, str]:
    """Switch the model to packed attention; back again, with the reason, where it can't be."""
    base = model.get_base_model()
    before = base.config._attn_implementation
    register_attention()
    try:
        base.set_attn_implementation(NAME)
        found = _loss(model, pack(rows))
        if equal(found):
            return {}
        reason = f"its attention does not follow the layout: loss {found:.4f} against {expected:.4f}"
    # Whatever a model that was not written for this raises, the plain way is still there.
    except (NotImplementedError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
    base.set_attn_implementation(before)
    return {"shared_prefix": reason}


def _loss(model: Any, batch: dict[str, Any]) -> float:
    """Summed loss of a batch, as the model stands, without dropout."""
    import torch

    training = model.training
    model.eval()
    with torch.no_grad():
        loss = supervised_loss(model, on_device_of(model, batch))
    model.train(training)
    return float(loss)


def supervised_loss(model: Any, batch: dict[str, Any]) -> Any:
    """Summed cross-entropy of a batch's labelled tokens, with gradients."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return model(**inputs, supervised=batch["labels"]).loss


def on_device_of(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """A batch with its tensors where the model is."""
    from accelerate.utils import send_to_device

    moved: dict[str, Any] = send_to_device(batch, next(model.parameters()).device)
    return moved
