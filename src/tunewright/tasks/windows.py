"""Long documents: cutting them into overlapping windows, and joining the records of the windows."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import prod
from typing import Any

from tunewright.tasks.measures import is_in, leaves

_OVERLAP = 8
"""A window repeats at least an eighth of the one before, so that no field is separated from its name."""
_LINE = 4
"""A line that fills more than a quarter of a window is cut too."""

Count = Callable[[str], int]
"""Counts the tokens of a text."""


def cut(text: str, max_tokens: int, count: Count) -> list[str]:
    """A text as overlapping windows, cut at line ends; the whole text if it is short enough.

    Args:
        max_tokens: of a window; at least 16.
    """
    return [text[start:end] for start, end in places(text, max_tokens, count)]


def places(text: str, max_tokens: int, count: Count) -> list[tuple[int, int]]:
    """(begin, end) of each window that `cut` makes."""
    # A byte is at most one token.
    if len(text.encode("utf-8", "surrogatepass")) <= max_tokens or count(text) <= max_tokens:
        return [(0, len(text))]
    lines = [piece for line in text.splitlines(keepends=True) for piece in _pieces(line, max_tokens // _LINE, count)]
    sizes = [count(line) for line in lines]
    begins = [0, *accumulate(map(len, lines))]
    windows, start = [], 0
    while True:
        end, size = start, 0
        while end < len(lines) and size + sizes[end] <= max_tokens:
            size += sizes[end]
            end += 1
        windows.append((begins[start], begins[end]))
        if end == len(lines):
            return windows
        back, shared = end, 0
        while back > start + 1 and shared < max_tokens // _OVERLAP:
            back -= 1
            shared += sizes[back]
        start = back


def _pieces(line: str, max_tokens: int, count: Count) -> Iterator[str]:
    """A line in pieces of at most `max_tokens`, cut at spaces if there are any."""
    if len(line) < 2 or count(line) <= max_tokens:
        yield line
        return
    middle = len(line) // 2
    space = line.rfind(" ", 0, middle) + 1 or middle
    yield from _pieces(line[:space], max_tokens, count)
    yield from _pieces(line[space:], max_tokens, count)


def divided(record: Mapping[str, Any], windows: Sequence[str]) -> list[dict[str, Any]]:
    """The part of a record that stands in each window.

    A value that stands in none of them goes to the first: the document may word it differently, or imply it as a whole.
    """
    parts: list[dict[str, Any]] = [{} for _ in windows]
    for name, value in record.items():
        if isinstance(value, list):
            for item in value:
                for part in _holders(item, parts, windows):
                    part.setdefault(name, []).append(item)
        else:
            for part in _holders(value, parts, windows):
                part[name] = value
    return parts


def _holders(value: Any, parts: list[dict[str, Any]], windows: Sequence[str]) -> list[dict[str, Any]]:
    for stands in (_word, is_in):
        holders = [part for part, window in zip(parts, windows, strict=True) if _mostly(value, window, stands)]
        if holders:
            return holders
    return parts[:1]


def _mostly(value: Any, window: str, stands: Callable[[str, str], bool]) -> bool:
    """Whether most of the texts within a value stand in a window."""
    texts = [text for _, text in leaves(value)]
    return 2 * sum(stands(text, window) for text in texts) > len(texts)


def _word(value: str, window: str) -> bool:
    """Whether a value stands in a window literally, except for line breaks, and not inside a longer word or number."""
    pattern = r"\s+".join(map(re.escape, value.split()))
    return re.search(rf"(?<!\w){pattern}(?!\w)", window, re.IGNORECASE) is not None


WindowRecord = tuple[Mapping[str, Any], Mapping[str, float]]
"""(a record, the confidence in the values at each path)."""


def joined(of_windows: Sequence[WindowRecord]) -> tuple[dict[str, Any], dict[str, float]]:
    """Join the records of a document's windows, in order, with the confidence in each value.

    A field takes the value with the highest confidence. Lists are concatenated; items that overlapping windows share
    are taken once.
    """
    whole: dict[str, Any] = {}
    taken: dict[str, dict[str, float]] = {}
    for record, fields in of_windows:
        for name, value in record.items():
            below = (f"{name}.", f"{name}[")
            own = {path: share for path, share in fields.items() if path == name or path.startswith(below)}
            if isinstance(value, list):
                whole[name] = _chained(whole.get(name, []), value)
                before = taken.get(name, {})
                taken[name] = {**before, **{path: min(share, before.get(path, 1.0)) for path, share in own.items()}}
            elif name not in whole or prod(own.values()) > prod(taken[name].values()):
                whole[name], taken[name] = value, own
    return whole, {path: share for each in taken.values() for path, share in each.items()}


def _chained(first: list[Any], second: list[Any]) -> list[Any]:
    """Concatenate two lists. The end of the first may be the beginning of the second."""
    shared = next((n for n in range(min(len(first), len(second)), 0, -1) if first[-n:] == second[:n]), 0)
    return [*first, *second[shared:]]
