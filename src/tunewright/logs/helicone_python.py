"""Values that were written with Python's `repr`, as Helicone's example script for exports does."""

from __future__ import annotations

from typing import Any

from tunewright.logs.python_texts import python_as_json
from tunewright.logs.values import parsed


def from_python(text: str) -> Any:
    """The value of a text that is a dict or a list in Python's form; None if it is none."""
    if text[:1] not in ("{", "["):
        return None
    value = parsed(python_as_json(text))
    return None if isinstance(value, str) else value
