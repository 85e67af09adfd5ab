"""What the values of a training have in common beyond the schema. Reading keeps to it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Habits(BaseModel):
    """The habits of a training's records, by the path of a field. Encoders' folders and bundles store them."""

    model_config = ConfigDict(frozen=True)

    spellings: dict[str, dict[str, str]] = {}
    """For each field that is spelt, the words that records don't write with one capital in front: in small letters, and
    as spelt. See `tunewright.tasks.spans.readings.SPELT`."""
    one_line: tuple[str, ...] = ()
    """The fields none of whose values goes on in the next line of a text."""


NONE_KNOWN = Habits()
