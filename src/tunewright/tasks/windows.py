"""Documents that are longer than a model reads at once: cut into overlapping windows, and what is read there joined."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from math import prod
from typing import Any

from tunewright.tasks.measures import is_in, leaves

_OVERLAP = 8
"""A window begins with at least an eighth of the one before it, so that no field is parted from what names it."""
_LINE = 4
"""A line that fills more than a quarter of a window is cut itself."""

Count = Callable[[str], int]
"""Tokens of a text."""


def cut(text: str, most: int, count: Count) -> list[str]:
    """A text as overlapping windows of at most `most` tokens, cut at line ends; the text itself where it is no longer.

    Args:
        most: at least 16.
    """
    return [text[start:end] for start, end in places(text, most, count)]


def places(text: str, most: int, count: Count) -> list[tuple[int, int]]:
    """Where each window of a text begins and ends, as `cut` makes them."""
    if len(text.encode("utf-8", "surrogatepass")) <= most or count(text) <= most:  # a byte is at most one token
        return [(0, len(text))]
    lines = [piece for line in text.splitlines(keepends=True) for piece in _pieces(line, most // _LINE, count)]
    sizes = [count(line) for line in lines]
    begins = [0, *accumulate(map(len, lines))]
    windows, start = [], 0
    while True:
        end, size = start, 0
        while end < len(lines) and size + sizes[end] <= most:
            size += sizes[end]
            end += 1
        windows.append((begins[start], begins[end]))
        if end == len(lines):
            return windows
        back, shared = end, 0
        while back > start + 1 and shared < most // _OVERLAP:
            back -= 1
            shared += sizes[back]
        start = back


def _pieces(line: str, most: int, count: Count) -> Iterator[str]:
    """A line in pieces of at most `most` tokens, cut at spaces where there are any."""
    if len(line) < 2 or count(line) <= most:
        yield line
        return
    middle = len(line) // 2
    space = line.rfind(" ", 0, middle) + 1 or middle
    yield from _pieces(line[:space], most, count)
    yield from _pieces(line[space:], most, count)


def divided(record: Mapping[str, Any], windows: Sequence[str]) -> list[dict[str, Any]]:
    """For each window the part of a record that stands in it.

    What stands in none, because it is written otherwise there or is said by the whole, belongs to the first.
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
        found = [part for part, window in zip(parts, windows, strict=True) if _mostly(value, window, stands)]
        if found:
            return found
    return parts[:1]


def _mostly(value: Any, window: str, stands: Callable[[str, str], bool]) -> bool:
    """Whether most of the values in a value stand in a window."""
    texts = [text for _, text in leaves(value)]
    return 2 * sum(stands(text, window) for text in texts) > len(texts)


def _word(value: str, window: str) -> bool:
    """Whether a value stands there as it is, line breaks aside, and not within a longer word or number."""
    pattern = r"\s+".join(map(re.escape, value.split()))
    return re.search(rf"(?<!\w){pattern}(?!\w)", window, re.IGNORECASE) is not None


Read = tuple[Mapping[str, Any], Mapping[str, float]]
"""A record, and the confidence in the values at each path."""


def joined(read: Sequence[Read]) -> tuple[dict[str, Any], dict[str, float]]:
    """The record of a document from those of its windows, in order, with the confidences in what was taken.

    Of each field the value that the model is surest of; lists one behind the other, without what stands in two windows
    because they overlap.
    """
    whole: dict[str, Any] = {}
    taken: dict[str, dict[str, float]] = {}
    for record, fields in read:
        for name, value in record.items():
            below = (f"{name}.", f"{name}[")
            sure = {path: share for path, share in fields.items() if path == name or path.startswith(below)}
            if isinstance(value, list):
                whole[name] = _chained(whole.get(name, []), value)
                before = taken.get(name, {})
                taken[name] = {**before, **{path: min(share, before.get(path, 1.0)) for path, share in sure.items()}}
            elif name not in whole or prod(sure.values()) > prod(taken[name].values()):
                whole[name], taken[name] = value, sure
    return whole, {path: share for each in taken.values() for path, share in each.items()}


def _chained(first: list[Any], second: list[Any]) -> list[Any]:
    """Two lists, the end of one of which may be the beginning of the other."""
    shared = next((n for n in range(min(len(first), len(second)), 0, -1) if first[-n:] == second[:n]), 0)
    return [*first, *second[shared:]]
