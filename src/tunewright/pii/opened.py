"""JSON texts as they are meant: `J\\u00f6rg`, or a line's end before a name, hides a name from every pattern."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

_ESCAPES = re.compile(r"(?:\\u[0-9a-fA-F]{4})+|\\.")
"""In JSON a backslash stands in strings only."""
_UNIT = len(r"\u0000")


@dataclass(frozen=True)
class OpenedText:
    """A JSON text with the characters themselves in place of escapes."""

    text: str
    places: list[int]
    """Where each of its characters begins in the JSON text; last, the JSON text's length."""


def opened_json(text: str) -> OpenedText | None:
    """A text opened; None: it is no JSON object or list, or has no escapes."""
    if "\\" not in text or not text.lstrip().startswith(("{", "[")):
        return None
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    parts, places, end = [], list[int](), 0
    for escapes in _ESCAPES.finditer(text):
        place, letters = escapes.start(), json.loads(f'"{escapes[0]}"')
        parts += [text[end:place], letters]
        places += range(end, place)
        for letter in letters:
            places.append(place)
            place += _UNIT if ord(letter) < 0x10000 else 2 * _UNIT  # beyond, JSON writes a pair
        end = escapes.end()
    places += range(end, len(text) + 1)
    return OpenedText("".join([*parts, text[end:]]), places)
