"""Finds the piece of a text that each value of a record comes from.

A value may stand at several places. The right place is the one that looks most like the places of the field's other
values. Naive Bayes scores the surroundings of each place: the words beside it, how its line begins, how far down it is.
It learns from all values at once which of their places are right (expectation maximisation). Equally likely places go
by their order. Training ignores the other places of a value, because they may be right too.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from tunewright.tasks.example import Example
from tunewright.tasks.measures import leaves
from tunewright.tasks.normal import ACCENTS
from tunewright.tasks.spans.fields import Field
from tunewright.tasks.spans.habits import Habits
from tunewright.tasks.spans.readings import NAMES, SPELT, is_in_one_case, pieces, read, spelling_of
from tunewright.tasks.windows import divided

ROUNDS = 5
"""Rounds of expectation maximisation."""
LEAST = 3
"""Values that must need a reading before a field gets it; fewer are too little to learn from."""
_NEVER = 60
"""Values that are enough to know what a field's values never do, if none does it. If one value in twenty did it, 95 %
of such fields would show it."""
_JOINED = re.compile(r"(?<=\d)[.,:/'-](?=\d)")
"""A sign between the digits of a number, a date or a time."""
_ONE_CASE = 0.05
"""The most of a field's different values that are in one case, for the others to be spelt."""
_SMOOTH = 0.5


@dataclass(frozen=True)
class ValueSpan:
    """The piece of a text that a value comes from."""

    start: int
    end: int
    """The character after its last."""
    path: str
    reading: str


@dataclass(frozen=True)
class Aligned:
    """The places of a record's values in its text."""

    spans: tuple[ValueSpan, ...]
    """The values' places, in the order of the text, without overlaps."""
    others: tuple[tuple[int, int], ...]
    """Other places with the same values, which may or may not be right."""
    lost: tuple[str, ...]
    """The fields of values that have no place, or only places of other values."""


@dataclass
class _Value:
    """A value to place: its field, and the readings of each possible place."""

    path: str
    places: dict[tuple[int, int], tuple[str, ...]]
    cues: dict[tuple[int, int], list[str]] = field(default_factory=dict)


def whole(text: str, at: int) -> bool:
    """Whether a piece may begin or end at a place: not inside a word, a letter with its marks, or a number."""
    if not 0 < at < len(text):
        return True
    if text[at] in ACCENTS:
        return False
    last = at - 1
    while last and text[last] in ACCENTS:
        last -= 1
    before, after = text[last], text[at]
    return not ((before.isalpha() and after.isalpha()) or (before.isdigit() and after.isdigit()))


@lru_cache(maxsize=4)
def joints(text: str) -> frozenset[int]:
    """The places beside signs that join digits, as in 12.50 or 03/04/18. A piece that begins or ends there cuts a
    number."""
    return frozenset(at for sign in _JOINED.finditer(text) for at in sign.span())


class Aligner:
    """Learns from examples which readings each field needs and which places of its values are right.

    Args:
        fields: the fields whose values come from the text.
    """

    def __init__(self, fields: Sequence[Field], examples: Sequence[Example]):
        self._fields = {each.path: each for each in fields}
        self._seen: dict[str, Counter[str]] = defaultdict(Counter)
        """For each field, how often each cue was beside a right place."""
        self._around: dict[str, Counter[str]] = defaultdict(Counter)
        """For each field, how often each cue was beside any place."""
        self._readings: dict[str, tuple[str, ...]] = {}
        self._spellings = _spellings(fields, examples)
        """The spelling of each field that may be spelt."""
        self._one_line: set[str] = set()
        self._whole_numbers: set[str] = set()
        values = [(example.request, value) for example in examples for value in self._values(example)[0]]
        self._readings = _needed([value for _, value in values])
        for text, value in values:
            value.places = self._readable(value)
            value.cues = {place: cues(text, place) for place in value.places}
        self._learn([value for _, value in values if value.places])
        self._one_line = _never(values, lambda text, start, end: "\n" in text[start:end])
        self._whole_numbers = _never(values, _cuts_number)

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """(field, reading) of all possible spans, in the fields' order."""
        return [(path, name) for path in self._fields for name in self._readings.get(path, ())]

    @property
    def habits(self) -> Habits:
        """What the examples' values have in common."""
        return Habits(
            spellings={path: self._spellings[path] for path, name in self.kinds if name == SPELT},
            one_line=tuple(sorted(self._one_line)),
            whole_numbers=tuple(sorted(self._whole_numbers)),
        )

    def align(self, example: Example) -> Aligned:
        """Find the places of an example's values in its text."""
        values, absent = self._values(example)
        lost, taken, others = list(absent), dict[tuple[int, int], ValueSpan](), list[tuple[int, int]]()
        for value in values:
            value.places = self._readable(value)
        for value in sorted(values, key=lambda value: len(value.places)):
            free = [place for place in value.places if not any(_overlap(place, each) for each in taken)]
            if not free:
                lost.append(value.path)
                continue
            best = max(free, key=lambda place: (self._score(value.path, cues(example.request, place)), -place[0]))
            taken[best] = ValueSpan(*best, value.path, value.places[best][0])
            others += free
        beside = {place for place in others if not any(_overlap(place, each) for each in taken)}
        return Aligned(tuple(taken[place] for place in sorted(taken)), tuple(sorted(beside)), tuple(lost))

    def _values(self, example: Example) -> tuple[list[_Value], list[str]]:
        """(the values that have a place in the text, the fields of those that have none)."""
        record, values, absent = json.loads(example.answer), [], []
        for path, each in self._fields.items():
            for value in each.among(record):
                places: dict[tuple[int, int], list[str]] = {}
                ((_, as_text),) = leaves(value)
                text, spelling = example.request, self._spellings.get(path, {})
                for start, end, reading in pieces(as_text, text, spelling):
                    if reading == SPELT and path not in self._spellings:
                        continue
                    if path in self._one_line and "\n" in text[start:end]:
                        continue
                    if path in self._whole_numbers and _cuts_number(text, start, end):
                        continue
                    piece = read(reading, text[start:end], spelling)
                    if whole(text, start) and whole(text, end) and piece is not None and each.fit(piece) == value:
                        places.setdefault((start, end), []).append(reading)
                if places:
                    values.append(_Value(path, {place: tuple(names) for place, names in places.items()}))
                else:
                    absent.append(path)
        return values, absent

    def _readable(self, value: _Value) -> dict[tuple[int, int], tuple[str, ...]]:
        """The places where a reading of the field gives the value, with these readings, the commonest first."""
        known = self._readings.get(value.path, ())
        readable = {place: tuple(name for name in known if name in names) for place, names in value.places.items()}
        return {place: names for place, names in readable.items() if names}

    def _learn(self, values: Sequence[_Value]) -> None:
        for value in values:
            for around in value.cues.values():
                self._around[value.path].update(around)
        for _ in range(ROUNDS):
            seen: dict[str, Counter[str]] = defaultdict(Counter)
            for value in values:
                scores = [self._score(value.path, around) for around in value.cues.values()]
                shares = [math.exp(score - max(scores)) for score in scores]
                for share, around in zip(shares, value.cues.values(), strict=True):
                    for cue in around:
                        seen[value.path][cue] += share / sum(shares)  # type: ignore[assignment]
            self._seen = seen

    def _score(self, path: str, place_cues: Sequence[str]) -> float:
        seen, around = self._seen[path], self._around[path]
        return sum(math.log((seen[cue] + _SMOOTH) / (around[cue] + 2 * _SMOOTH)) for cue in place_cues)


def within(aligned: Aligned, start: int, end: int) -> Aligned:
    """The aligned values within a window of the text. Training ignores values that the window cuts."""
    spans, others = [], []
    for span in aligned.spans:
        if start <= span.start and span.end <= end:
            spans.append(ValueSpan(span.start - start, span.end - start, span.path, span.reading))
        elif span.start < end and start < span.end:
            others.append((max(span.start, start) - start, min(span.end, end) - start))
    for first, last in aligned.others:
        if first < end and start < last:
            others.append((max(first, start) - start, min(last, end) - start))
    return Aligned(tuple(spans), tuple(others), aligned.lost)


def records(
    fields: Sequence[Field],
    habits: Habits,
    record: Mapping[str, Any],
    parts: Sequence[Aligned],
    windows: Sequence[str],
) -> list[dict[str, Any]]:
    """The part of a record that belongs to each window. Values that the schema offers are divided by
    `tunewright.tasks.windows.divided`."""
    of_windows: list[dict[str, Any]] = []
    apart = {path for each in fields for path in each.form.apart}
    for part, window, rest in zip(parts, windows, divided(record, windows, apart), strict=True):
        of_window: dict[str, Any] = {}
        for each in fields:
            if each.choices:
                values = each.among(rest)
            else:
                found = (
                    read(span.reading, window[span.start : span.end], habits.spellings.get(each.path, {}))
                    for span in part.spans
                    if span.path == each.path
                )
                values = [each.fit(value) for value in found if value is not None]
            if values:
                several = each.listed and (len(values) > 1 or not each.single)
                each.put(of_window, values if several else values[0])
        of_windows.append(of_window)
    return of_windows


def cues(text: str, place: tuple[int, int]) -> list[str]:
    """The surroundings of a piece of a text, as features."""
    start, end = place
    lines = text.splitlines(keepends=True) or [""]
    number, begun = 0, 0
    while number < len(lines) - 1 and begun + len(lines[number]) <= start:
        begun += len(lines[number])
        number += 1
    before, behind = _words(text[max(0, start - 60) : start]), _words(text[end : end + 40])
    line = _words(text[begun:start])
    height = f"line {min(number, 5)}" if number < len(lines) / 2 else f"line -{min(len(lines) - number, 5)}"
    return [
        f"before {before[-1] if before else '^'}",
        f"before {' '.join(before[-2:]) or '^'}",
        f"behind {behind[0] if behind else '$'}",
        f"line {line[0] if line else '^'}",
        f"above {' '.join(_words(lines[number - 1])[-2:]) if number else '^'}",
        height,
    ]


def _words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]+", text.casefold())


def _spellings(fields: Sequence[Field], examples: Sequence[Example]) -> dict[str, dict[str, str]]:
    """The spelling of each field that may be spelt.

    Where values are in one case themselves (codes, acronyms), a piece in one case is one of these, and not a name in
    other letters.
    """
    texts: dict[str, list[str]] = {each.path: [] for each in fields}
    for example in examples:
        record = json.loads(example.answer)
        for each in fields:
            texts[each.path] += [value for value in each.among(record) if isinstance(value, str)]
    different = {path: set(values) for path, values in texts.items()}
    return {
        path: spelling_of(texts[path])
        for path, values in different.items()
        if sum(map(is_in_one_case, values)) <= _ONE_CASE * len(values)
    }


def _cuts_number(text: str, start: int, end: int) -> bool:
    return not joints(text).isdisjoint((start, end))


def _never(values: Iterable[tuple[str, _Value]], does: Callable[[str, int, int], bool]) -> set[str]:
    """The fields of which no value, at any of its places, does what the values of others do.

    Args:
        values: (text, value).
        does: text, first character and the one after the last of a place -> whether a value there does it.
    """
    counts: dict[str, Counter[bool]] = defaultdict(Counter)
    for text, value in values:
        if value.places:
            counts[value.path][all(does(text, start, end) for start, end in value.places)] += 1
    return {path for path, count in counts.items() if count[False] >= _NEVER and not count[True]}


def _needed(values: Sequence[_Value]) -> dict[str, tuple[str, ...]]:
    """The fewest readings that each field needs for its values, the one that gives the most values first. A reading
    that only a few values need is left out."""
    of_field: dict[str, list[set[str]]] = defaultdict(list)
    for value in values:
        of_field[value.path].append({name for names in value.places.values() for name in names})
    chosen: dict[str, tuple[str, ...]] = {}
    for path, left in of_field.items():
        names: list[str] = []
        while left:
            counts = Counter(name for each in left for name in each)
            # The plainest of equal ones. A spelling must read more values, because it changes unseen ones too.
            able = [name for name in NAMES if counts[name]]
            best = max(able, key=lambda name: counts[name] - LEAST * (name == SPELT))
            if names and counts[best] < LEAST:
                break
            names.append(best)
            left = [each for each in left if best not in each]
        chosen[path] = tuple(names)
    return chosen


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]
