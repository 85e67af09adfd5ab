"""Literal fields: values that stand in the request word for word."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING

from tunewright.tasks.measures import leaves
from tunewright.tasks.normal import as_in_records

if TYPE_CHECKING:
    import re2

_ASCII = re.compile(r"[A-Za-z_]+|[0-9]+|.", re.DOTALL)
_LONGEST = 200
"""Characters of a piece. A longer run, as of encoded bytes, is cut."""


def pieces(text: str) -> list[str]:
    """The words, numbers, signs and spaces of a text in the form that records have. A literal value is a run of them.

    In scripts that put no spaces between words, each letter with its marks is a piece.
    """
    plain = as_in_records(text)
    if plain.isascii():
        found = _ASCII.findall(plain)
    else:
        whole, letters, spaceless = _patterns()
        found = [
            part
            for piece in whole.findall(plain)
            for part in (letters.findall(piece) if not piece.isascii() and spaceless.search(piece) else (piece,))
        ]
    return [piece[at : at + _LONGEST] for piece in found for at in range(0, len(piece), _LONGEST)]


def not_literal(answer: str, request: str, fields: Sequence[str]) -> Iterator[str]:
    """The paths of literal fields whose value does not stand in the request.

    Args:
        answer: a record in canonical form.
        fields: the literal ones (`tunewright.config.literal.literal_fields`).
    """
    text = _joined(pieces(request))
    for path, value in leaves(json.loads(answer)):
        if path in fields and _joined(pieces(value)) not in text:
            yield path


def _joined(parts: Sequence[str]) -> str:
    """A text in which only whole pieces are found."""
    return "\0".join(["", *parts, ""])


@cache
def _patterns() -> tuple[re2._Regexp, re2._Regexp, re2._Regexp]:
    """(any piece, the pieces of a run with letters that need no spaces, such a letter)."""
    import re2

    scripts = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    number, letter = r"\p{Nd}", r"\p{L}\p{Nl}\p{No}_"
    return (
        re2.compile(rf"[{number}]+|[{letter}][{letter}\p{{M}}]*|(?s:.)\p{{M}}*"),
        re2.compile(rf"[{scripts}]\p{{M}}*|[^{scripts}]+"),
        re2.compile(rf"[{scripts}]"),
    )
