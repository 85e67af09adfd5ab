"""What a kind of base model can't do of a spec, told before anything is done for it."""

from __future__ import annotations

from pathlib import Path

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.models.catalogue import catalogue
from tunewright.models.encoders import unable
from tunewright.models.resolve import known_kind
from tunewright.training import linear
from tunewright.training.encoders import rows
from tunewright.training.encoders.sample import not_literal

_OF_ADAPTER = {
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
"""Keys of `train` that a language model's training alone goes by."""


def require_able(spec: Spec) -> None:
    """Refuse what a spec's base model can't do, as far as its kind is known without asking the hub.

    Raises:
        UserError: the spec asks for it, or the first rows of the data do.
    """
    refusals = {"encoder": _refusal_of_encoder, "linear": linear.refusal, "decoder": _refusal_of_decoder}
    if error := refusals[known_kind(spec.model, spec.folder)](spec):
        raise error


def unused(spec: Spec) -> str:
    """Which keys of `train` that the spec names its model does not use, in a sentence; empty where it uses all. Of
    several candidates each uses its own."""
    kind, said = known_kind(spec.model, spec.folder), spec.train.model_fields_set
    if "candidates" in spec.model_fields_set or spec.candidates:
        return ""
    idle = {"encoder": _OF_ADAPTER, "linear": said - {"init_adapter"}, "decoder": {"encoder"}}[kind] & said
    if not idle:
        return ""
    own = "; an encoder's settings are under train.encoder" if kind == "encoder" else ""
    return f"{spec.model_name} does not use {', '.join(f'train.{key}' for key in sorted(idle))}{own}."


def _refusal_of_encoder(spec: Spec) -> UserError | None:
    return rows.refusal(spec) or not_literal(spec)


def _refusal_of_decoder(spec: Spec) -> UserError | None:
    if spec.model in catalogue() or (spec.folder / Path(spec.model).expanduser()).exists():
        return unable(spec.task.kind, spec.model_name, encoder=False)
    return None  # of the hub's, which may be an encoder
