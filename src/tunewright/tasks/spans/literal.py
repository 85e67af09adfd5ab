"""Counts how many values of each field stand literally in the texts. Only those can be marked by tags."""

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
"""From this share on, the summary leaves a field out."""


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
    """Count the values of each field that comes from the text.

    Args:
        lost: for each record, the paths of the values that have no place in the text; one entry a value.
    """
    from_text = [each for each in fields if not each.choices]
    count = Counter(each.path for record in records for each in from_text for _ in each.among(record))
    absent = Counter(path for paths in lost for path in paths)
    return [Literal(each.path, count[each.path], count[each.path] - absent[each.path]) for each in from_text]


def require_literal(counts: Sequence[Literal], least: float = MOSTLY) -> None:
    """Refuse a field if too few of its values stand in the texts.

    Args:
        least: the share that must.

    Raises:
        UserError: there is such a field, or no record has any value.
    """
    few = [each for each in counts if each.values and each.share < least]
    if few:
        fields = ", ".join(f"{each.path} ({each.found} of {each.values}, {each.share:.0%})" for each in few)
        raise UserError(
            f"Too few values of these fields stand in the texts: {fields}.",
            where="task.schema",
            why="An encoder marks pieces of the text. It can read numbers and dates in other forms, and letters in "
            "another case. Values in other words need a model that writes.",
            fix="Choose a model that writes (tunewright models ls), or leave these fields out of the schema.",
        )
    if counts and not any(each.values for each in counts):
        raise UserError(
            "No training record has a value that stands in its text.",
            where="data.train",
            fix="Look at the records: tunewright data check",
        )


def summary(counts: Sequence[Literal]) -> str:
    """A sentence about the fields whose values do not all stand in the texts."""
    some = [each for each in counts if each.share < _WELL]
    if not some:
        return "all fields' values stand in the texts"
    fields = ", ".join(f"{each.path} {each.found} of {each.values}" for each in some)
    return f"not all values stand in the texts, and training skips the others: {fields}"
