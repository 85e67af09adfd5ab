"""Finding personal data and secrets by their form: patterns, check digits, lists of names, and the words around them.

There is no model behind this. Organisations, titles, ages, nationalities, and cities and countries by themselves are
not looked for. bench/pii.py measures each kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tunewright.pii.addresses import ADDRESSES
from tunewright.pii.patterns import PATTERNS
from tunewright.pii.persons import SAID, KnownNames, further_mentions
from tunewright.pii.spans import Finder, Prefilter, Span, SpanFacts
from tunewright.pii.whole_words import WholeWords

_Group = tuple[Prefilter, Sequence[Finder | type[KnownNames]]]
_GROUPS: list[_Group] = [*PATTERNS, *ADDRESSES, *SAID, (Prefilter(test=KnownNames.may_find), [KnownNames])]
_BY_WORD: dict[str, list[_Group]] = {}
for _group in _GROUPS:
    for _word in _group[0].words:
        _BY_WORD.setdefault(_word, []).append(_group)
# Laid out flat, because every text passes here.
_WITH_DIGIT = [(gate.piece, gate.test, finders) for gate, finders in _GROUPS if not gate.words]
_WITHOUT_DIGIT = [(gate.piece, gate.test, finders) for gate, finders in _GROUPS if not gate.words and not gate.digit]
_ORDER = {id(finder): number for number, finder in enumerate(f for _, finders in _GROUPS for f in finders)}
# Letters that are an ASCII letter to a pattern that ignores case, and not to str.lower().
_ODD_LETTERS = re.compile("[ıİſ\N{KELVIN SIGN}]")


def find_pii(text: str) -> list[Span]:
    """The spans that hold personal data or secrets, in order, none overlapping.

    Where forms overlap, the higher score and then the longer one wins. A value found by the words beside it, and each
    word of a person's name, is found wherever else it stands in the text.
    """
    if not text.isascii() and _ODD_LETTERS.search(text):
        return find_without_gates(text)
    facts = SpanFacts(text)
    finders: list[Finder | type[KnownNames]] = []
    for piece, test, some in _WITH_DIGIT if facts.has_digit else _WITHOUT_DIGIT:
        if piece in text and test(facts):
            finders += some
    words = _BY_WORD.keys() & facts.tokens()
    for gate, some in {id(group): group for word in words for group in _BY_WORD[word]}.values():
        if gate.lets(facts):
            finders += some
    finders.sort(key=lambda finder: _ORDER[id(finder)])  # sets have another order in every process
    return _find(text, finders)


def find_without_gates(text: str) -> list[Span]:
    """What `find_pii` finds, with every pattern tried on every text: slow, and the measure of the gates."""
    return _find(text, [finder for _, finders in _GROUPS for finder in finders])


def _find(text: str, finders: list[Finder | type[KnownNames]]) -> list[Span]:
    found, labelled = list[Span](), dict[str, Span]()
    for finder in finders:
        spans = list(finder.spans(text))
        found += spans
        if isinstance(finder, Finder) and finder.is_labelled:
            labelled.update((span.text, span) for span in spans)
    if not found:
        return []
    for start, end in WholeWords(labelled).spans(text):
        span = labelled[text[start:end]]
        found.append(Span(start, end, span.kind, span.text, span.score))
    kept = _apart(found, len(text))
    mentions = further_mentions(text, [span.text for span in kept if span.kind == "PERSON"])
    return _apart([*kept, *mentions], len(text))


def _apart(spans: Iterable[Span], length: int) -> list[Span]:
    """The spans, best first, that overlap none before them; in the order of the text."""
    kept: list[Span] = []
    taken = bytearray(length)
    for span in sorted(spans, key=lambda span: (-span.score, span.start - span.end, span.start, span.kind)):
        if not any(taken[span.start : span.end]):
            taken[span.start : span.end] = b"\1" * (span.end - span.start)
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)
