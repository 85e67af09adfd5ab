"""Regular expressions from users, run by RE2, whose time grows only linearly with the text, whatever the expression.

They match anywhere in a text, as in JSON Schema. One thing differs: `\\d`, `\\w` and `\\s` match the digits, letters
and spaces of every script, because the grammar that confines answers does so too.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from tunewright.core.limits import PATTERN_LENGTH, PATTERN_MEMORY

if TYPE_CHECKING:
    import re2

_TOKEN = re.compile(r"\\u\{[0-9A-Fa-f]{1,6}\}|\\u[0-9A-Fa-f]{4}|\\.|\[:\^?\w+:\]|.", re.DOTALL)
_SPACES = r"\t-\r \x{85}\x{a0}\x{1680}\x{2000}-\x{200a}\x{2028}\x{2029}\x{202f}\x{205f}\x{3000}"
_NO_SPACES = (
    r"\x{0}-\x{8}\x{e}-\x{1f}!-\x{84}\x{86}-\x{9f}\x{a1}-\x{167f}\x{1681}-\x{1fff}\x{200b}-\x{2027}\x{202a}-\x{202e}"
    r"\x{2030}-\x{205e}\x{2060}-\x{2fff}\x{3001}-\x{10ffff}"
)
_CLASSES = {
    r"\d": r"\p{Nd}",
    r"\D": r"\P{Nd}",
    r"\w": r"\p{L}\p{M}\p{N}\p{Pc}",
    r"\W": r"\p{C}\p{S}\p{Z}\p{Pd}\p{Ps}\p{Pe}\p{Pi}\p{Pf}\p{Po}",
    r"\s": _SPACES,
    r"\S": _NO_SPACES,
}
"""RE2's form of each class inside brackets."""


class Unusable(ValueError):
    """An expression can't be used; the message says why."""


@lru_cache(maxsize=256)
def compiled(pattern: str) -> re2._Regexp:
    """The compiled expression.

    Raises:
        Unusable: RE2 can't run it (look-around, back-reference, more than 1,000 repetitions), or it is too long.
    """
    import re2

    if len(pattern) > PATTERN_LENGTH:
        raise Unusable(f"it is longer than {PATTERN_LENGTH:,} characters")
    options = re2.Options()
    options.max_mem, options.log_errors, options.never_capture = PATTERN_MEMORY, False, True
    try:
        return re2.compile(_of_re2(pattern), options)
    except (re2.error, UnicodeEncodeError) as error:
        reason = error.args[0] if error.args else ""
        raise Unusable(reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(error)) from None


def is_found(pattern: str, text: str) -> bool:
    """Whether an expression matches anywhere in a text.

    Raises:
        Unusable: as `compiled`.
    """
    # UTF-8 has no lone surrogates, and no expression can name one.
    return compiled(pattern).search(text.encode("utf-8", "replace")) is not None


def _of_re2(pattern: str) -> str:
    """Translate an expression from ECMA-262 to RE2's syntax."""
    inside, opened = False, 0
    translated: list[str] = []
    for number, token in enumerate(_TOKEN.findall(pattern)):
        if token.startswith(r"\u"):
            token = rf"\x{{{token[2:].strip('{}')}}}"
        elif token in _CLASSES:
            token = _CLASSES[token] if inside else f"[{_CLASSES[token]}]"
        elif token == "[" and not inside:
            inside, opened = True, number
        elif token == "]" and inside and "".join(translated[opened + 1 :]) not in ("", "^"):
            inside = False
        translated.append(token)
    return "".join(translated)
