"""Which of the fast paths a model can be trained on. Packing and the head are tried on a few examples against the plain
way first; a LoRA layer that is not of the plain kind is left to peft.

A path that gives another loss than the model's own forward, or that the model refuses, is left out, and the reason is
told: nothing here is allowed to change what is learnt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from tunewright.core.errors import UserError
from tunewright.inference.runtimes.products import exact
from tunewright.training.engine.attention import NAME, register_attention
from tunewright.training.engine.head import add_supervision, is_linear
from tunewright.training.engine.lora import fuse_lora
from tunewright.training.engine.packing import numbered, pack, pad
from tunewright.training.loop.encode import IGNORED, Row

_TRIED = 4
"""Rows."""
_LAYERS = 2
_LOSS_TOLERANCE = {"float64": (1e-4, 1e-4), "float32": (1e-4, 1e-4), "bfloat16": (0.03, 0.1), "float16": (0.01, 0.02)}
"""Difference of the loss that rounding alone explains, by the type products are computed in: a share of it, and where
the loss is small, nats a token. In bfloat16 two ways to the same loss of SmolLM2-135M lie 0.07 nats a token apart
(standard deviation), so the mean of several lies within 0.1."""
_HIDDEN_TOLERANCE = {"float64": 1e-3, "float32": 1e-3, "bfloat16": 0.06, "float16": 0.02}
"""Difference of hidden states behind two layers that rounding alone explains, as a share of what tokens before them
change. Measured in bfloat16 0.024 for SmolLM2-135M and 0.018 for Phi-3-mini's shape in NF4, in float16 0.003; a layout
with wrong positions, the least of its faults, is 0.09 off."""


@dataclass(frozen=True)
class RequestedPaths:
    """The fast paths to try; benchmarks leave some out."""

    shared_prefix: bool = True
    fused_head: bool = True
    fused_lora: bool = True


@dataclass
class TrainingEngine:
    """What a model is trained with."""

    shared_prefix: bool = False
    fused_head: bool = False
    fused_layers: int = 0
    long_lines: bool = False
    """The model is on a GPU, whose attention kernels read a line's keys from a copy."""
    reasons: dict[str, str] = field(default_factory=dict)
    """For each path that was left out, why."""

    def collate(self, rows: Sequence[Row]) -> dict[str, Any]:
        """A batch for this model; see `tunewright.training.engine.packing`."""
        return pack(rows, long_lines=self.long_lines) if self.shared_prefix else pad(rows)


def fit_engine(model: Any, rows: Sequence[Row], wanted: RequestedPaths | None = None) -> TrainingEngine:
    """Put a model, with an adapter or without, on the fast paths it can take.

    Args:
        rows: training rows; the shortest are tried.

    Raises:
        UserError: the base model's numbers pass what float16 holds.
    """
    wanted = wanted or RequestedPaths()
    base = base_of(model)
    engine = TrainingEngine(long_lines=base.device.type != "cpu")
    tried = sorted(rows, key=lambda row: len(row["input_ids"]))[:_TRIED]
    add_supervision(base)
    _check_range(model, tried[:1])
    trial = _Trial(model, tried)
    if not wanted.fused_head:
        engine.reasons["fused_head"] = "not asked for"
    elif not is_linear(base.get_output_embeddings()):
        engine.reasons["fused_head"] = "the head is not a plain frozen matrix"
    elif reason := _known("head", model, trial.of_head):
        engine.reasons["fused_head"] = reason
    base.fused_head = engine.fused_head = "fused_head" not in engine.reasons
    if not wanted.shared_prefix:
        engine.reasons["shared_prefix"] = "not asked for"
    elif reason := _known("attention", model, trial.of_attention):
        engine.reasons["shared_prefix"] = reason
    else:
        register_attention()
        base.set_attn_implementation(NAME)
    engine.shared_prefix = "shared_prefix" not in engine.reasons
    if wanted.fused_lora:
        engine.fused_layers = fuse_lora(model)
    return engine


def base_of(model: Any) -> Any:
    """The model itself, under an adapter where it has one."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


_FOUND: dict[tuple[str, str], str] = {}
"""What trials have found in this process, by path and `_kind_of` model: why it is left out, or nothing."""


def _known(path: str, model: Any, trial: Callable[[], str]) -> str:
    """What a trial finds, or has found of a model of this kind."""
    name = (path, _kind_of(model))
    if name not in _FOUND:
        _FOUND[name] = trial()
    return _FOUND[name]


def _kind_of(model: Any) -> str:
    """What a trial depends on: the architecture with all it is set to, and where and in which type it is computed."""
    base = base_of(model)
    return f"{type(base).__name__} {base.dtype} {base.device.type} {base.config.to_json_string(use_diff=False)}"


class _Trial:
    """Runs a few rows through a model's first layers, the plain way and on a fast path.

    Layers of a kind do the same, so the first of each kind stand for all.
    """

    def __init__(self, model: Any, rows: Sequence[Row]):
        self._model, self._rows = model, rows
        self._base = base_of(model)

    def of_head(self) -> str:
        """Why the head can't be projected at learnt tokens alone, if so."""
        found = []
        for self._base.fused_head in (False, True):
            with _first_layers(self._base):
                found.append(_loss(self._model, pad(self._rows)))
        self._base.fused_head = False
        share, nats = _LOSS_TOLERANCE[self._type]
        labelled = sum(label != IGNORED for row in self._rows for label in row["labels"])
        if math.isclose(*found, rel_tol=share, abs_tol=nats * labelled):
            return ""
        return f"the model does more to its logits: loss {found[1]:.4f} against {found[0]:.4f}"

    def of_attention(self) -> str:
        """Why the model can't be given packed batches, if so."""
        rows, asked = _numbered_labels(self._rows)
        before = self._base.config._attn_implementation
        register_attention()
        try:
            wanted = self._hidden(pad(rows))
            # A token that has nothing before it: what is between the two is what attention is for.
            context = (wanted - self._hidden(pad([numbered([token], number) for number, token in asked]))).norm()
            self._base.set_attn_implementation(NAME)
            found = self._hidden(pack(rows, long_lines=self._base.device.type != "cpu"))
            missed = float((found - wanted).norm() / context)
            if missed <= _HIDDEN_TOLERANCE[self._type]:
                return ""
            return f"its attention does not follow the layout: {missed:.1%} of what it adds is another"
        # Whatever a model that was not written for this raises, the plain way is still there.
        except (NotImplementedError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        finally:
            self._base.set_attn_implementation(before)

    @property
    def _type(self) -> str:
        return str(self._base.dtype).removeprefix("torch.")

    def _hidden(self, batch: dict[str, Any]) -> Any:
        """What the first layers make of the labelled places, by their numbers. [places, width], at least float32"""
        import torch

        batch = on_device_of(self._model, batch)
        numbers = batch.pop("labels")
        with evaluating(self._model), torch.no_grad(), _first_layers(self._base):
            states = self._base.base_model(**batch, use_cache=False).last_hidden_state
        places = numbers != IGNORED
        return exact(states[places])[numbers[places].argsort()]


def _numbered_labels(rows: Sequence[Row]) -> tuple[list[Row], list[tuple[int, int]]]:
    """Rows whose labels are numbered in their place, and the tokens that stand at each number.

    A packed batch has its rows in an order of its own.
    """
    made: list[Row] = []
    asked: list[tuple[int, int]] = []
    for row in rows:
        labels = []
        for place, label in enumerate(row["labels"]):
            labels.append(IGNORED if label == IGNORED else len(asked))
            if label != IGNORED:
                asked.append((len(asked), row["input_ids"][place - 1]))
        made.append({"input_ids": row["input_ids"], "labels": labels})
    return made, asked


@contextmanager
def _first_layers(base: Any) -> Iterator[None]:
    """Inside, a model has no more layers than show every kind it has, and two at the least."""
    from torch import nn

    decoder = base.base_model
    layers = getattr(decoder, "layers", None)
    if not isinstance(layers, nn.ModuleList):
        yield
        return
    kinds = getattr(base.config, "layer_types", None) or []
    enough = max([_LAYERS, *(kinds.index(kind) + 1 for kind in set(kinds))])
    decoder.layers = layers[:enough]
    try:
        yield
    finally:
        decoder.layers = layers


def _check_range(model: Any, rows: Sequence[Row]) -> None:
    """Whether a model that was trained in a wider type can be computed in float16.

    Raises:
        UserError: it can't: its loss is no number.
    """
    base = base_of(model)
    if str(base.dtype) == "torch.float16" and not math.isfinite(_loss(model, pad(rows))):
        raise UserError(
            "This base model can't be computed in float16: its loss is no number.",
            why="Its numbers pass 65,504, which is float16's largest; it was trained in a wider type.",
            fix="Type: train.precision=float32, or take a GPU with bfloat16 (Ampere or later).",
        )


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Inside, the model is in evaluation: nothing is dropped."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _loss(model: Any, batch: dict[str, Any]) -> float:
    """Summed loss of a batch, as the model stands, without dropout."""
    import torch

    with evaluating(model), torch.no_grad():
        return float(supervised_loss(model, on_device_of(model, batch)))


def supervised_loss(model: Any, batch: dict[str, Any]) -> Any:
    """Summed cross-entropy of a batch's labelled tokens, with gradients."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return model(**inputs, supervised=batch["labels"]).loss


def token_losses(model: Any, batch: dict[str, Any]) -> Any:
    """Cross-entropy of each of a batch's labelled tokens, in the batch's order."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return model(**inputs, supervised=batch["labels"], each=True).loss


def on_device_of(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """A batch with its tensors where the model is."""
    from accelerate.utils import send_to_device

    moved: dict[str, Any] = send_to_device(batch, next(model.parameters()).device)
    return moved
