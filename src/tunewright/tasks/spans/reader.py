"""Turns the logits of a text's tokens into a record with the probability of each value."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tunewright.tasks.spans.align import joints
from tunewright.tasks.spans.fields import Field
from tunewright.tasks.spans.readings import read, shaped
from tunewright.tasks.spans.tags import (
    OUTSIDE,
    Bools,
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

_LONGEST, _LETTERS = 64, 1000
"""Most tokens and characters of a candidate for a field that has no value yet. White space costs no tokens."""
_LIKELY = 0.5
"""Expected number of values from which we search for candidates although no single place is likely. A total that stands
at three places may come from any of them."""
_TRIED = 64
"""Candidates to try, the likeliest first, besides numbers, dates and codes."""


class ScoredPiece(NamedTuple):
    """A piece of the text that can be read as a value."""

    score: float
    """Its log-probability for its length."""
    log_probability: float
    value: Any
    kind: TagKind
    first: int
    last: int
    """Its first and last token."""

    @property
    def tags(self) -> list[int]:
        return self.kind.tags(self.last + 1 - self.first)


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
        self._begin, self._end = self._seams(*(np.array(ends, bool)[self._tokens] for ends in seams(places, text)))
        self._path = best_tags(self._in_one_line(), self._begin, self._end)
        self._marked, self._taken = self._pieces()

    def read(self, *, whole: bool) -> SpanRecord:
        """The record of the text.

        A field with one value takes the piece with the best score for its length. If a field has no value but is
        required, or is expected in the text, it takes the best candidate among the pieces that no other field takes.

        Args:
            whole: whether this is the whole text and not a window.
        """
        result, taken = SpanRecord(), self._taken.copy()
        found = {field.path: _held(field, self._marked) for field in self._set.fields if not field.choices}
        for field in self._set.fields:
            if field.choices or not field.single or found[field.path]:
                continue
            needed = (whole and field.required and not field.nullable) or self._expected(field) > _LIKELY
            if needed and (candidate := self.best_candidate(field, taken)):
                found |= self._exchanged(field, candidate, found) or {field.path: [candidate]}
                taken[candidate.first : candidate.last + 1] = True
        path = self._as_held(list(itertools.chain(*found.values())))
        for field in self._set.fields:
            if not field.choices:
                _put(result, field, found[field.path])
        result.confidence = probability(self._scores, path)
        self._choose(result)
        self._in_order(result)
        return result

    def _as_held(self, pieces: Sequence[ScoredPiece]) -> list[int]:
        """The tags of the text in which fields hold these pieces.

        What is left of a marked piece that one of them cuts is outside all values.
        """
        path = list(self._path)
        for first, last, _ in runs(self._path):
            if any(each.first <= last and first <= each.last and each[-2:] != (first, last) for each in pieces):
                path[first : last + 1] = [OUTSIDE] * (last + 1 - first)
        for each in pieces:
            path[each.first : each.last + 1] = each.tags
        return path

    def _exchanged(
        self, field: Field, candidate: ScoredPiece, found: Mapping[str, list[ScoredPiece]]
    ) -> dict[str, list[ScoredPiece]] | None:
        """The pieces of two fields, of which the first marked both, exchanged; None if that is not likelier.

        Args:
            candidate: the piece that the first one left to `field`.
            found: the pieces that fields have so far.
        """
        for other in self._set.fields:
            pieces = [] if other.listed else self._marked.get(other.path, [])
            left = next((each for each in pieces if (each.first, each.last) == (candidate.first, candidate.last)), None)
            if left is None or found[other.path] != _held(other, self._marked):
                continue
            (best,) = found[other.path]
            instead = self._read_as(field, best.first, best.last)
            if instead and left.score + instead.score > best.score + candidate.score:
                return {other.path: [left], field.path: [instead]}
        return None

    def _read_as(self, field: Field, first: int, last: int) -> ScoredPiece | None:
        """Some tokens as a piece of a field's likeliest kind; None if they can't be read as a value of the field."""
        if field.path in self._set.habits.one_line and self._line[first] != self._line[last]:
            return None
        kind = max(self._set.kinds_of[field.path], key=lambda kind: self._scores[first, kind.begin])
        if not (self._begin[first, kind.number] and self._end[last, kind.number]):
            return None
        return self._piece(kind, first, last)

    def _seams(self, begin: Bools, end: Bools) -> tuple[Bools, Bools]:
        """Whether a value of each kind may begin with a token, and end with one, [tokens, kinds].

        Args:
            begin, end: whether a value of any kind may, [tokens].
        """
        cutting = np.array([kind.path not in self._set.habits.whole_numbers for kind in self._set.kinds], bool)
        cuts = joints(self._text)
        starts = np.array([start not in cuts for start, _ in self._places], bool)
        ends = np.array([end not in cuts for _, end in self._places], bool)
        return begin[:, None] & (starts[:, None] | cutting), end[:, None] & (ends[:, None] | cutting)

    @functools.cached_property
    def _line(self) -> npt.NDArray[np.int64]:
        """The number of each token's line."""
        ends = [0, *(end for _, end in self._places)]
        gaps = zip(ends, self._places, strict=False)
        return np.cumsum([self._text.count("\n", end, start) for end, (start, _) in gaps], dtype=np.int64)

    def _in_one_line(self) -> Floats:
        """The scores, in which no value of a field that stands in one line goes on behind a line's end."""
        columns = [kind.inside for kind in self._set.kinds if kind.path in self._set.habits.one_line]
        if not columns:
            return self._scores
        behind = np.flatnonzero(np.diff(self._line, prepend=self._line[:1]))
        scores = self._scores.copy()
        scores[behind[:, None], columns] = -np.inf
        return scores

    def _pieces(self) -> tuple[dict[str, list[ScoredPiece]], Bools]:
        """(the values that are marked for each field, whether each token is one of a value that a field takes).

        A piece that can't be read is taken by none, nor is one that a field with one value leaves: both dates of a text
        may be marked as one of two fields.
        """
        marked: dict[str, list[ScoredPiece]] = {}
        taken = np.zeros(len(self._path), bool)
        for first, last, number in runs(self._path):
            if piece := self._piece(self._set.kinds[number], first, last):
                marked.setdefault(piece.kind.path, []).append(piece)
        for field in self._set.fields:
            for piece in _held(field, marked):
                taken[piece.first : piece.last + 1] = True
        return marked, taken

    def _piece(self, kind: TagKind, first: int, last: int) -> ScoredPiece | None:
        """Some tokens as a piece of a kind; None if they can't be read as a value of its field."""
        value = next(self._values(kind, first, last), None)
        if value is None:
            return None
        tokens = last + 1 - first
        log_probability = float(self._scores[range(first, last + 1), kind.tags(tokens)].sum())
        return ScoredPiece(log_probability / tokens, log_probability, value, kind, first, last)

    def _expected(self, field: Field) -> float:
        """The expected number of values of a field in the text: the sum of their probabilities."""
        return sum(
            float(np.exp(self._scores[self._begin[:, kind.number], kind.begin]).sum())
            for kind in self._set.kinds_of[field.path]
        )

    def best_candidate(self, field: Field, taken: Bools | None = None) -> ScoredPiece | None:
        """The likeliest piece that no field takes and that can be read as a value of a field; None if there is none.

        Args:
            taken: whether each token is one of a value that a field takes; by default as the tags say.
        """
        taken = self._taken if taken is None else taken
        likeliest: Iterator[tuple[TagKind, int, int]] = itertools.islice(self._likeliest(field, taken), _TRIED)
        if not field.holds_words:
            # Else all candidates that are tried may be parts of the likeliest place, and none of them a number.
            likeliest = itertools.chain(self._likeliest(field, taken, self._shaped), likeliest)
        return next(filter(None, itertools.starmap(self._piece, likeliest)), None)

    def _likeliest(self, field: Field, taken: Bools, among: Any = True) -> Iterator[tuple[TagKind, int, int]]:
        """Pieces that no field takes, those first that are likeliest to be a value of the field and not what their tags
        say.

        Args:
            taken: whether each token is one of a value that a field takes.
            among: whether each piece counts, [first tokens, lengths less one].
        """
        tokens = len(taken)
        if not tokens:
            return
        kinds = self._set.kinds_of[field.path]
        before = np.cumsum([0, *taken])
        first = np.arange(tokens)[:, None]
        last = first + np.arange(min(_LONGEST, tokens))
        behind = np.minimum(last + 1, tokens)
        free = (last < tokens) & (before[behind] == before[first]) & among
        number = kinds[0].number  # the seams are the same for all kinds of a field
        free &= self._begin[:, number, None] & self._end[behind - 1, number]
        begins, ends = np.array(self._places).T
        free &= ends[behind - 1] - begins[:, None] <= _LETTERS
        if field.path in self._set.habits.one_line:
            free &= self._line[:, None] == self._line[behind - 1]
        gains = np.full((len(kinds), *free.shape), -np.inf)
        as_tagged = self._scores[np.arange(tokens), self._path]
        for row, kind in enumerate(kinds):
            more = np.concatenate([[0.0], np.cumsum(self._scores[:, kind.inside] - as_tagged)])
            begun = (self._scores[:, kind.begin] - as_tagged)[:, None]
            gains[row] = np.where(free, begun + more[behind] - more[first + 1], -np.inf)
        for at in np.argsort(-gains, axis=None, kind="stable"):
            row, begin, length = np.unravel_index(at, gains.shape)
            if not np.isfinite(gains[row, begin, length]):
                return
            yield kinds[int(row)], int(begin), int(begin + length)

    @functools.cached_property
    def _shaped(self) -> Bools:
        """Which pieces, [first tokens, lengths less one], may be a number, a date or a code."""
        begins = {start: token for token, (start, _) in enumerate(self._places)}
        ends = {end: token for token, (_, end) in enumerate(self._places)}
        fits = np.zeros((len(self._places), min(_LONGEST, len(self._places))), bool)
        for start, end in shaped(self._text):
            first, last = begins.get(start, -1), ends.get(end, -1)
            if 0 <= first <= last < first + fits.shape[1]:
                fits[first, last - first] = True
        return fits

    def _values(self, kind: TagKind, first: int, last: int) -> Iterator[Any]:
        """The possible values of a piece: by the reading of its tags, then by the field's other readings, the likeliest
        first."""
        field = self._set.field_of[kind.path]
        piece = self._text[self._places[first][0] : self._places[last][1]]
        spelling = self._set.habits.spellings.get(field.path, {})
        others = (each for each in self._set.kinds_of[kind.path] if each != kind)
        for each in (kind, *sorted(others, key=lambda each: -float(self._scores[first, each.begin]))):
            reading = read(each.reading, piece, spelling)
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
        result.fields = {path: result.fields[path] for path in sorted(result.fields, key=self._set.order.__getitem__)}


def _score(piece: ScoredPiece) -> float:
    return piece.score


def _held(field: Field, marked: Mapping[str, list[ScoredPiece]]) -> list[ScoredPiece]:
    """The marked pieces that a field takes: all, or the best if it has one value."""
    pieces = marked.get(field.path, [])
    return pieces if field.listed or not pieces else [max(pieces, key=_score)]


def _put(result: SpanRecord, field: Field, pieces: Sequence[ScoredPiece]) -> None:
    """Put a field's values into a record.

    Args:
        pieces: in the order of the text; one, if the field holds no list.
    """
    if not pieces:
        if field.required and not field.nullable and not field.single:
            field.put(result.record, [])
        return
    if field.listed and (len(pieces) > 1 or not field.single):
        field.put(result.record, [piece.value for piece in pieces])
        result.fields[field.leaf] = math.exp(sum(piece.log_probability for piece in pieces))
        return
    (piece,) = pieces
    field.put(result.record, piece.value)
    result.fields[field.path] = math.exp(piece.log_probability)
