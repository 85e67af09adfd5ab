"""Quoting data to people: in findings, reports, reasons and logs."""

from __future__ import annotations

_READ = 5000
"""Characters that are looked at for personal data: far more than are ever shown."""


def shown(value: object, limit: int = 60) -> str:
    """The beginning of a value, on one line, personal data masked, signs that a terminal obeys left out."""
    from tunewright.pii import find_pii  # its patterns take long to compile, and most commands show nothing

    text = str(value)[:_READ]
    for span in reversed(find_pii(text)):
        text = f"{text[: span.start]}⟨{span.kind}⟩{text[span.end :]}"
    return shortened("".join(sign if sign.isprintable() else " " for sign in text), limit)


def shortened(text: str, limit: int) -> str:
    """A text on one line, its end cut off where it has more characters than that."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
