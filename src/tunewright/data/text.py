"""When two texts count as the same."""

from __future__ import annotations


def normal(text: str) -> str:
    """A text without the differences of case and spacing that don't make it another one."""
    return " ".join(text.casefold().split())
