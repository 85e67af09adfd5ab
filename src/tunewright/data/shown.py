"""Quoting data to people: in findings, reports, reasons and logs."""

from __future__ import annotations

_READ = 5000
"""Characters searched for personal data: far more than anything shows."""


def shown(value: object, limit: int = 60) -> str:
    """The beginning of a value on one line, with personal data masked and control characters left out."""
    from tunewright.pii import find_pii  # compiling its patterns takes long, and most commands quote nothing

    text = str(value)[:_READ]
    for span in reversed(find_pii(text)):
        text = f"{text[: span.start]}⟨{span.kind}⟩{text[span.end :]}"
    return shortened("".join(character if character.isprintable() else " " for character in text), limit)


def label_shown(value: str) -> str:
    """A label in quotes, with one blank where it begins or ends with some: they may be what tells it from another."""
    return f"'{' ' * value[:1].isspace()}{shown(value)}{' ' * value[-1:].isspace()}'"


def shortened(text: str, limit: int) -> str:
    """A text on one line, cut off after `limit` characters."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
