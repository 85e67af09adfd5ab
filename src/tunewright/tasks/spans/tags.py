"""A record as a tag for each token of its text, and back.

A tag says that a token begins a value of a field with a certain reading, continues one, or is outside all values (BIO;
Ramshaw & Marcus 1995). A field whose values the schema offers has its own columns. They count only at the first token,
which stands for the whole text.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.tasks.spans.align import Aligned, ValueSpan, whole
from tunewright.tasks.spans.fields import Field
from tunewright.tasks.spans.habits import NONE_KNOWN, Habits

IGNORED = -100
"""The target of a token that training skips."""
OUTSIDE = 0
"""The column of the tag outside all values."""
Offsets = Sequence[tuple[int, int]]
"""For each token, (its first character, the one after its last). The two are equal for the tokens of the frame."""
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Choice:
    """A field whose values the schema offers, and their columns."""

    field: Field
    options: tuple[Any, ...]
    """Its values; with None if it may have none."""
    first: int
    """The column of the first value."""

    @property
    def columns(self) -> slice:
        return slice(self.first, self.first + len(self.options))


@dataclass(frozen=True)
class TagKind:
    """A kind of span: a field with a reading."""

    path: str
    reading: str
    begin: int
    """The column of the tag of a span's first token."""

    @property
    def number(self) -> int:
        """Its number among the kinds of a tag set."""
        return (self.begin - 1) // 2

    @property
    def inside(self) -> int:
        """The column of the tag of its other tokens."""
        return self.begin + 1

    def tags(self, tokens: int) -> list[int]:
        """The tags of a span of so many tokens."""
        return [self.begin, *[self.inside] * (tokens - 1)]


@dataclass(frozen=True)
class TagTargets:
    """The training targets of a text."""

    tags: list[int]
    """A column for each token, or `IGNORED`."""
    choices: list[int]
    """The number of an option for each choice, or `IGNORED`."""
    lost: tuple[str, ...]
    """The fields of values that no tags can express."""


class TagSet:
    """The meaning of the columns of a token's logits.

    Args:
        fields: the fields of a schema, in its order.
        kinds: (path of a field, reading) of each kind of span.
        habits: what training's records have in common.
    """

    def __init__(self, fields: Sequence[Field], kinds: Sequence[tuple[str, str]], habits: Habits = NONE_KNOWN):
        self.fields, self.habits = list(fields), habits
        self.kinds = [TagKind(*kind, 1 + 2 * number) for number, kind in enumerate(kinds)]
        self.field_of = {each.path: each for each in fields}
        """The field of each path."""
        self.kinds_of: dict[str, list[TagKind]] = {each.path: [] for each in fields}
        """The kinds of spans of each path."""
        for kind in self.kinds:
            self.kinds_of.setdefault(kind.path, []).append(kind)
        self.order = {path: n for n, each in enumerate(fields) for path in (each.path, each.leaf)}
        """The number of the field that a path, or the name of a list's values, is of."""
        self.size = 1 + 2 * len(self.kinds)
        """Number of tags. The columns of the choices come after them."""
        self.choices: list[Choice] = []
        column = self.size
        for each in fields:
            if each.choices:
                options = each.choices if each.required and not each.nullable else (*each.choices, None)
                self.choices.append(Choice(each, options, column))
                column += len(options)
        self.columns = column
        self._begin = {(kind.path, kind.reading): kind.begin for kind in self.kinds}

    @classmethod
    def named(cls, fields: Sequence[Field], outputs: Sequence[str], habits: Habits = NONE_KNOWN) -> TagSet:
        """The tag set with these `outputs` and habits."""
        begun = (name.split(" ", 2) for name in outputs if name.startswith("B "))
        return cls(fields, [(path, reading) for _, reading, path in begun], habits)

    @property
    def outputs(self) -> list[str]:
        """A name for each column."""
        spans = [f"{mark} {kind.reading} {kind.path}" for kind in self.kinds for mark in "BI"]
        return ["O", *spans, *(f"= {each.field.path} {value}" for each in self.choices for value in each.options)]

    def targets(self, aligned: Aligned, record: Mapping[str, Any], offsets: Offsets, text: str) -> TagTargets:
        """The training targets of a text with aligned values.

        If a value has no place, training skips the tokens outside the others, because some of them may be its place.
        """
        places, lost = trimmed(offsets, text), list(aligned.lost)
        tags = [OUTSIDE if start < end else IGNORED for start, end in places]
        for start, end in aligned.others:
            for token in _within(places, start, end):
                tags[token] = IGNORED
        for span in aligned.spans:
            tokens = _within(places, span.start, span.end)
            if not tokens or places[tokens[0]][0] != span.start or places[tokens[-1]][1] != span.end:
                lost.append(span.path)
                continue
            begin = self._begin[span.path, span.reading]
            for token in range(tokens[0], tokens[-1] + 1):
                tags[token] = begin if token == tokens[0] else begin + 1
        if lost:
            tags = [IGNORED if tag == OUTSIDE else tag for tag in tags]
        chosen = [(each, each.field.among(record)) for each in self.choices]
        numbers = [_number(each.options, values[0] if values else None) for each, values in chosen]
        return TagTargets(tags, numbers, tuple(lost))

    def describe(self, tags: Sequence[int], choices: Sequence[int], offsets: Offsets, text: str) -> str:
        """The tags of a text in words."""
        spans = [(span.path, text[span.start : span.end]) for span in self.spans(tags, offsets, text)]
        for each, number in zip(self.choices, choices, strict=True):
            if number != IGNORED and each.options[number] is not None:
                spans.append((each.field.path, str(each.options[number])))
        return "; ".join(f"{path}: {' '.join(value.split())}" for path, value in spans) or "nothing"

    def spans(self, tags: Sequence[int], offsets: Offsets, text: str) -> list[ValueSpan]:
        """The pieces that a legal sequence of tags marks."""
        places = trimmed(offsets, text)
        return [
            ValueSpan(places[first][0], places[last][1], self.kinds[kind].path, self.kinds[kind].reading)
            for first, last, kind in runs(tags)
        ]


@dataclass
class SpanRecord:
    """The record that was read from a text, or from one window of it."""

    record: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, float] = field(default_factory=dict)
    """The probability of the values at each path."""
    confidence: float = 1.0
    """The probability of the whole record."""


def _number(options: Sequence[Any], value: Any) -> int:
    """The number of a value among the options; `IGNORED` if it is not one of them."""
    numbers = (
        n for n, option in enumerate(options) if option == value and isinstance(option, bool) == isinstance(value, bool)
    )
    return next(numbers, IGNORED)


def trimmed(offsets: Offsets, text: str) -> list[tuple[int, int]]:
    """The characters of each token without white space at its ends; an empty piece if there are no others."""
    pieces = []
    for start, end in offsets:
        piece = text[start:end]
        bare = piece.strip()
        begin = start + (len(piece) - len(piece.lstrip()) if bare else 0)
        pieces.append((begin, begin + len(bare)))
    return pieces


def _within(places: Offsets, start: int, end: int) -> list[int]:
    """The tokens that overlap with a piece."""
    return [number for number, (first, last) in enumerate(places) if first < last and first < end and start < last]


def runs(tags: Sequence[int]) -> list[tuple[int, int, int]]:
    """(first token, last token, number of the kind) of each span in a legal sequence of tags."""
    spans: list[tuple[int, int, int]] = []
    for token, tag in enumerate(tags):
        if tag <= OUTSIDE:
            continue
        kind, inside = divmod(tag - 1, 2)
        if inside and spans and spans[-1][1] == token - 1 and spans[-1][2] == kind:
            spans[-1] = (spans[-1][0], token, kind)
        elif not inside:
            spans.append((token, token, kind))
    return spans


def seams(places: Offsets, text: str) -> tuple[list[bool], list[bool]]:
    """For each token, whether a value may begin with it, and whether one may end with it. A value can't begin or end
    inside a word, a number, a character, or white space.

    Args:
        places: the results of `trimmed`.
    """
    begin, end = [], []
    for token, (start, stop) in enumerate(places):
        before = places[token - 1][1] if token else 0
        after = places[token + 1][0] if token + 1 < len(places) and places[token + 1][1] else len(text)
        begin.append(start < stop and start >= before and whole(text, start))
        end.append(start < stop and stop <= after and whole(text, stop))
    return begin, end


def best_tags(scores: Floats, begin: Bools, end: Bools) -> list[int]:
    """The likeliest legal sequence of tags (Viterbi): an inside tag follows the begin tag of its kind, and values begin
    and end only where they may.

    Args:
        scores: log-probabilities [tokens, tags] of tokens that are text.
        begin, end: whether a value of each kind may begin, or end, with a token, [tokens, kinds].
    """
    greedy = scores.argmax(1).tolist()
    if _legal(greedy, begin, end):
        return [int(tag) for tag in greedy]
    outside, begun, gone = scores[:, 0], scores[:, 1::2], scores[:, 2::2]
    tokens, kinds = begun.shape
    if not kinds:
        return [OUTSIDE] * tokens
    # The score of the best path to this token outside, and inside a value of each kind.
    out, within = 0.0, np.full(kinds, -np.inf)
    from_out = np.zeros(tokens, np.int64)  # the kind of value that ended before this token; -1: none
    begins = np.zeros((tokens, kinds), bool)
    for token in range(tokens):
        ended, kind = out, -1
        done = np.where(end[token - 1], within, -np.inf)
        if token and done.max() > out:
            kind = int(done.argmax())
            ended = float(done[kind])
        from_out[token] = kind
        going = within + gone[token]
        fresh = np.where(begin[token], ended + begun[token], -np.inf)
        begins[token] = fresh >= going
        within = np.where(begins[token], fresh, going)
        out = ended + float(outside[token])
    last, done = -1, np.where(end[-1], within, -np.inf)
    if done.max() > out:
        last = int(done.argmax())
    tags = [OUTSIDE] * tokens
    state = last
    for token in range(tokens - 1, -1, -1):
        if state < 0:
            state = int(from_out[token])
        elif begins[token, state]:
            tags[token] = 1 + 2 * state
            state = int(from_out[token])
        else:
            tags[token] = 2 + 2 * state
    return tags


def _legal(tags: Sequence[int], begin: Bools, end: Bools) -> bool:
    before = OUTSIDE
    for token, tag in enumerate(tags):
        inside = tag > OUTSIDE and tag % 2 == 0
        if inside and before not in (tag, tag - 1):
            return False
        if not inside and before > OUTSIDE and not end[token - 1, (before - 1) // 2]:
            return False
        if not inside and tag > OUTSIDE and not begin[token, (tag - 1) // 2]:
            return False
        before = tag
    return before == OUTSIDE or bool(end[-1, (before - 1) // 2])


def log_softmax(logits: Any) -> Floats:
    """Log-probabilities over the last axis."""
    scores = np.asarray(logits, np.float64)
    return np.asarray(scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True))


def probability(scores: Floats, tags: Sequence[int]) -> float:
    """The probability of a sequence of tags if tokens are independent."""
    return math.exp(float(scores[np.arange(len(tags)), list(tags)].sum()))
