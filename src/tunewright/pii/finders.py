"""Finding personal data and secrets by their form: patterns, check digits, lists of names, and the words around them.

No model is involved. Organisations, titles, ages, nationalities, and cities and countries alone are not found.
bench/pii.py measures each kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tunewright.pii.addresses import ADDRESSES
from tunewright.pii.opened import opened_json
from tunewright.pii.patterns import PATTERNS
from tunewright.pii.persons import LABELLED_PERSONS, KnownNames, further_mentions
from tunewright.pii.spans import Finder, Prefilter, Span, SpanFacts, TextReading, readings_of
from tunewright.pii.whole_words import WholeWords

_Group = tuple[Prefilter, Sequence[Finder | type[KnownNames]]]
_GROUPS: list[_Group] = [*PATTERNS, *ADDRESSES, *LABELLED_PERSONS, (Prefilter(test=KnownNames.may_find), [KnownNames])]
_BY_WORD: dict[str, list[_Group]] = {}
for _group in _GROUPS:
    for _word in _group[0].words:
        _BY_WORD.setdefault(_word, []).append(_group)
# Flat lists, because every text passes here.
_WITH_DIGIT = [(gate.piece, gate.test, finders) for gate, finders in _GROUPS if not gate.words]
_WITHOUT_DIGIT = [(gate.piece, gate.test, finders) for gate, finders in _GROUPS if not gate.words and not gate.digit]
_ORDER = {id(finder): number for number, finder in enumerate(f for _, finders in _GROUPS for f in finders)}
# Letters that a pattern without case takes for an ASCII letter, and str.lower() does not.
_ODD_LETTERS = re.compile("[ıİſ\N{KELVIN SIGN}]")


def find_pii(text: str) -> list[Span]:
    """The spans that hold personal data or secrets, in order and without overlaps.

    If forms overlap, the one with the higher score wins, then the longer one. A value that the words beside it reveal,
    and each word of a person's name, is found in the rest of the text too. In a JSON text the values are as they are
    meant, without escapes, and their places are those of the JSON text.
    """
    opened = opened_json(text)
    if opened is None:
        return _found(text)
    places = opened.places
    return [replace(span, start=places[span.start], end=places[span.end]) for span in _found(opened.text)]


def _found(text: str) -> list[Span]:
    """As `find_pii`, without regard to escapes."""
    if not text.isascii() and _ODD_LETTERS.search(text):
        return find_without_gates(text)
    readings = readings_of(text)
    facts = SpanFacts(readings[0].text)  # a gate that lets another reading pass lets this one pass
    finders: list[Finder | type[KnownNames]] = []
    for piece, test, group_finders in _WITH_DIGIT if facts.has_digit else _WITHOUT_DIGIT:
        if piece in facts.text and test(facts):
            finders += group_finders
    words = _BY_WORD.keys() & facts.tokens()
    for gate, group_finders in {id(group): group for word in words for group in _BY_WORD[word]}.values():
        if gate.lets(facts):
            finders += group_finders
    finders.sort(key=lambda finder: _ORDER[id(finder)])  # the order of a set differs between processes
    return _find_in(readings, finders, text)


def find_without_gates(text: str) -> list[Span]:
    """As `find_pii`, with every pattern tried on every text. It is slow; tests check the gates against it."""
    return _find_in(readings_of(text), [finder for _, finders in _GROUPS for finder in finders], text)


def _find_in(readings: list[TextReading], finders: list[Finder | type[KnownNames]], text: str) -> list[Span]:
    """The spans of a text's readings, with the text's own values."""
    if text.isascii():
        return _find(readings[0], finders)
    spans = _of_best_readings([_find(reading, finders) for reading in readings], text)
    return [replace(span, text=text[span.start : span.end]) for span in spans]


def _of_best_readings(found: list[list[Span]], text: str) -> list[Span]:
    """The spans of several readings; of those that overlap, only one reading's.

    It is the one with the best score, then the one that covers more of the text, then the first.
    """

    def worth(spans: list[Span]) -> tuple[float, int]:
        covered = (character.isalnum() for span in spans for character in text[span.start : span.end])
        return max((span.score for span in spans), default=0), sum(covered)

    runs, end = list[list[list[Span]]](), 0
    numbered = ((number, span) for number, spans in enumerate(found) for span in spans)
    for number, span in sorted(numbered, key=lambda pair: pair[1].start):
        if span.start >= end:
            runs.append([[] for _ in found])
        runs[-1][number].append(span)
        end = max(end, span.end)
    return [span for run in runs for span in max(run, key=worth)]


def _find(reading: TextReading, finders: list[Finder | type[KnownNames]]) -> list[Span]:
    text = reading.text
    candidates, labelled = list[Span](), dict[str, Span]()
    for finder in finders:
        is_copied = isinstance(finder, Finder) and finder.copied
        spans = list(finder.spans(reading.copied if is_copied else text))
        candidates += spans
        if isinstance(finder, Finder) and finder.is_labelled:
            labelled.update((span.text, span) for span in spans)
    if not candidates:
        return []
    for start, end in WholeWords(labelled).spans(text):
        span = labelled[text[start:end]]
        candidates.append(Span(start, end, span.kind, span.text, span.score))
    kept = _without_overlaps(candidates, len(text))
    mentions = further_mentions(text, [span.text for span in kept if span.kind == "PERSON"])
    return _without_overlaps([*kept, *mentions], len(text))


def _without_overlaps(spans: Iterable[Span], length: int) -> list[Span]:
    """The spans in the order of the text; of those that overlap, only the best."""
    kept: list[Span] = []
    taken = bytearray(length)
    for span in sorted(spans, key=lambda span: (-span.score, span.start - span.end, span.start, span.kind)):
        if not any(taken[span.start : span.end]):
            taken[span.start : span.end] = b"\1" * (span.end - span.start)
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)
