"""Unicode's normal forms in time that grows with the text."""

from __future__ import annotations

import re
import unicodedata
from functools import cache
from typing import Literal

from tunewright.core.limits import COMBINING_MARKS

_JOINER = "\u034f"
"""COMBINING GRAPHEME JOINER, which marks are not sorted across."""
_MARKS = range(0x300, 0x20000)
"""Where all combining marks lie."""


def normalised(form: Literal["NFC", "NFKC"], text: str) -> str:
    """A text in a normal form. Marks in a row beyond COMBINING_MARKS are parted by joiners, because sorting them takes
    time that grows with the square of the run; real text has no such runs. Source: UAX #15, Stream-Safe Text Format."""
    # A longer run has a mark at one of these places.
    if not text.isascii() and any(map(unicodedata.combining, text[:: COMBINING_MARKS + 1])):
        # A letter can become several marks, so runs are looked for again.
        text = _parted(unicodedata.normalize("NFKD" if form == "NFKC" else "NFD", _parted(text)))
    return unicodedata.normalize(form, text)


def _parted(text: str) -> str:
    return _long_run().sub(rf"\g<0>{_JOINER}", text)


@cache
def _long_run() -> re.Pattern[str]:
    mark = f"[{''.join(chr(code) for code in _MARKS if unicodedata.combining(chr(code)))}]"
    return re.compile(f"{mark}{{{COMBINING_MARKS}}}(?={mark})")
