"""From the logits of a text's tokens to a record, and how sure each of its values is."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tunewright.tasks.spans.fields import Field
from tunewright.tasks.spans.readings import READINGS
from tunewright.tasks.spans.tags import (
    OUTSIDE,
    Floats,
    Found,
    Offsets,
    TagKind,
    TagSet,
    best_tags,
    log_softmax,
    probability,
    runs,
    seams,
    trimmed,
)

_LONGEST = 64
"""Tokens of a value that is looked for because there must be one."""
_LIKELY = 0.5
"""Values that are expected in a text from which on one is looked for, where no single place is likelier than none: a
total that stands at three places may be meant at any of them."""
_TRIED = 64
"""Pieces that are tried then, the likeliest first."""


class SpanReader:
    """Reads one text, or one window of it.

    Args:
        logits: of its tokens [tokens, columns].
        offsets: of its tokens.
    """

    def __init__(self, tags: TagSet, logits: Any, offsets: Offsets, text: str):
        self._set, self._text = tags, text
        places = trimmed(offsets, text)
        self._tokens = [number for number, (start, end) in enumerate(places) if start < end]
        self._places = [places[number] for number in self._tokens]
        rows = np.asarray(logits, np.float64)
        self._scores = log_softmax(rows[self._tokens, : tags.size])
        self._first: Floats = rows[0]
        begin, end = seams(offsets, text)
        self._begin = [begin[number] for number in self._tokens]
        self._end = [end[number] for number in self._tokens]
        self._path = best_tags(self._scores, self._begin, self._end)

    def found(self, *, whole: bool) -> Found:
        """What the text says.

        Of a field that has one value the piece that is likeliest for its length counts. One that must be there, or
        that is expected somewhere, is looked for among the pieces that no value was found in.

        Args:
            whole: whether the text is all there is, and not a window.
        """
        path = list(self._path)
        said: dict[str, list[tuple[float, float, Any]]] = {}
        for first, last, number in runs(path):
            field = self._field(self._set.kinds[number])
            value = next(self._values(field, number, first, last), None)
            if value is not None:
                sure = float(self._scores[range(first, last + 1), path[first : last + 1]].sum())
                said.setdefault(field.path, []).append((sure / (last + 1 - first), sure, value))
        result = Found()
        for field in self._set.fields:
            if field.choices:
                continue
            values = said.get(field.path, [])
            must = (whole and field.required and not field.nullable) or self._expected(field) > _LIKELY
            if field.single and must and not values and (sought := self.sought(field, path)):
                values = [sought]
            _put(result, field, values)
        result.confidence = probability(self._scores, path)
        self._choose(result)
        self._in_order(result)
        return result

    def _expected(self, field: Field) -> float:
        """How many values of a field begin in the text, by the sum of their probabilities."""
        begun = [kind.begin for kind in self._set.kinds if kind.path == field.path]
        return float(np.exp(self._scores[self._begin][:, begun]).sum())

    def sought(self, field: Field, path: list[int] | None = None) -> tuple[float, float, Any] | None:
        """The likeliest piece that can be read as a value of a field, marked in `path`: (its score for its length, its
        log-probability, its value); None where there is none."""
        tags = path if path is not None else list(self._path)
        for kind, first, last in self._likeliest(field, tags):
            value = next(self._values(field, (kind.begin - 1) // 2, first, last), None)
            if value is not None:
                tags[first : last + 1] = [kind.begin, *[kind.inside] * (last - first)]
                sure = float(self._scores[range(first, last + 1), tags[first : last + 1]].sum())
                return sure / (last + 1 - first), sure, value
        return None

    def _likeliest(self, field: Field, path: Sequence[int]) -> Iterator[tuple[TagKind, int, int]]:
        """Pieces that no value was found in, the likeliest to be one of a field first."""
        tokens = len(path)
        if not tokens:
            return
        kinds = [kind for kind in self._set.kinds if kind.path == field.path]
        taken = np.cumsum([0, *(tag != OUTSIDE for tag in path)])
        first = np.arange(tokens)[:, None]
        last = first + np.arange(min(_LONGEST, tokens))
        behind = np.minimum(last + 1, tokens)
        free = (last < tokens) & (taken[behind] == taken[first])
        free &= np.array(self._begin)[:, None] & np.array(self._end)[behind - 1]
        gains = np.full((len(kinds), *free.shape), -np.inf)
        for number, kind in enumerate(kinds):
            outside = self._scores[:, OUTSIDE]
            more = np.concatenate([[0.0], np.cumsum(self._scores[:, kind.inside] - outside)])
            begun = (self._scores[:, kind.begin] - outside)[:, None]
            gains[number] = np.where(free, begun + more[behind] - more[first + 1], -np.inf)
        for at in np.argsort(-gains, axis=None, kind="stable")[:_TRIED].tolist():
            number, begin, length = np.unravel_index(at, gains.shape)
            if np.isfinite(gains[number, begin, length]):
                yield kinds[int(number)], int(begin), int(begin + length)

    def _values(self, field: Field, number: int, first: int, last: int) -> Iterator[Any]:
        """What a piece can be read as: as its tags say, else in its field's other ways, the likeliest first."""
        piece = self._text[self._places[first][0] : self._places[last][1]]
        here = self._set.kinds[number]
        others = (kind for kind in self._set.kinds if kind.path == here.path and kind != here)
        for kind in (here, *sorted(others, key=lambda kind: -float(self._scores[first, kind.begin]))):
            read = READINGS[kind.reading](piece)
            value = None if read is None else field.fit(read)
            if value is not None:
                yield value

    def _choose(self, result: Found) -> None:
        for each in self._set.choices:
            scores = log_softmax(self._first[each.columns])
            best = int(scores.argmax())
            sure = math.exp(float(scores[best]))
            result.confidence *= sure
            if each.options[best] is not None:
                each.field.put(result.record, each.options[best])
                result.fields[each.field.path] = sure

    def _in_order(self, result: Found) -> None:
        order = {path: n for n, field in enumerate(self._set.fields) for path in (field.path, field.leaf)}
        result.fields = {path: result.fields[path] for path in sorted(result.fields, key=order.__getitem__)}

    def _field(self, kind: TagKind) -> Field:
        return next(field for field in self._set.fields if field.path == kind.path)


def _put(result: Found, field: Field, values: Sequence[tuple[float, float, Any]]) -> None:
    """Write a field's values, each with its score for its length and its log-probability, in the order of the text."""
    if not values:
        if field.required and field.nullable:
            field.put(result.record, None)
        elif field.required and not field.single:
            field.put(result.record, [])
        return
    if field.listed and (len(values) > 1 or not field.single):
        field.put(result.record, [value for _, _, value in values])
        result.fields[field.leaf] = math.exp(sum(sure for _, sure, _ in values))
        return
    _, sure, value = max(values, key=lambda each: each[0])
    field.put(result.record, value)
    result.fields[field.path] = math.exp(sure)
