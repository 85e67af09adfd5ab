"""Finding personal data and secrets by their form: patterns, check digits, lists of names, and the words around them.

There is no model behind this. Organisations, titles, ages, nationalities, and cities and countries by themselves are
not looked for. bench/pii.py measures each kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tunewright.data.pii.addresses import ADDRESSES
from tunewright.data.pii.patterns import PATTERNS
from tunewright.data.pii.persons import SAID, KnownNames, further_mentions
from tunewright.data.pii.spans import Facts, Finder, Gate, Span

_GROUPS: list[tuple[Gate, Sequence[Finder | type[KnownNames]]]] = [
    *PATTERNS,
    *ADDRESSES,
    *SAID,
    (Gate(test=KnownNames.may_find), [KnownNames]),
]
_ALWAYS = [group for group in _GROUPS if not group[0].words]
_BY_WORD: dict[str, list[tuple[Gate, Sequence[Finder | type[KnownNames]]]]] = {}
for _group in _GROUPS:
    for _word in _group[0].words:
        _BY_WORD.setdefault(_word, []).append(_group)
# Letters that are an ASCII letter to a pattern that ignores case, and not to str.lower().
_ODD_LETTERS = re.compile("[ıİſ\N{KELVIN SIGN}]")


def find_pii(text: str) -> list[Span]:
    """The spans that hold personal data or secrets, in order, none overlapping.

    Where forms overlap, the higher score and then the longer one wins. A value found by the words beside it, and each
    word of a person's name, is found wherever else it stands in the text.
    """
    if not text.isascii() and _ODD_LETTERS.search(text):
        return find_without_gates(text)
    facts = Facts(text)
    groups = [*_ALWAYS, *{id(g): g for word in _BY_WORD.keys() & facts.tokens() for g in _BY_WORD[word]}.values()]
    return _find(text, [finder for gate, finders in groups if gate.test(facts) for finder in finders])


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
    for value, span in labelled.items():
        for match in re.finditer(rf"(?<!\w){re.escape(value)}(?!\w)", text):
            found.append(Span(*match.span(), span.kind, value, span.score))
    found += further_mentions(text, [span.text for span in found if span.kind == "PERSON"])
    return _apart(found, len(text))


def _apart(spans: Iterable[Span], length: int) -> list[Span]:
    """The spans, best first, that overlap none before them; in the order of the text."""
    kept: list[Span] = []
    taken = bytearray(length)
    for span in sorted(spans, key=lambda span: (-span.score, span.start - span.end, span.start)):
        if not any(taken[span.start : span.end]):
            taken[span.start : span.end] = b"\1" * (span.end - span.start)
            kept.append(span)
    return sorted(kept, key=lambda span: span.start)
