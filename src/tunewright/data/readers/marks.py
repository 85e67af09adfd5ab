"""Values that are marked in a text by their places, as tools for annotation export them, as a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunewright.core.strict_json import JsonRefusal
from tunewright.data.shown import shown

_STARTS = ("start", "start_offset", "start_char", "begin")
_ENDS = ("end", "end_offset", "end_char", "stop")
_KINDS = ("label", "labels", "type", "entity_type", "entity", "entity_group", "tag", "kind", "category")
"""Keys of spaCy, Presidio, doccano, Prodigy, Label Studio and transformers."""
PARTED = "\u0590"
"""Scripts before this one, such as Latin, Greek and Cyrillic, part words by blanks."""


@dataclass(frozen=True)
class TextMark:
    """A place in a text, in characters, and what stands there."""

    start: int
    end: int
    kind: str


def marks_in(value: Any) -> list[TextMark] | None:
    """The marks in a list of them, such as {"start": 0, "end": 4, "label": "PERSON"} or [0, 4, "PERSON"]; None: it is
    no such list, or empty."""
    if not isinstance(value, list) or not value:
        return None
    marks = [mark for each in value if (mark := _mark(each)) is not None]
    return marks if len(marks) == len(value) else None


def record_of(marks: Sequence[TextMark], text: str) -> dict[str, list[str]]:
    """The values of each kind, in the text's order; a value that occurs again is listed once.

    Raises:
        JsonRefusal: a mark is not within the text.
    """
    record: dict[str, list[str]] = {}
    for mark in sorted(marks, key=lambda each: (each.start, each.end)):
        if not 0 <= mark.start < mark.end <= len(text):
            reason = (
                f"The {shown(mark.kind, 40)} from {mark.start} to {mark.end} is not within the text, which has "
                f"{len(text):,} characters. Places count characters from 0, and the end is behind the last one."
            )
            raise JsonRefusal("marks", reason)
        values = record.setdefault(mark.kind, [])
        if (value := text[mark.start : mark.end]) not in values:
            values.append(value)
    return record


def is_word(mark: TextMark, text: Any) -> bool:
    """Whether a mark begins and ends as words do, as far as the script parts them by blanks. Other lists of numbers and
    names, such as hours, seldom do."""
    if not isinstance(text, str) or not 0 <= mark.start < mark.end <= len(text):
        return False
    value, before, behind = text[mark.start : mark.end], text[: mark.start][-1:], text[mark.end :][:1]
    return value == value.strip() and not _is_within(before, value[0]) and not _is_within(value[-1], behind)


def _is_within(before: str, behind: str) -> bool:
    """Whether a word goes on between two characters, in a script that parts words."""
    return before.isalnum() and behind.isalnum() and max(before, behind) < PARTED


def _mark(value: Any) -> TextMark | None:
    found: list[Any]
    if isinstance(value, Mapping):
        found = [next((value[name] for name in names if name in value), None) for names in (_STARTS, _ENDS, _KINDS)]
    elif isinstance(value, list) and len(value) == 3:
        found = value
    else:
        return None
    start, end, kind = found
    if isinstance(kind, list) and len(kind) == 1:  # Label Studio
        kind = kind[0]
    if type(start) is not int or type(end) is not int or not isinstance(kind, str) or not kind.strip():
        return None
    return TextMark(start, end, kind)
