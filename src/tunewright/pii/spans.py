"""A span of personal data, and the finder of one form of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Span:
    """A place in a text that holds personal data or a secret. Its repr omits the value, so that no log shows it."""

    start: int
    end: int
    kind: str
    text: str = field(repr=False)
    score: float
    """From 0 to 1: how rarely anything else has this form."""


@dataclass(frozen=True)
class Finder:
    """One form of one kind of personal data."""

    kind: str
    score: float
    pattern: re.Pattern[str]
    """The value is the pattern's group, or the whole match if it has none. A group "v" has words beside it that name
    the value."""
    check: Callable[[str], bool] = lambda _: True
    cut: bool = False
    """Whether the last words may be dropped until the check accepts the value: they may belong to the next text."""
    copied: bool = False
    """Whether people copy the value and never type it, so that a dash ends it and none stands for its hyphens."""

    @property
    def is_labelled(self) -> bool:
        return "v" in self.pattern.groupindex

    def spans(self, text: str) -> Iterator[Span]:
        for match in self.pattern.finditer(text):
            start, end = match.span(self.pattern.groups)
            while not self.check(text[start:end]):
                end = max(text.rfind(sign, start, end) for sign in " -.") if self.cut else -1
                if end < 0:
                    break
            else:
                yield Span(start, end, self.kind, text[start:end], self.score)


_SPACES = re.compile("[\N{NO-BREAK SPACE}\u1680\u2000-\u200a\u202f\u205f\u3000]")
# A dash behind a letter is left alone: it ends a clause more often than it joins a number's groups.
_DASHES = re.compile("(?<![^\\W\\d_])[\u2012\N{EN DASH}\N{MINUS SIGN}]")
_HYPHENS = re.compile("[\N{HYPHEN}\N{NON-BREAKING HYPHEN}\ufe63\uff0d]")


@dataclass(frozen=True)
class TextReading:
    """A text as the patterns read it, with a keyboard's signs for those of typesetters. Each place stays."""

    text: str
    copied: str
    """The text for finders of copied values."""


def readings_of(text: str) -> list[TextReading]:
    """What a text can mean to the patterns, which know a keyboard's spaces and hyphens only.

    A typesetter's hyphen or dash may join the groups of one value, or part it from what follows. So a text with such
    signs has two readings: with hyphens in their place, and with the signs themselves.
    """
    if text.isascii():
        return [TextReading(text, text)]
    spaced = _SPACES.sub(" ", text)
    hyphened = _HYPHENS.sub("-", spaced)
    joined = _DASHES.sub("-", hyphened)
    parted = TextReading(spaced, spaced)
    return [parted] if joined == spaced else [TextReading(joined, hyphened), parted]


class SpanFacts:
    """A text's properties that the gates use."""

    def __init__(self, text: str):
        self.text = text
        self.lower = text.lower()
        self.is_ascii = text.isascii()
        # Ten searches for a character take a fifth of the time of a pattern's search.
        self.has_digit = any(map(text.__contains__, "0123456789")) if self.is_ascii else bool(_DIGIT.search(text))
        self.has_number = self.has_digit and bool(_NUMBER.search(text))
        """Whether seven digits are near each other."""

    def tokens(self) -> list[str]:
        """The words in lower case."""
        if self.is_ascii:
            return self.text.encode().translate(_WORDS_ONLY).decode().split()
        return _TOKEN.findall(self.lower)


_DIGIT = re.compile(r"\d")
_NUMBER = re.compile(r"\d(?:\D{0,4}\d){6}")
_TOKEN = re.compile(r"\w+")
_WORDS_ONLY = bytes(ord(chr(code).lower()) if re.match(r"\w", chr(code), re.ASCII) else 32 for code in range(256))


@dataclass(frozen=True)
class Prefilter:
    """A gate: a cheap condition that a text must meet for some finders to find anything."""

    words: frozenset[str] = frozenset()
    """Words in lower case; the text must have one of them. Empty: it needs none."""
    piece: str = ""
    """A piece that the text must have."""
    digit: bool = False
    """Whether the text must have a digit."""
    test: Callable[[SpanFacts], bool] = lambda _: True

    def lets(self, facts: SpanFacts) -> bool:
        """Whether a text that has one of the words passes the other conditions."""
        return self.piece in facts.text and (facts.has_digit or not self.digit) and self.test(facts)


def has_number(facts: SpanFacts) -> bool:
    return facts.has_number


def says(words: str, *, digit: bool = False, test: Callable[[SpanFacts], bool] = lambda _: True) -> Prefilter:
    """A gate for texts that have one of some words, separated by spaces, and pass a test."""
    return Prefilter(frozenset(words.split()), digit=digit, test=test)


def holds(character: str, *marks: str) -> Prefilter:
    """A gate for texts that have one of some marks, which all share a (rare) character."""
    return Prefilter(piece=character, test=lambda facts: any(mark in facts.text for mark in marks))
