"""Checks, before any work starts, that the base model can do what the spec asks for."""

from __future__ import annotations

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.models.catalogue import catalogue
from tunewright.models.encoders import unable
from tunewright.models.naming import known_kind, local_path
from tunewright.training import linear
from tunewright.training.encoders import refusals

_ADAPTER_KEYS = {
    "method",
    "loss",
    "lora",
    "lr",
    "epochs",
    "batch_size",
    "gradient_accumulation_steps",
    "weight_decay",
    "optimizer",
    "gradient_checkpointing",
}
"""Keys of `train` that only the training of a language model reads."""


def require_able(spec: Spec) -> None:
    """Refuse a spec that its base model can't do, as far as its kind is known without asking the hub.

    Raises:
        UserError: the base model can't do the task, the data or the settings.
    """
    refusal_of = {"encoder": _refusal_of_encoder, "linear": linear.refusal, "decoder": _refusal_of_decoder}
    if error := refusal_of[known_kind(spec.model, spec.folder)](spec):
        raise error


def unused(spec: Spec) -> str:
    """A sentence that names the keys of `train` in the spec that its model does not use; empty if it uses all.

    With several candidates it is empty: each uses its own keys.
    """
    kind, named = known_kind(spec.model, spec.folder), spec.train.model_fields_set
    if "candidates" in spec.model_fields_set or spec.candidates:
        return ""
    unused_keys = {"encoder": _ADAPTER_KEYS, "linear": named - {"init_adapter"}, "decoder": {"encoder"}}[kind] & named
    if not unused_keys:
        return ""
    own = "; an encoder's settings are under train.encoder" if kind == "encoder" else ""
    return f"{spec.model_name} does not use {', '.join(f'train.{key}' for key in sorted(unused_keys))}{own}."


def _refusal_of_encoder(spec: Spec) -> UserError | None:
    return refusals.refusal(spec) or refusals.not_literal(spec)


def _refusal_of_decoder(spec: Spec) -> UserError | None:
    if spec.model in catalogue() or local_path(spec.model, spec.folder).exists():
        return unable(spec.task.kind, spec.model_name, encoder=False)
    return None  # a model of the hub, which may be an encoder
