"""The label or record in an answer's text."""

from __future__ import annotations

import json


def record_in(text: str) -> dict[str, object] | None:
    """The JSON object that a text is; None: it is none."""
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def label_in(text: str, key: str | None) -> str | None:
    """The label in an answer's text; None: there is none.

    Args:
        key: the only key of the record that holds it; None: the text is the label.
    """
    if key is None:
        return text.strip() or None
    value = (record_in(text.strip()) or {}).get(key)
    return value if isinstance(value, str) else None
