"""Makes training examples of records in which values gave way to those of other examples.

A piece of a text that a value comes from is replaced by such a piece of another text, and the value in the record by
that one's. So a model sees each name in many surroundings, and learns to copy rather than to remember.

Source: Dai & Adel 2020, "An Analysis of Simple Data Augmentation for Named Entity Recognition", mention replacement.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from tunewright.tasks.base import Unfit
from tunewright.tasks.example import Example
from tunewright.tasks.normal import as_in_records
from tunewright.tasks.record_form import RecordForm
from tunewright.tasks.spans.align import Aligned, Aligner, ValueSpan, whole
from tunewright.tasks.spans.fields import fields_of
from tunewright.tasks.spans.readings import DATES, read

_SWAPPED = 0.6
"""The chance that a value gives way."""
_RENUMBERED = 0.5
"""The chance that a number or code gets other digits, so that no number is seen twice."""
_Kind = tuple[str, str, str]
"""(field, reading, signs in a date). Values give way to those of their kind. In a text with 24.12.2024 a date like
01/02/2024 would not tell its month."""


@dataclass(frozen=True)
class _Value:
    """A value that may give way."""

    kind: _Kind
    piece: str
    """The text that it comes from."""
    value: Any
    places: tuple[tuple[int, int], ...]
    """Where the piece stands in its text."""


def swapped_copies(form: RecordForm, examples: Sequence[Example], copies: int, seed: int) -> list[Example]:
    """So many copies of each example, in which values gave way to those of other examples. A copy in which nothing can
    is the same as its example.

    Args:
        examples: with answers in canonical form.

    Raises:
        UserError: the schema has fields whose values can't be found in a text; see `fields_of`.
    """
    swaps, random = _Swaps(form, examples), Random(seed)
    return [swaps.copy(number, random) for _ in range(copies) for number in range(len(examples))]


class _Swaps:
    def __init__(self, form: RecordForm, examples: Sequence[Example]):
        self._form, self._examples = form, examples
        self._fields = {each.path: each for each in fields_of(form) if not each.choices}
        aligner = Aligner(list(self._fields.values()), examples)
        self._spellings = aligner.habits.spellings
        self._known: dict[str, list[str]] = defaultdict(list)
        for path, reading in aligner.kinds:
            self._known[path].append(reading)
        self._values = [self._swappable(example, aligner.align(example)) for example in examples]
        self._donors: dict[_Kind, list[_Value]] = defaultdict(list)
        for values in self._values:
            for each in values:
                self._donors[each.kind].append(each)

    def copy(self, number: int, random: Random) -> Example:
        example, edits = self._examples[number], list[tuple[int, int, str]]()
        text, record = example.request, json.loads(example.answer)
        for each in self._values[number]:
            if random.random() >= _SWAPPED:
                continue
            new = random.choice(self._donors[each.kind])
            piece, value = new.piece, new.value
            if random.random() < _RENUMBERED and (other := self._renumbered(new, random)):
                piece, value = other
            if all(_fits(text, place, piece) for place in each.places):
                edits += [(*place, piece) for place in each.places]
                self._fields[each.kind[0]].exchange(record, each.value, value)
        for start, end, piece in sorted(edits, reverse=True):
            text = text[:start] + piece + text[end:]
        try:
            answer = self._form.written(record)
        except Unfit:  # such as two equal items in a list whose items differ
            return example
        return Example.of(text, answer, example.meta, example.importance)

    def _swappable(self, example: Example, aligned: Aligned) -> list[_Value]:
        """The values of an example that may give way without making its record wrong."""
        text, record = example.request, json.loads(example.answer)
        # A value without a place of its own may stand in the piece of another one.
        lost = [_plain(value) for path in set(aligned.lost) for value in self._fields[path].among(record)]
        found = []
        for span in aligned.spans:
            piece = text[span.start : span.end]
            value = self._read(span.path, span.reading, piece)
            same = [place for place in aligned.others if self._says(span, text[slice(*place)], value)]
            alike = [place for place in same if text[slice(*place)] == piece]
            plain = _plain(piece)
            if alike == same and not any(each in plain or plain in each for each in lost):
                places = _apart([(span.start, span.end), *alike])
                signs = re.sub(r"\w+", "", piece) if span.reading in DATES else ""
                found.append(_Value((span.path, span.reading, signs), piece, value, places))
        return found

    def _says(self, span: ValueSpan, piece: str, value: Any) -> bool:
        """Whether a piece gives a value in any of the field's readings."""
        return any(self._read(span.path, name, piece) == value for name in self._known[span.path])

    def _read(self, path: str, reading: str, piece: str) -> Any:
        content = read(reading, piece, self._spellings.get(path, {}))
        return None if content is None else self._fields[path].fit(content)

    def _renumbered(self, value: _Value, random: Random) -> tuple[str, Any] | None:
        """A number or code with other digits, and its value; None for anything else, such as a date."""
        if not (value.piece.isalnum() and any(map(str.isdecimal, value.piece))):
            return None
        piece = "".join(
            str(random.randint(letter != "0", 9)) if letter.isdecimal() else letter for letter in value.piece
        )
        path, reading, _ = value.kind
        read_again = self._read(path, reading, piece)
        return None if read_again is None else (piece, read_again)


def _fits(text: str, place: tuple[int, int], piece: str) -> bool:
    """Whether a piece in this place does not run into the words beside it."""
    start, end = place
    changed, last = text[:start] + piece + text[end:], start + len(piece)
    return whole(changed, start) and whole(changed, last)


def _apart(places: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The places that overlap no earlier one of the list."""
    apart: list[tuple[int, int]] = []
    for start, end in places:
        if all(end <= begin or stop <= start for begin, stop in apart):
            apart.append((start, end))
    return tuple(apart)


def _plain(value: Any) -> str:
    return as_in_records(str(value)).casefold()
