"""Values that were written with Python's `repr`, as Helicone's example script for exports does.

`ast.literal_eval` is not used for whole texts: it takes memory and stack as the text pleases.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

# A quote that nothing closes takes the rest, so that the time grows with the length only.
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*(?:'|\Z)|"(?:[^"\\]|\\.)*(?:"|\Z)|\b(?:None|True|False)\b""", re.DOTALL)
_WORDS = {"None": "null", "True": "true", "False": "false"}


def from_python(text: str) -> Any:
    """The value of a text that is a dict or a list in Python's form; None if it is none."""
    if text[:1] not in ("{", "["):
        return None
    try:
        return json.loads(_TOKEN.sub(_as_json, text))
    except (ValueError, SyntaxError, RecursionError):
        return None


def _as_json(token: re.Match[str]) -> str:
    word = _WORDS.get(token[0])
    return word or json.dumps(ast.literal_eval(token[0]))
