"""Unicode's normal forms in linear time, and the form that texts have in records."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Literal

from tunewright.core.limits import COMBINING_MARKS

ACCENTS = "".join(map(chr, range(0x300, 0x370)))
"""The marks of decomposed Latin, Greek and Cyrillic letters."""
_JOINER = "\u034f"
"""COMBINING GRAPHEME JOINER. Normalisation does not sort marks across it."""
_MARKS = range(0x300, 0x20000)
"""The range of all combining marks."""


def normalised(form: Literal["NFC", "NFKC"], text: str) -> str:
    """A text in a normal form. Joiners split runs of more than COMBINING_MARKS marks, because sorting a run takes
    quadratic time; real text has no such runs. Source: UAX #15, Stream-Safe Text Format."""
    # A longer run has a mark at one of these places.
    if not text.isascii() and any(map(unicodedata.combining, text[:: COMBINING_MARKS + 1])):
        # A letter can become several marks, so split the runs again.
        text = _parted(unicodedata.normalize("NFKD" if form == "NFKC" else "NFD", _parted(text)))
    return unicodedata.normalize(form, text)


def as_in_records(text: str) -> str:
    """A text in the form that records have: NFC, one space for any white space, none at its ends."""
    return " ".join(normalised("NFC", text).split())


def in_any_form(text: str) -> str:
    """A regular expression for a text in NFC, which finds it decomposed, too."""
    return "".join(map(_either, text))


def _either(letter: str) -> str:
    parts = unicodedata.normalize("NFD", letter)
    return re.escape(letter) if parts == letter else f"(?:{letter}|{parts})"


def _parted(text: str) -> str:
    return _long_run().sub(rf"\g<0>{_JOINER}", text)


@cache
def _long_run() -> re.Pattern[str]:
    mark = f"[{''.join(chr(code) for code in _MARKS if unicodedata.combining(chr(code)))}]"
    return re.compile(f"{mark}{{{COMBINING_MARKS}}}(?={mark})")
