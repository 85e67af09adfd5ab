"""Strict JSON: no NaN, no lone surrogates, a remark on repeated keys, limited nesting."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from tunewright.core.limits import JSON_DEPTH

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_FIX = "Export the file again, or delete that line."

Remark = tuple[str, str]
"""(code, reason) of a note."""


class JsonRefusal(Exception):
    """A text can't be used: a short code that never changes its meaning, and a sentence with the reason."""

    def __init__(self, code: str, reason: str):
        self.code, self.reason = code, reason
        super().__init__(reason)


JSON_FAULTS = (ValueError, RecursionError, JsonRefusal)
"""Everything that `StrictJson` raises."""


class StrictJson:
    """A parser for many rows. An ordinary row costs one call of the standard library's parser.

    Args:
        keys_once: refuse an object with a repeated key, instead of a remark.
    """

    def __init__(self, *, keys_once: bool = False) -> None:
        self._repeated: list[str] = []
        self._keys_once = keys_once
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=_refuse_constant, parse_float=_finite
        )

    def read(self, text: str) -> tuple[Any, list[Remark]]:
        """The value of a text, and the remarks on it.

        Raises:
            json.JSONDecodeError, ValueError, RecursionError, JsonRefusal: `described` turns them into a sentence.
        """
        self._repeated.clear()
        value = self._decoder.decode(text)
        return value, self._remarks(text, value)

    def read_at(self, text: str, start: int) -> tuple[Any, int, list[Remark]]:
        """The value that begins at `start`, its end, and the remarks. Raises as `read` does."""
        self._repeated.clear()
        value, end = self._decoder.raw_decode(text, start)
        return value, end, self._remarks(text[start:end], value)

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    if self._keys_once:
                        raise JsonRefusal("repeated-key", f"has the key {key[:80]!r} in an object twice.")
                    self._repeated.append(key)
                seen.add(key)
        return result

    def _remarks(self, text: str, value: Any) -> list[Remark]:
        if text.count("[") + text.count("{") > JSON_DEPTH and depth_of(value) > JSON_DEPTH:
            raise RecursionError
        remarks = []
        if self._repeated:
            names = ", ".join(repr(key) for key in dict.fromkeys(self._repeated))
            remarks.append(("repeated-key", f"The key {names} is repeated in an object; the last value counts."))
        if "\\u" in text:
            if _SURROGATE.search(text):
                # Raises UnicodeEncodeError, a ValueError, if there is a lone surrogate.
                json.dumps(value, ensure_ascii=False).encode()
            if "\\u0000" in text:
                remarks.append(("nul", "The row contains a NUL character (\\u0000), which is kept."))
        return remarks


def described(error: Exception, what: str = "This line", fix: str = _FIX) -> JsonRefusal:
    """The reason why `StrictJson` refused a text, for all errors except syntax errors.

    Args:
        what: the subject of the sentence.
        fix: the advice at its end.
    """
    if isinstance(error, JsonRefusal):
        return JsonRefusal(error.code, f"{what} {error.reason}")
    if isinstance(error, UnicodeEncodeError):
        lone = f"U+{ord(error.object[error.start]):04X}"
        return JsonRefusal("surrogate", f"{what} contains a lone surrogate ({lone}), which is not a character. {fix}")
    if isinstance(error, RecursionError):
        return JsonRefusal("nesting", f"{what} is nested more than {JSON_DEPTH} levels deep. {fix}")
    return JsonRefusal("number", f"{what} contains an integer of thousands of digits; write it as text. {fix}")


def _refuse_constant(name: str) -> Any:
    raise JsonRefusal("nan", f"contains {name}, which JSON does not have; write null or leave the key out.")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise JsonRefusal("nan", f"contains the number {digits[:40]}, which is too large.")
    return value


def depth_of(value: Any) -> int:
    """Levels of nesting, counted without recursion."""
    level, depth = [value], 0
    while level:
        inner: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, list):
                inner += each
        depth, level = depth + 1, inner
    return depth - 1
