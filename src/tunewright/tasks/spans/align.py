"""Which piece of a text each value of a record stands for.

A value that stands at several places is taken to be meant where the field's other values stand: what is around each
place (the words beside it, how its line begins, how far down it is) is weighed by naive Bayes, which learns from all
values at once which of their places are meant (expectation maximisation). Places that are equally likely go by their
order. The other places of a value are not taught, as they are not known to be wrong.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tunewright.tasks.example import Example
from tunewright.tasks.measures import leaves
from tunewright.tasks.spans.fields import Field
from tunewright.tasks.spans.readings import READINGS, pieces

ROUNDS = 5
"""Of expectation maximisation."""
LEAST = 3
"""Values that must need a reading, so that there is enough to learn it from."""
_SMOOTH = 0.5


@dataclass(frozen=True)
class ValueSpan:
    """A piece of a text that says a value."""

    start: int
    end: int
    """The character behind its last."""
    path: str
    reading: str


@dataclass(frozen=True)
class Aligned:
    """A record in its text."""

    spans: tuple[ValueSpan, ...]
    """Where its values stand, in the order of the text; none overlap."""
    others: tuple[tuple[int, int], ...]
    """Further places that say the same, which may or may not be meant."""
    lost: tuple[str, ...]
    """The fields of values that stand nowhere, or only where another value does."""


@dataclass
class _Value:
    """A value to be placed: its field, and the readings of each place."""

    path: str
    places: dict[tuple[int, int], tuple[str, ...]]
    cues: dict[tuple[int, int], list[str]] = field(default_factory=dict)


def whole(text: str, at: int) -> bool:
    """Whether a piece may begin or end at a place: not within a word, and not within a number."""
    if not 0 < at < len(text):
        return True
    before, after = text[at - 1], text[at]
    return not ((before.isalpha() and after.isalpha()) or (before.isdigit() and after.isdigit()))


class Aligner:
    """Knows, from examples, which readings each field needs and where its values are meant.

    Args:
        fields: those that are read off the text.
    """

    def __init__(self, fields: Sequence[Field], examples: Sequence[Example]):
        self._fields = {each.path: each for each in fields}
        self._seen: dict[str, Counter[str]] = defaultdict(Counter)
        """For each field how often a cue was beside a value that was meant."""
        self._around: dict[str, Counter[str]] = defaultdict(Counter)
        """The same of all places."""
        self._readings: dict[str, tuple[str, ...]] = {}
        values = [(example.request, value) for example in examples for value in self._values(example)[0]]
        self._readings = _needed([value for _, value in values])
        for text, value in values:
            value.places = self._readable(value)
            value.cues = {place: cues(text, place) for place in value.places}
        self._learn([value for _, value in values if value.places])

    @property
    def kinds(self) -> list[tuple[str, str]]:
        """(field, reading) of all spans that there may be, in the fields' order."""
        return [(path, name) for path in self._fields for name in self._readings.get(path, ())]

    def align(self, example: Example) -> Aligned:
        """Where an example's values stand in its text."""
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
        """(the values that stand in a text, the fields of those that do not)."""
        record, values, absent = json.loads(example.answer), [], []
        for path, each in self._fields.items():
            for value in each.among(record):
                found: dict[tuple[int, int], list[str]] = {}
                ((_, said),) = leaves(value)
                for start, end, reading in pieces(said, example.request):
                    text = example.request
                    if whole(text, start) and whole(text, end) and _reads(each, reading, text[start:end]) == value:
                        found.setdefault((start, end), []).append(reading)
                if found:
                    values.append(_Value(path, {place: tuple(names) for place, names in found.items()}))
                else:
                    absent.append(path)
        return values, absent

    def _readable(self, value: _Value) -> dict[tuple[int, int], tuple[str, ...]]:
        """The places that a reading of the field gives the value of, each with those readings, the commonest first."""
        known = self._readings.get(value.path, ())
        found = {place: tuple(name for name in known if name in names) for place, names in value.places.items()}
        return {place: names for place, names in found.items() if names}

    def _learn(self, values: Sequence[_Value]) -> None:
        for value in values:
            for found in value.cues.values():
                self._around[value.path].update(found)
        for _ in range(ROUNDS):
            seen: dict[str, Counter[str]] = defaultdict(Counter)
            for value in values:
                scores = [self._score(value.path, found) for found in value.cues.values()]
                shares = [math.exp(score - max(scores)) for score in scores]
                for share, found in zip(shares, value.cues.values(), strict=True):
                    for cue in found:
                        seen[value.path][cue] += share / sum(shares)  # type: ignore[assignment]
            self._seen = seen

    def _score(self, path: str, found: Sequence[str]) -> float:
        seen, around = self._seen[path], self._around[path]
        return sum(math.log((seen[cue] + _SMOOTH) / (around[cue] + 2 * _SMOOTH)) for cue in found)


def cues(text: str, place: tuple[int, int]) -> list[str]:
    """What is around a piece of a text."""
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


def _reads(each: Field, reading: str, piece: str) -> object:
    read = READINGS[reading](piece)
    return None if read is None else each.fit(read)


def _needed(values: Sequence[_Value]) -> dict[str, tuple[str, ...]]:
    """For each field the fewest readings that its values need, the one that gives the most first; what only a few
    values need is left out."""
    of_field: dict[str, list[set[str]]] = defaultdict(list)
    for value in values:
        of_field[value.path].append({name for names in value.places.values() for name in names})
    chosen: dict[str, tuple[str, ...]] = {}
    for path, left in of_field.items():
        names: list[str] = []
        while left:
            given = Counter(name for each in left for name in each)
            best = max(READINGS, key=lambda name: given[name])  # of equals the plainest
            if names and given[best] < LEAST:
                break
            names.append(best)
            left = [each for each in left if best not in each]
        chosen[path] = tuple(names)
    return chosen


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]
