"""Turns the logits of a text's tokens into a record with the probability of each value."""

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
    Offsets,
    SpanRecord,
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
"""Maximum tokens of a candidate for a field that has no value yet."""
_LIKELY = 0.5
"""Expected number of values from which we search for candidates although no single place is likely. A total that stands
at three places may come from any of them."""
_TRIED = 64
"""Candidates to try, the likeliest first."""


class SpanReader:
    """Reads the record of one text, or of one window of it.

    Args:
        logits: the logits of its tokens, [tokens, columns].
        offsets: the characters of its tokens.
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

    def read(self, *, whole: bool) -> SpanRecord:
        """The record of the text.

        A field with one value takes the piece with the best score for its length. If a field has no value but is
        required, or is expected in the text, it takes the best candidate among the unmarked pieces.

        Args:
            whole: whether this is the whole text and not a window.
        """
        path = list(self._path)
        marked: dict[str, list[tuple[float, float, Any]]] = {}
        for first, last, number in runs(path):
            field = self._field(self._set.kinds[number])
            value = next(self._values(field, number, first, last), None)
            if value is not None:
                log_probability = float(self._scores[range(first, last + 1), path[first : last + 1]].sum())
                scored = (log_probability / (last + 1 - first), log_probability, value)
                marked.setdefault(field.path, []).append(scored)
        result = SpanRecord()
        for field in self._set.fields:
            if field.choices:
                continue
            values = marked.get(field.path, [])
            needed = (whole and field.required and not field.nullable) or self._expected(field) > _LIKELY
            if field.single and needed and not values and (candidate := self.best_candidate(field, path)):
                values = [candidate]
            _put(result, field, values)
        result.confidence = probability(self._scores, path)
        self._choose(result)
        self._in_order(result)
        return result

    def _expected(self, field: Field) -> float:
        """The expected number of values of a field in the text: the sum of their probabilities."""
        columns = [kind.begin for kind in self._set.kinds if kind.path == field.path]
        return float(np.exp(self._scores[self._begin][:, columns]).sum())

    def best_candidate(self, field: Field, path: list[int] | None = None) -> tuple[float, float, Any] | None:
        """The likeliest unmarked piece that can be read as a value of a field. It is then marked in `path`.

        Returns: (its score for its length, its log-probability, its value); None if there is none.
        """
        tags = path if path is not None else list(self._path)
        for kind, first, last in self._likeliest(field, tags):
            value = next(self._values(field, (kind.begin - 1) // 2, first, last), None)
            if value is not None:
                tags[first : last + 1] = [kind.begin, *[kind.inside] * (last - first)]
                log_probability = float(self._scores[range(first, last + 1), tags[first : last + 1]].sum())
                return log_probability / (last + 1 - first), log_probability, value
        return None

    def _likeliest(self, field: Field, path: Sequence[int]) -> Iterator[tuple[TagKind, int, int]]:
        """Unmarked pieces, those that are likeliest to be a value of the field first."""
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
        """The possible values of a piece: by the reading of its tags, then by the field's other readings, the likeliest
        first."""
        piece = self._text[self._places[first][0] : self._places[last][1]]
        here = self._set.kinds[number]
        others = (kind for kind in self._set.kinds if kind.path == here.path and kind != here)
        for kind in (here, *sorted(others, key=lambda kind: -float(self._scores[first, kind.begin]))):
            reading = READINGS[kind.reading](piece)
            value = None if reading is None else field.fit(reading)
            if value is not None:
                yield value

    def _choose(self, result: SpanRecord) -> None:
        for each in self._set.choices:
            scores = log_softmax(self._first[each.columns])
            best = int(scores.argmax())
            chosen = math.exp(float(scores[best]))
            result.confidence *= chosen
            if each.options[best] is not None:
                each.field.put(result.record, each.options[best])
                result.fields[each.field.path] = chosen

    def _in_order(self, result: SpanRecord) -> None:
        order = {path: n for n, field in enumerate(self._set.fields) for path in (field.path, field.leaf)}
        result.fields = {path: result.fields[path] for path in sorted(result.fields, key=order.__getitem__)}

    def _field(self, kind: TagKind) -> Field:
        return next(field for field in self._set.fields if field.path == kind.path)


def _put(result: SpanRecord, field: Field, values: Sequence[tuple[float, float, Any]]) -> None:
    """Put a field's values into a record.

    Args:
        values: (score for the length, log-probability, value) of each, in the order of the text.
    """
    if not values:
        if field.required and not field.nullable and not field.single:
            field.put(result.record, [])
        return
    if field.listed and (len(values) > 1 or not field.single):
        field.put(result.record, [value for _, _, value in values])
        result.fields[field.leaf] = math.exp(sum(log_probability for _, log_probability, _ in values))
        return
    _, log_probability, value = max(values, key=lambda each: each[0])
    field.put(result.record, value)
    result.fields[field.path] = math.exp(log_probability)
