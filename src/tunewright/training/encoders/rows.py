"""Encodes examples for an encoder, and refuses texts that are too long for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example
from tunewright.training.loop.encode import Row, weight_of

if TYPE_CHECKING:
    from tunewright.training.encoders.objectives import Objective

_KEY = "train.max_length"


def window_for(spec: Spec, window: int) -> tuple[int, str]:
    """(most tokens of a text, the setting or window that limits them).

    Args:
        window: most tokens that the encoder reads.
    """
    if spec.train.max_length < window:
        return spec.train.max_length, _KEY
    return window, f"the window of {spec.model_name}"


def encoded(
    examples: Sequence[Example], objective: Objective, tokenizer: TextTokenizer, most: int, key: str
) -> list[Row]:
    """Encode each example as the objective's row.

    Args:
        most: most tokens of a text.
        key: the name of that limit, for the error.

    Raises:
        UserError: a text is longer.
    """
    rows = [objective.row(example, tokenizer) | weight_of(example) for example in examples]
    require_short(examples, [len(row["input_ids"]) for row in rows], most, key)
    return rows


def require_short(examples: Sequence[Example], lengths: Sequence[int], most: int, key: str) -> None:
    """Refuse examples whose texts have too many tokens.

    Args:
        lengths: number of tokens of each text.
        most, key: as for `encoded`.

    Raises:
        UserError: a text is longer.
    """
    if too_long := [length for length in lengths if length > most]:
        longest = examples[lengths.index(max(lengths))]
        shorten = f"Set {key}={max(lengths)} where the encoder reads as many, shorten" if key == _KEY else "Shorten"
        raise UserError(
            f"{len(too_long)} of {len(examples)} texts are longer than {key} = {most} tokens.",
            where=longest.meta.source,
            why=f"The longest has {max(lengths)}. Nothing is cut, because the part that is cut off may decide.",
            fix=f"{shorten} these texts, or choose an encoder that reads more: tunewright models ls",
        )
