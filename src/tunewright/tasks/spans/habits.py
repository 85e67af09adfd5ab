"""What the values of a training have in common beyond the schema. Reading keeps to it."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Habits(BaseModel):
    """The habits of a training's records, by the path of a field. Encoders' folders and bundles store them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spellings: dict[str, dict[str, str]] = {}
    """The `Spelling` of each field that is read with `tunewright.tasks.spans.readings.SPELT`."""
    one_line: tuple[str, ...] = ()
    """The fields whose values, where training found them, never went on in the next line of a text."""
    whole_numbers: tuple[str, ...] = ()
    """The fields whose values, where training found them, never cut a number, a date or a time, as 12 does in 12.50."""


NONE_KNOWN = Habits()
