"""What a kind of base model can't do of a spec, told before anything is done for it."""

from __future__ import annotations

from tunewright.models.resolve import known_kind
from tunewright.spec import Spec
from tunewright.train import linear
from tunewright.train.encoders import rows


def require_able(spec: Spec) -> None:
    """Refuse what a spec's base model can't do, as far as its kind is known without asking the hub.

    Raises:
        UserError: the spec asks for it.
    """
    refusals = {"encoder": rows.refusal, "linear": linear.refusal}
    kind = known_kind(spec.model, spec.folder)
    if kind in refusals and (error := refusals[kind](spec)):
        raise error
