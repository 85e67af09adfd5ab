"""Finding the fixed text around the input that nearly all requests have: the instruction that a program puts before
and behind each text that it sends."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence

from tunewright.tasks.input_template import InputTemplate

SAMPLE = 500
"""Requests that the fixed text is found in."""
_NEARLY_ALL = 0.9
"""The share of the requests that have it. Jobs in a log are found by the same share."""
_AS_MANY = 0.98
"""The share of the requests with the words so far that have the next word, too. Where fewer have it, the input
begins."""
_LEAST_WORDS, _LEAST_LETTERS = 3, 15
"""Of the fixed text on one side. Less may be a way of speaking, such as "I have a"."""
_MOST_LETTERS = 20_000
"""Of a request that are looked at from either end. An instruction is shorter, and the sample of long documents stays
small."""
_OPENS, _CLOSES = re.compile(r"(\n|[\"'`>\])}:*#=|-])\s*$"), re.compile(r"\s*(\n|[\"'`<\[({*#=|-])")
"""A shorter text before (behind) the input counts if the other side has an instruction and such a sign is next to the
input: a quotation mark, a tag or a line end."""
_PIECE = re.compile(r"\w+|\s+|[^\w\s]")
_SENTENCE_ENDS = ".!?…"
"""Signs between the input and the fixed text that belong to the input, even if nearly all inputs end so."""


def sample_of(requests: Iterable[str], seed: int = 0) -> list[str]:
    """At most SAMPLE of the requests, drawn at random in one pass. Of long ones the middle is left out."""
    draw, kept = random.Random(seed), list[str]()
    for number, request in enumerate(requests):
        place = number if len(kept) < SAMPLE else draw.randrange(number + 1)
        if place < SAMPLE:
            is_long = len(request) > 2 * _MOST_LETTERS
            kept[place : place + 1] = [request[:_MOST_LETTERS] + request[-_MOST_LETTERS:] if is_long else request]
    return kept


def find_template(requests: Sequence[str]) -> InputTemplate | None:
    """The fixed text around the input; None: nearly all requests have none in common, or nothing else."""
    texts = [request.strip() for request in requests]
    least = _NEARLY_ALL * len(texts)
    before = _common(texts, least)
    before = before if _is_long(before) or _OPENS.search(before) else ""
    alike = [text for text in texts if text.startswith(before)]
    backwards = [text[len(before) :][::-1] for text in alike]
    after = _common(backwards, least)[::-1].lstrip(_SENTENCE_ENDS)
    after = after if _is_long(after) or _CLOSES.match(after) else ""
    if not (_is_long(before) or _is_long(after)):
        return None
    template = InputTemplate(before, after)
    inputs = {template.input_of(text) for text in alike if text.endswith(after)}
    return template if len(inputs) > 1 else None


def _common(texts: Sequence[str], least: float) -> str:
    """What at least `least` of the texts begin with: words, signs and white space, as far as nearly the same texts
    have them."""
    alive, place = list(texts), 0
    while alive:
        pieces = Counter(found.group() for text in alive if (found := _PIECE.match(text, place)))
        if not pieces:
            break
        piece, count = pieces.most_common(1)[0]
        if count < least or (place and count < _AS_MANY * len(alive)):
            break
        alive = [text for text in alive if text.startswith(piece, place) and _ends(text, place, piece)]
        place = _further(alive, place + len(piece))
    return alive[0][:place] if alive else ""


def _further(texts: Sequence[str], place: int) -> int:
    """The end of the last piece but one that all texts share letter by letter: a step over many words at once."""
    first, last = min(texts), max(texts)  # all between these two share what they share
    pairs = enumerate(zip(first, last, strict=False))
    shared = next((number for number, (a, b) in pairs if a != b), min(len(first), len(last)))
    ends = [found.end() for found in _PIECE.finditer(texts[0], place, shared)]
    return ends[-2] if len(ends) > 1 else place


def _ends(text: str, place: int, piece: str) -> bool:
    """Whether a piece ends where it is found: "card" is not the beginning of "cards"."""
    found = _PIECE.match(text, place)
    return found is not None and found.group() == piece


def _is_long(text: str) -> bool:
    """Whether a text is long enough to be an instruction."""
    return len(re.findall(r"\w+", text)) >= _LEAST_WORDS and len(text.strip()) >= _LEAST_LETTERS
