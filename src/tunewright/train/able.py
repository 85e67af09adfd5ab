"""What a kind of base model can't do of a spec, told before anything is done for it."""

from __future__ import annotations

from pathlib import Path

from tunewright.errors import UserError
from tunewright.models.catalogue import catalogue
from tunewright.models.encoders import unable
from tunewright.models.resolve import known_kind
from tunewright.spec import Spec
from tunewright.train import linear
from tunewright.train.encoders import rows
from tunewright.train.encoders.sample import not_literal


def require_able(spec: Spec) -> None:
    """Refuse what a spec's base model can't do, as far as its kind is known without asking the hub.

    Raises:
        UserError: the spec asks for it, or the first rows of the data do.
    """
    refusals = {"encoder": _refusal_of_encoder, "linear": linear.refusal, "decoder": _refusal_of_decoder}
    if error := refusals[known_kind(spec.model, spec.folder)](spec):
        raise error


def _refusal_of_encoder(spec: Spec) -> UserError | None:
    return rows.refusal(spec) or not_literal(spec)


def _refusal_of_decoder(spec: Spec) -> UserError | None:
    if spec.model in catalogue() or (spec.folder / Path(spec.model).expanduser()).exists():
        return unable(spec.task.kind, spec.model_name, encoder=False)
    return None  # of the hub's, which may be an encoder
