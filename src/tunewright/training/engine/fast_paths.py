"""Finds the fast paths that a model can take. Packing and the head are first tried on a few examples against the
plain computation; a LoRA layer of another kind is left to peft.

A path is left out, and the reason reported, if it gives another loss than the model's own forward or if the model
refuses it. Nothing here may change what the model learns.
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
from tunewright.training.engine.elementwise import fuse_elementwise
from tunewright.training.engine.head import add_supervision, is_linear
from tunewright.training.engine.lora import fuse_lora
from tunewright.training.engine.packing import numbered, pack, pad
from tunewright.training.loop.encode import IGNORED, Row

_TRIAL_ROWS = 4
"""Rows that are tried."""
_LAYERS = 2
_LOSS_TOLERANCE = {"float64": (1e-4, 1e-4), "float32": (1e-4, 1e-4), "bfloat16": (0.03, 0.1), "float16": (0.01, 0.02)}
"""Difference of the loss that rounding alone explains, by the type of products: as a share of the loss, and for
small losses in nats a token. In bfloat16 two ways to compute the same loss of SmolLM2-135M differ by 0.07 nats a
token (standard deviation), so the mean of several differs by less than 0.1."""
_HIDDEN_TOLERANCE = {"float64": 1e-3, "float32": 1e-3, "bfloat16": 0.06, "float16": 0.02}
"""Difference of hidden states after two layers that rounding alone explains, as a share of the effect of the
preceding tokens. Measured: in bfloat16 0.024 for SmolLM2-135M and 0.018 for Phi-3-mini's shape in NF4, in float16
0.003. A layout with wrong positions, the smallest fault it could have, is 0.09 off."""


@dataclass(frozen=True)
class RequestedPaths:
    """The fast paths to try; benchmarks leave some out."""

    shared_prefix: bool = True
    fused_head: bool = True
    fused_layers: bool = True
    """LoRA layers, norms and gated activations, each as one operation."""


@dataclass
class TrainingEngine:
    """The fast paths that a model takes, and the batches it trains on."""

    shared_prefix: bool = False
    fused_head: bool = False
    fused_layers: int = 0
    long_lines: bool = False
    """Whether the model is on a GPU, whose attention kernels read a line's keys from a copy."""
    reasons: dict[str, str] = field(default_factory=dict)
    """The reason for each path that was left out."""

    def collate(self, rows: Sequence[Row]) -> dict[str, Any]:
        """A batch for this model; see `tunewright.training.engine.packing`."""
        return pack(rows, long_lines=self.long_lines) if self.shared_prefix else pad(rows)


def fit_engine(model: Any, rows: Sequence[Row], requested: RequestedPaths | None = None) -> TrainingEngine:
    """Put a model, with or without an adapter, on the fast paths that it can take.

    Args:
        rows: training rows; the shortest ones are tried.

    Raises:
        UserError: the base model's numbers exceed float16's range.
    """
    requested = requested or RequestedPaths()
    base = base_of(model)
    engine = TrainingEngine(long_lines=base.device.type != "cpu")
    trial_rows = sorted(rows, key=lambda row: len(row["input_ids"]))[:_TRIAL_ROWS]
    add_supervision(base)
    _check_range(model, trial_rows[:1])
    trial = _Trial(model, trial_rows)
    if not requested.fused_head:
        engine.reasons["fused_head"] = "not requested"
    elif not is_linear(base.get_output_embeddings()):
        engine.reasons["fused_head"] = "the head is not a plain frozen matrix"
    elif reason := _trial_result("head", model, trial.of_head):
        engine.reasons["fused_head"] = reason
    base.fused_head = engine.fused_head = "fused_head" not in engine.reasons
    if not requested.shared_prefix:
        engine.reasons["shared_prefix"] = "not requested"
    elif reason := _trial_result("attention", model, trial.of_attention):
        engine.reasons["shared_prefix"] = reason
    else:
        register_attention()
        base.set_attn_implementation(NAME)
    engine.shared_prefix = "shared_prefix" not in engine.reasons
    if requested.fused_layers:
        engine.fused_layers = fuse_layers(model)
    return engine


def fuse_layers(model: Any) -> int:
    """Give a model's LoRA layers, norms and gated activations their fused forward passes.

    Returns:
        The number of LoRA layers that were changed.
    """
    count = fuse_lora(model)
    fuse_elementwise(base_of(model))
    return count


def base_of(model: Any) -> Any:
    """The base model, if the model has an adapter; else the model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


_TRIAL_RESULTS: dict[tuple[str, str], str] = {}
"""Results of the trials in this process, by path and `_kind_of` model: the reason to leave the path out, or an empty
text."""


def _trial_result(path: str, model: Any, trial: Callable[[], str]) -> str:
    """The result of a trial, or the known result for a model of this kind."""
    name = (path, _kind_of(model))
    if name not in _TRIAL_RESULTS:
        _TRIAL_RESULTS[name] = trial()
    return _TRIAL_RESULTS[name]


def _kind_of(model: Any) -> str:
    """What a trial's result depends on: the architecture with its config, the device and the type."""
    base = base_of(model)
    return f"{type(base).__name__} {base.dtype} {base.device.type} {base.config.to_json_string(use_diff=False)}"


class _Trial:
    """Runs a few rows through a model's first layers, the plain way and on a fast path.

    Layers of one kind compute the same, so the first of each kind stand for all.
    """

    def __init__(self, model: Any, rows: Sequence[Row]):
        self._model, self._rows = model, rows
        self._base = base_of(model)

    def of_head(self) -> str:
        """Why the head can't be projected at learnt tokens only; empty if it can."""
        losses = []
        for self._base.fused_head in (False, True):
            with _first_layers(self._base):
                losses.append(_loss(self._model, pad(self._rows)))
        self._base.fused_head = False
        share, nats = _LOSS_TOLERANCE[self._type]
        labelled = sum(label != IGNORED for row in self._rows for label in row["labels"])
        if math.isclose(*losses, rel_tol=share, abs_tol=nats * labelled):
            return ""
        return f"the model changes its logits after the head: loss {losses[1]:.4f} instead of {losses[0]:.4f}"

    def of_attention(self) -> str:
        """Why the model can't take packed batches; empty if it can."""
        rows, inputs = _numbered_labels(self._rows)
        before = self._base.config._attn_implementation
        register_attention()
        try:
            plain = self._hidden(pad(rows))
            # A token without context: attention accounts for the difference.
            context = (plain - self._hidden(pad([numbered([token], number) for number, token in inputs]))).norm()
            self._base.set_attn_implementation(NAME)
            packed = self._hidden(pack(rows, long_lines=self._base.device.type != "cpu"))
            difference = float((packed - plain).norm() / context)
            if difference <= _HIDDEN_TOLERANCE[self._type]:
                return ""
            return f"its attention does not follow the layout: {difference:.1%} of its contribution differs"
        # Any error of a model that was not written for this: it can still train the plain way.
        except (NotImplementedError, ValueError, TypeError, KeyError, RuntimeError, AttributeError) as error:
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        finally:
            self._base.set_attn_implementation(before)

    @property
    def _type(self) -> str:
        return str(self._base.dtype).removeprefix("torch.")

    def _hidden(self, batch: dict[str, Any]) -> Any:
        """The first layers' hidden states at the labelled positions, in the order of their numbers. [positions,
        width], at least float32"""
        import torch

        batch = on_device_of(self._model, batch)
        numbers = batch.pop("labels")
        with evaluating(self._model), torch.no_grad(), _first_layers(self._base):
            states = self._base.base_model(**batch, use_cache=False).last_hidden_state
        places = numbers != IGNORED
        return exact(states[places])[numbers[places].argsort()]


def _numbered_labels(rows: Sequence[Row]) -> tuple[list[Row], list[tuple[int, int]]]:
    """The rows with their labels replaced by consecutive numbers, and each number with the token at its position.

    A packed batch reorders its rows, so the numbers identify the positions.
    """
    numbered_rows: list[Row] = []
    inputs: list[tuple[int, int]] = []
    for row in rows:
        labels = []
        for place, label in enumerate(row["labels"]):
            labels.append(IGNORED if label == IGNORED else len(inputs))
            if label != IGNORED:
                inputs.append((len(inputs), row["input_ids"][place - 1]))
        numbered_rows.append({"input_ids": row["input_ids"], "labels": labels})
    return numbered_rows, inputs


@contextmanager
def _first_layers(base: Any) -> Iterator[None]:
    """Inside the block, a model has only as many layers as show every kind it has, and at least two."""
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
    """Refuse a model that can't be computed in float16 because it was trained in a wider type.

    Raises:
        UserError: its loss is not a number.
    """
    base = base_of(model)
    if str(base.dtype) == "torch.float16" and not math.isfinite(_loss(model, pad(rows))):
        raise UserError(
            "This base model can't be computed in float16: its loss is not a number.",
            why="Its numbers exceed 65,504, float16's largest; it was trained in a wider type.",
            fix="Type: train.precision=float32, or take a GPU with bfloat16 (Ampere or later).",
        )


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Put the model in evaluation mode inside the block: nothing is dropped."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def _loss(model: Any, batch: dict[str, Any]) -> float:
    """Summed loss of a batch with the model as it is, without dropout."""
    import torch

    with evaluating(model), torch.no_grad():
        return float(supervised_loss(model, on_device_of(model, batch)))


def supervised_loss(model: Any, batch: dict[str, Any]) -> Any:
    """Summed cross-entropy of a batch's labelled tokens, each times its weight, with gradients."""
    if "weights" in batch:
        return (token_losses(model, batch) * batch["weights"]).sum()
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    return model(**inputs, supervised=batch["labels"]).loss


def token_losses(model: Any, batch: dict[str, Any]) -> Any:
    """Cross-entropy of each of a batch's labelled tokens, in the batch's order."""
    inputs = {name: value for name, value in batch.items() if name not in ("labels", "weights")}
    return model(**inputs, supervised=batch["labels"], each=True).loss


def on_device_of(model: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """A batch with its tensors on the model's device."""
    from accelerate.utils import send_to_device

    moved: dict[str, Any] = send_to_device(batch, next(model.parameters()).device)
    return moved
