"""Long documents: cutting them into overlapping windows, and joining the records of the windows."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from math import prod
from typing import Any

from tunewright.tasks.measures import is_in, leaves
from tunewright.tasks.normal import ACCENTS, as_in_records, in_any_form
from tunewright.tasks.record_form import RecordForm, is_absent

_OVERLAP = 8
"""A window repeats at least an eighth of the one before, so that no field is separated from its name."""
_LINE = 4
"""A line that fills more than a quarter of a window is cut too."""

_WORD = rf"[\w{ACCENTS}]"
_IN_NUMBER = r"(?<=\d)[.,'’]\d|(?<=\d[.,'’])\d"
"""A place within a number such as 1,234.50."""

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


def divided(
    record: Mapping[str, Any], windows: Sequence[str], apart: Collection[str] = frozenset()
) -> list[dict[str, Any]]:
    """The part of a record that stands in each window.

    A value that stands in none of them goes to the windows that have most of the object around it, or else to the
    first: the document may word it differently, or imply it as a whole.

    Args:
        apart: the paths of objects of which each window has its own fields (`RecordForm.apart`); any other object is
            taken as a whole.
    """
    return _Division(windows, apart).of(record, "", [0])


class _Division:
    """Divides the values of a record among the windows of its text, which are called by their numbers."""

    def __init__(self, windows: Sequence[str], apart: Collection[str]):
        self._windows, self._apart = windows, apart

    def of(self, value: Mapping[str, Any], above: str, otherwise: Sequence[int]) -> list[dict[str, Any]]:
        """The part of an object that stands in each window.

        Args:
            above: the object's path with a point behind it; empty for the record.
            otherwise: the windows that take what stands in none.
        """
        parts: list[dict[str, Any]] = [{} for _ in self._windows]
        for name, each in value.items():
            path = f"{above}{name}"
            if isinstance(each, list):
                for item in each:
                    for number in self._holders(item, otherwise):
                        parts[number].setdefault(name, []).append(item)
            elif path in self._apart and isinstance(each, Mapping) and each:
                inner = self.of(each, f"{path}.", self._holders(each, otherwise))
                for part, found in zip(parts, inner, strict=True):
                    if not all(map(is_absent, found.values())):
                        part[name] = found
            else:
                for number in self._holders(each, otherwise):
                    parts[number][name] = each
        return parts

    def _holders(self, value: Any, otherwise: Sequence[int]) -> Sequence[int]:
        """The windows in which a value stands."""
        for stands in (_word, is_in):
            if holders := [number for number, text in enumerate(self._windows) if _mostly(value, text, stands)]:
                return holders
        return otherwise


def _mostly(value: Any, window: str, stands: Callable[[str, str], bool]) -> bool:
    """Whether most of the texts within a value stand in a window."""
    texts = [text for _, text in leaves(value)]
    return 2 * sum(stands(text, window) for text in texts) > len(texts)


def _word(value: str, window: str) -> bool:
    """Whether a value stands in a window literally, except for line breaks, and not inside a longer word or number."""
    pattern = r"\s+".join(map(in_any_form, as_in_records(value).split()))
    whole = rf"(?<!{_WORD})(?!{_IN_NUMBER}){pattern}(?!{_WORD}|{_IN_NUMBER})"
    return re.search(whole, window, re.IGNORECASE) is not None


WindowRecord = tuple[Mapping[str, Any], Mapping[str, float]]
"""(a record, the confidence in the values at each path)."""


def joined(of_windows: Sequence[WindowRecord], form: RecordForm) -> tuple[dict[str, Any], dict[str, float]]:
    """Join the records of a document's windows, in order, with the confidence in each value.

    A field takes the value with the highest confidence, also within objects; a window without a value says nothing
    about it. An object for which the schema has several forms is taken as a whole, because their fields do not go
    together. Lists are concatenated; items that overlapping windows share are taken once. If a field may be one value
    or a list, several values make a list.

    Args:
        form: the form of the whole record.
    """
    joining = _Joining(form)
    for record, fields in of_windows:
        joining.add(record, fields)
    return joining.record, joining.fields


def lacking(
    record: Mapping[str, Any], whole: Mapping[str, Any], apart: Collection[str], above: str = ""
) -> dict[str, Any]:
    """The fields of a whole record that a joined one lacks, also within the objects of which each window has its own
    fields.

    Args:
        apart: see `divided`.
        above: the path of these objects with a point behind it; empty for the records.
    """
    absent: dict[str, Any] = {}
    for name, value in whole.items():
        path, known = f"{above}{name}", record.get(name)
        if name not in record:
            absent[name] = value
        elif path in apart and isinstance(known, Mapping) and (inner := lacking(known, value, apart, f"{path}.")):
            absent[name] = inner
    return absent


class _Joining:
    """The record of the windows so far, and the confidence in the values at each path."""

    def __init__(self, form: RecordForm):
        self.record: dict[str, Any] = {}
        self.fields: dict[str, float] = {}
        self._shapes = form.shapes

    def add(self, record: Mapping[str, Any], fields: Mapping[str, float]) -> None:
        """Add the record of the next window."""
        self._into(self.record, record, fields, "")

    def _into(self, whole: dict[str, Any], value: Mapping[str, Any], fields: Mapping[str, float], above: str) -> None:
        """Add an object of the next window to the same object so far.

        Args:
            above: the object's path with a point behind it; empty for the record.
        """
        for name, new in value.items():
            path, old = f"{above}{name}", whole.get(name)
            if name in whole and is_absent(new):
                continue
            if (
                isinstance(new, Mapping)
                and self._shapes[path, "object"] < 2
                and (isinstance(old, Mapping) or is_absent(old))
            ):
                whole[name] = old if isinstance(old, Mapping) else self._kept(path, {}, {})
                self._into(whole[name], new, fields, f"{path}.")
            else:
                whole[name] = self._kept(path, *self._of_both(path, old, new, _at(fields, path)))

    def _of_both(self, path: str, old: Any, new: Any, sure: dict[str, float]) -> tuple[Any, dict[str, float]]:
        """(the value of a field that has the values `old` and `new`, the confidence in it).

        Args:
            sure: the confidence in `new`.
        """
        before = _at(self.fields, path)
        if is_absent(old):
            return new, sure
        if isinstance(old, list) or isinstance(new, list) or (self._shapes[path, "array"] and old != new):
            before, sure = _of_items(path, old, before), _of_items(path, new, sure)
            least = {each: min(share, before.get(each, 1.0)) for each, share in sure.items()}
            return _chained(_items(old), _items(new)), {**before, **least}
        return (new, sure) if prod(sure.values()) > prod(before.values()) else (old, before)

    def _kept(self, path: str, value: Any, sure: Mapping[str, float]) -> Any:
        """A value, after its confidence was kept in the place of what was known at its path."""
        for gone in _at(self.fields, path).keys() - sure.keys():
            del self.fields[gone]
        self.fields.update(sure)
        return value


def _at(fields: Mapping[str, float], path: str) -> dict[str, float]:
    """The confidence in the values at a path and below it."""
    below = (f"{path}.", f"{path}[")
    return {each: share for each, share in fields.items() if each == path or each.startswith(below)}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _of_items(path: str, value: Any, fields: Mapping[str, float]) -> dict[str, float]:
    """The confidence in a field's values if it is a list: a value that is none becomes its item."""
    if isinstance(value, list):
        return dict(fields)
    return {f"{path}[]{each.removeprefix(path)}": share for each, share in fields.items()}


def _chained(first: list[Any], second: list[Any]) -> list[Any]:
    """Concatenate two lists. The end of the first may be the beginning of the second."""
    shared = next((n for n in range(min(len(first), len(second)), 0, -1) if first[-n:] == second[:n]), 0)
    return [*first, *second[shared:]]
