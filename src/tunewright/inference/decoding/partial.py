"""What can be shown of an answer while it is written."""

from __future__ import annotations

import re
from collections.abc import Sequence

_LINE_END = re.compile(r"\r\n?")


class Shown:
    """What of a text that comes in pieces will stay as it is, whatever comes behind it.

    Nothing is shown that the answer's canonical form lacks, no half character, and not what may be the beginning of a
    text that ends it. Only what has not been shown yet is looked at.

    Args:
        stop: texts that end the answer.
    """

    def __init__(self, stop: Sequence[str]):
        self._stop = stop
        self._held = ""
        self.letters = 0
        """Those shown so far."""

    def add(self, piece: str) -> str:
        """What more can be shown with a further piece."""
        text = self._held + piece
        open_end = "\r" if text.endswith("\r") else ""  # a line feed may follow
        text = _LINE_END.sub("\n", text[: len(text) - len(open_end)])
        if not self.letters:
            text = text.lstrip()
        known = text.rstrip("\ufffd").rstrip()
        for each in self._stop:
            begun = next((size for size in range(len(each) - 1, 0, -1) if known.endswith(each[:size])), 0)
            known = known[: len(known) - begun].rstrip()
        self._held = text[len(known) :] + open_end
        self.letters += len(known)
        return known
