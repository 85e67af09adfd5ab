"""JSON as its standard has it: no NaN, no half surrogates, repeated keys remarked on, nesting limited."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from tunewright.core.limits import JSON_DEPTH

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_AGAIN = "Export the file again, or delete that line."

Remark = tuple[str, str]
"""(code, reason) of a note."""


class JsonRefusal(Exception):
    """Why a text from outside can't be used: a short kind that never changes its meaning, and a sentence."""

    def __init__(self, code: str, reason: str):
        self.code, self.reason = code, reason
        super().__init__(reason)


JSON_FAULTS = (ValueError, RecursionError, JsonRefusal)
"""All that `StrictJson` raises."""


class StrictJson:
    """A parser to be used for many rows. The usual row costs one call of the standard library's.

    Args:
        keys_once: refuse an object with a key that stands in it twice, in place of remarking on it.
    """

    def __init__(self, *, keys_once: bool = False) -> None:
        self._repeated: list[str] = []
        self._keys_once = keys_once
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=_refuse_constant, parse_float=_finite
        )

    def read(self, text: str) -> tuple[Any, list[Remark]]:
        """The value of a whole text.

        Raises:
            json.JSONDecodeError, ValueError, RecursionError, Refusal: see `described`, which completes the sentence.
        """
        self._repeated.clear()
        value = self._decoder.decode(text)
        return value, self._remarks(text, value)

    def read_at(self, text: str, start: int) -> tuple[Any, int, list[Remark]]:
        """The value that begins at `start`, where it ends, and the remarks. Raises as `read` does."""
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
            remarks.append(("repeated-key", f"The key {names} stands twice in an object; the last value counts."))
        if "\\u" in text:
            if _SURROGATE.search(text):
                # Raises UnicodeEncodeError, a ValueError, where half of a pair is left.
                json.dumps(value, ensure_ascii=False).encode()
            if "\\u0000" in text:
                remarks.append(("nul", "The row holds a NUL character (\\u0000), which is kept."))
        return remarks


def described(error: Exception, what: str = "This line", again: str = _AGAIN) -> JsonRefusal:
    """Why `StrictJson` refused a text, for all errors but those of syntax.

    Args:
        what: what was read, as the beginning of a sentence.
        again: what to do about it.
    """
    if isinstance(error, JsonRefusal):
        return JsonRefusal(error.code, f"{what} {error.reason}")
    if isinstance(error, UnicodeEncodeError):
        half = f"U+{ord(error.object[error.start]):04X}"
        return JsonRefusal(
            "surrogate", f"{what} holds half of a surrogate pair ({half}), which is no character. {again}"
        )
    if isinstance(error, RecursionError):
        return JsonRefusal("nesting", f"{what} is nested more than {JSON_DEPTH} levels deep. {again}")
    return JsonRefusal("number", f"{what} holds a whole number of thousands of digits; write it as text. {again}")


def _refuse_constant(name: str) -> Any:
    raise JsonRefusal("nan", f"holds {name}, which JSON has no number for; write null or leave the key out.")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise JsonRefusal("nan", f"holds the number {digits[:40]}, which is too large.")
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
