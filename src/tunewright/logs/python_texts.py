"""Texts that Python's `repr` or `str` wrote where JSON was wanted.

`ast.literal_eval` is not used: it takes memory and stack as the text pleases.
"""

from __future__ import annotations

import json
import re

_LITERAL = re.compile(
    r"""'(?:[^'\\]|\\.)*+(?:'|\\?\Z)|"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|\b(?:None|True|False)\b""", re.DOTALL
)
"""An open text matches up to the end, so that each letter is looked at once."""
_ESCAPE = re.compile(
    r"\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U(00(?:0[\da-fA-F]|10)[\da-fA-F]{4})|([0-7]{1,3})|(.))",
    re.DOTALL | re.ASCII,
)
_ESCAPED = {
    **{"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"},
    **{"'": "'", '"': '"', "\\": "\\", "\n": ""},
}
_CONSTANTS = {"None": "null", "True": "true", "False": "false"}


def python_as_json(text: str) -> str:
    """A text with Python's literals as JSON has them. If it is none of Python's, the result need not be JSON."""
    return _LITERAL.sub(_as_json, text)


def _as_json(literal: re.Match[str]) -> str:
    shown = literal[0]
    if shown in _CONSTANTS:
        return _CONSTANTS[shown]
    return json.dumps(_ESCAPE.sub(_meant, shown[1:-1]))


def _meant(escape: re.Match[str]) -> str:
    if code := escape[1] or escape[2] or escape[3]:
        return chr(int(code, 16))
    if octal := escape[4]:
        return chr(int(octal, 8))
    return _ESCAPED.get(escape[5], escape[0])
