"""How many values of each field stand in the texts, so that a tag for each token can say them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.core.errors import UserError
from tunewright.tasks.spans.fields import Field

MOSTLY = 0.5
"""Share of a field's values that must stand in the texts."""
_WELL = 0.98
"""Share from which on nothing is said of a field."""


@dataclass(frozen=True)
class Literal:
    """How many values of a field stand in the texts."""

    path: str
    values: int
    found: int

    @property
    def share(self) -> float:
        return self.found / self.values if self.values else 1.0


def literal(
    fields: Sequence[Field], records: Iterable[Mapping[str, Any]], lost: Iterable[Sequence[str]]
) -> list[Literal]:
    """The count of each field that is read off the text.

    Args:
        lost: for each record the paths of the values that were not found, as often as they were not.
    """
    read = [each for each in fields if not each.choices]
    count = Counter(each.path for record in records for each in read for _ in each.among(record))
    absent = Counter(path for paths in lost for path in paths)
    return [Literal(each.path, count[each.path], count[each.path] - absent[each.path]) for each in read]


def require_literal(found: Sequence[Literal], least: float = MOSTLY) -> None:
    """Refuse a field whose values mostly do not stand in the texts.

    Args:
        least: share of them that must.

    Raises:
        UserError: there is one, or no record has any value.
    """
    few = [each for each in found if each.values and each.share < least]
    if few:
        fields = ", ".join(f"{each.path} ({each.found} of {each.values}, {each.share:.0%})" for each in few)
        raise UserError(
            f"Too few values of these fields stand in the texts: {fields}.",
            where="task.schema",
            why="An encoder marks pieces of the text. It can read numbers and dates in other forms, and letters in "
            "another case; what is worded otherwise must be written.",
            fix="Choose a model that writes (tunewright models ls), or leave these fields out of the schema.",
        )
    if found and not any(each.values for each in found):
        raise UserError(
            "No training record has a value to read off its text.",
            where="data.train",
            fix="Look at the records: tunewright data check",
        )


def summary(found: Sequence[Literal]) -> str:
    """Which fields' values do not all stand in the texts, for a human."""
    some = [each for each in found if each.share < _WELL]
    if not some:
        return "all fields' values stand in the texts"
    fields = ", ".join(f"{each.path} {each.found} of {each.values}" for each in some)
    return f"not all values stand in the texts, and those that do not are not taught: {fields}"
