"""A record as a tag for each token of its text, and back.

A tag says that a token begins a value of a field, read in one of its ways, that it goes on with one, or that it is part
of none (BIO; Ramshaw & Marcus 1995). What is chosen among the schema's own values stands in columns of its own, which
count at the first token, the one that stands for the text.
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

IGNORED = -100
"""Tag of a token that is not learnt from."""
OUTSIDE = 0
"""Column of the tag of a token that is part of no value."""
Offsets = Sequence[tuple[int, int]]
"""For each token the first character that it stands for and the one behind its last; equal of the frame's tokens."""
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Choice:
    """A field whose values the schema offers, and the columns of them."""

    field: Field
    options: tuple[Any, ...]
    """Its values; None where it may have none."""
    first: int
    """The first one's column."""

    @property
    def columns(self) -> slice:
        return slice(self.first, self.first + len(self.options))


@dataclass(frozen=True)
class TagKind:
    """What a span may be."""

    path: str
    reading: str
    begin: int
    """Column of the tag of its first token."""

    @property
    def inside(self) -> int:
        """That of the others."""
        return self.begin + 1


@dataclass(frozen=True)
class Taught:
    """What a text teaches."""

    tags: list[int]
    """For each token a column, or `IGNORED`."""
    choices: list[int]
    """For each choice the number of its option, or `IGNORED`."""
    lost: tuple[str, ...]
    """The fields of values that no tags can say."""


class TagSet:
    """What the columns of a token's logits stand for.

    Args:
        fields: of a schema, in its order.
        kinds: (path of a field, reading) of the spans there are.
    """

    def __init__(self, fields: Sequence[Field], kinds: Sequence[tuple[str, str]]):
        self.fields = list(fields)
        self.kinds = [TagKind(*kind, 1 + 2 * number) for number, kind in enumerate(kinds)]
        self.size = 1 + 2 * len(self.kinds)
        """Tags; columns of choices stand behind them."""
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
    def named(cls, fields: Sequence[Field], outputs: Sequence[str]) -> TagSet:
        """That of which these are the `outputs`."""
        begun = (name.split(" ", 2) for name in outputs if name.startswith("B "))
        return cls(fields, [(path, reading) for _, reading, path in begun])

    @property
    def outputs(self) -> list[str]:
        """A name for each column."""
        spans = [f"{mark} {kind.reading} {kind.path}" for kind in self.kinds for mark in "BI"]
        return ["O", *spans, *(f"= {each.field.path} {value}" for each in self.choices for value in each.options)]

    def taught(self, aligned: Aligned, record: Mapping[str, Any], offsets: Offsets, text: str) -> Taught:
        """What a text of which the values were found teaches.

        Where a value was not found, tokens outside of the others are not taught: some of them may say it.
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
        return Taught(tags, numbers, tuple(lost))

    def told(self, tags: Sequence[int], choices: Sequence[int], offsets: Offsets, text: str) -> str:
        """What tags say of a text, for a human."""
        spans = [(span.path, text[span.start : span.end]) for span in self.spans(tags, offsets, text)]
        for each, number in zip(self.choices, choices, strict=True):
            if number != IGNORED and each.options[number] is not None:
                spans.append((each.field.path, str(each.options[number])))
        return "; ".join(f"{path}: {' '.join(said.split())}" for path, said in spans) or "nothing"

    def spans(self, tags: Sequence[int], offsets: Offsets, text: str) -> list[ValueSpan]:
        """The pieces that tags mark, which must be a legal sequence."""
        places = trimmed(offsets, text)
        return [
            ValueSpan(places[first][0], places[last][1], self.kinds[kind].path, self.kinds[kind].reading)
            for first, last, kind in runs(tags)
        ]


@dataclass
class Found:
    """What was read in a text, or in one window of it."""

    record: dict[str, Any] = field(default_factory=dict)
    fields: dict[str, float] = field(default_factory=dict)
    """The probability of the values at each path."""
    confidence: float = 1.0
    """That of everything that was said of the text."""


def _number(options: Sequence[Any], value: Any) -> int:
    """The place of a value; `IGNORED` where there is none."""
    found = (
        n for n, option in enumerate(options) if option == value and isinstance(option, bool) == isinstance(value, bool)
    )
    return next(found, IGNORED)


def trimmed(offsets: Offsets, text: str) -> list[tuple[int, int]]:
    """The characters of each token without white space at its ends; an empty piece where there are no others."""
    found = []
    for start, end in offsets:
        piece = text[start:end]
        bare = piece.strip()
        begin = start + (len(piece) - len(piece.lstrip()) if bare else 0)
        found.append((begin, begin + len(bare)))
    return found


def _within(places: Offsets, start: int, end: int) -> list[int]:
    """The tokens that stand for a piece, or a part of it."""
    return [number for number, (first, last) in enumerate(places) if first < last and first < end and start < last]


def runs(tags: Sequence[int]) -> list[tuple[int, int, int]]:
    """(first token, last token, number of the kind) of each span in a legal sequence of tags."""
    found: list[tuple[int, int, int]] = []
    for token, tag in enumerate(tags):
        if tag <= OUTSIDE:
            continue
        kind, inside = divmod(tag - 1, 2)
        if inside and found and found[-1][1] == token - 1 and found[-1][2] == kind:
            found[-1] = (found[-1][0], token, kind)
        elif not inside:
            found.append((token, token, kind))
    return found


def seams(offsets: Offsets, text: str) -> tuple[list[bool], list[bool]]:
    """For each token whether a value may begin with it, and whether one may end with it: not within a word, a number or
    a character, nor in white space."""
    places = trimmed(offsets, text)
    begin, end = [], []
    for token, (start, stop) in enumerate(places):
        before = places[token - 1][1] if token else 0
        after = places[token + 1][0] if token + 1 < len(places) and places[token + 1][1] else len(text)
        begin.append(start < stop and start >= before and whole(text, start))
        end.append(start < stop and stop <= after and whole(text, stop))
    return begin, end


def best_tags(scores: Floats, begin: Sequence[bool], end: Sequence[bool]) -> list[int]:
    """The likeliest legal sequence of tags (Viterbi): what goes on with a value follows what began it, and values begin
    and end where they may.

    Args:
        scores: log-probabilities [tokens, tags] of tokens that are text.
        begin, end: as of `seams`, of the same tokens.
    """
    greedy = scores.argmax(1).tolist()
    if _legal(greedy, begin, end):
        return [int(tag) for tag in greedy]
    outside, begun, gone = scores[:, 0], scores[:, 1::2], scores[:, 2::2]
    tokens, kinds = begun.shape
    if not kinds:
        return [OUTSIDE] * tokens
    # Of a token outside, and of one within a value of each kind: the score of the likeliest way there.
    out, within = 0.0, np.full(kinds, -np.inf)
    from_out = np.zeros(tokens, np.int64)  # the kind that ended before this token; -1: none did
    begins = np.zeros((tokens, kinds), bool)
    for token in range(tokens):
        ended, kind = out, -1
        if token and end[token - 1] and within.max() > out:
            kind = int(within.argmax())
            ended = float(within[kind])
        from_out[token] = kind
        going = within + gone[token]
        fresh = ended + begun[token] if begin[token] else np.full(kinds, -np.inf)
        begins[token] = fresh >= going
        within = np.where(begins[token], fresh, going)
        out = ended + float(outside[token])
    last = -1
    if tokens and end[-1] and within.max() > out:
        last = int(within.argmax())
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


def _legal(tags: Sequence[int], begin: Sequence[bool], end: Sequence[bool]) -> bool:
    before = OUTSIDE
    for token, tag in enumerate(tags):
        inside = tag > OUTSIDE and tag % 2 == 0
        if inside and before not in (tag, tag - 1):
            return False
        if not inside and ((before > OUTSIDE and not end[token - 1]) or (tag > OUTSIDE and not begin[token])):
            return False
        before = tag
    return before == OUTSIDE or end[-1]


def log_softmax(logits: Any) -> Floats:
    """Log-probabilities over the last axis."""
    scores = np.asarray(logits, np.float64)
    return np.asarray(scores - np.logaddexp.reduce(scores, axis=-1, keepdims=True))


def probability(scores: Floats, tags: Sequence[int]) -> float:
    """Of a sequence of tags, each token for itself."""
    return math.exp(float(scores[np.arange(len(tags)), list(tags)].sum()))
