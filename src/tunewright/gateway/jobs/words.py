"""Prompts as sets of word triples, which templates are found in. A triple is a 64-bit hash that is always the same."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunewright.gateway.jobs.prompts import SYSTEM, Prompt

Triples = NDArray[np.uint64]

_WORD = re.compile(r"\w+|\n+|[^\w\s]+")
_MOST_LETTERS = 12_000
"""Letters of a message that count: this many at its start, and a quarter of it at its end."""
_LEAD_WORDS = 8
"""Words of an instruction so short that it ends with a colon, such as `Translate to French:`."""
_EDGE, _LEAD, _SYSTEM = np.uint64(1), np.uint64(2), np.uint64(4)
_PLAIN = ~(_EDGE | _LEAD | _SYSTEM)
"""Bits of a hash that tell its kind; the other bits are the words'."""
_MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)
_CACHED = 1 << 20
_LONGEST_CACHED = 40
"""Letters of a cached word. Longer ones, such as keys and encoded files, never come again, and their memory adds up."""
_hashes: dict[str, int] = {}
"""The hashes of the last words. Most words occur again and again."""


def are_edges(triples: Triples) -> NDArray[np.bool_]:
    """Which of them begin or end a message."""
    found: NDArray[np.bool_] = (triples & _EDGE) != 0
    return found


def are_leads(triples: Triples) -> NDArray[np.bool_]:
    """Which of them stand for a message's first words up to a colon."""
    found: NDArray[np.bool_] = (triples & _LEAD) != 0
    return found


def are_systems(triples: Triples) -> NDArray[np.bool_]:
    """Which of them are in a system message."""
    found: NDArray[np.bool_] = (triples & _SYSTEM) != 0
    return found


def triples_of(prompt: Prompt) -> Triples:
    """All runs of three words in a prompt, each once, sorted.

    Each message begins with its role and ends with an end mark, both as words, so that a short instruction has triples
    of its own. The pair of a mark and the word beside it counts as well (`are_edges`), and so do the few words before a
    first colon (`are_leads`). A number counts as any other number, because dates and amounts vary.
    """
    parts = [_of_message(role, text) for role, text in prompt.messages]
    return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint64)


def fixed_triples_of(prompt: Prompt) -> Triples:
    """The runs of three words by which a prompt is cut into fixed and variable parts (`words_in`), each once, sorted.

    Outside of system messages they hold numbers as they are: an amount or an order's number belongs to the input. The
    date in a system message does not.
    """
    runs = [_fixed_runs(role, _ids(role, _WORD.findall(text), role == SYSTEM)) for role, text in prompt.messages]
    return np.unique(np.concatenate(runs)) if runs else np.empty(0, np.uint64)


def words_in(role: str, text: str, fixed: Triples) -> list[tuple[int, bool]]:
    """For each word of a message, where it begins and whether it is part of a fixed triple.

    Args:
        fixed: as `fixed_triples_of` gives them.
    """
    found = list(_WORD.finditer(text))
    ids = _ids(role, [each.group() for each in found], role == SYSTEM)
    covered = np.zeros(len(ids), bool)
    if len(ids) > 2:
        hits = np.flatnonzero(np.isin(_fixed_runs(role, ids), fixed))
        for offset in range(3):
            covered[hits + offset] = True
    return [(each.start(), bool(is_in)) for each, is_in in zip(found, covered[1:-1], strict=True)]


def _of_message(role: str, text: str) -> Triples:
    if len(text) > _MOST_LETTERS + _MOST_LETTERS // 4:
        text = f"{text[:_MOST_LETTERS]} … {text[-_MOST_LETTERS // 4 :]}"
    words = _WORD.findall(text)
    ids = _ids(role, words)
    edges = np.array([ids[:2], ids[-2:]], dtype=np.uint64) @ _MULTIPLIERS[:2]
    parts = [edges & _PLAIN | _EDGE]
    if len(ids) > 2:
        parts.append(_runs(ids))
    colon = next((place for place, word in enumerate(words[:_LEAD_WORDS], 1) if word.startswith(":")), 0)
    if colon:
        lead = ids[:colon] * _MULTIPLIERS[0] ** np.arange(colon, dtype=np.uint64)
        parts.append(lead.sum(keepdims=True) & _PLAIN | _LEAD)
    return np.concatenate(parts) | _kind(role)


def _fixed_runs(role: str, ids: Triples) -> Triples:
    return _runs(ids) | _kind(role) if len(ids) > 2 else np.empty(0, np.uint64)


def _kind(role: str) -> np.uint64:
    return _SYSTEM if role == SYSTEM else np.uint64(0)


def _ids(role: str, words: Sequence[str], are_numbers_alike: bool = True) -> Triples:
    """A hash for each word, the marks of its role around them."""
    if len(_hashes) > _CACHED:
        _hashes.clear()
    ids = []
    for word in (f"<{role}>", *words, f"</{role}>"):
        if word.isdigit():
            ids.append(zlib.crc32(b"0" if are_numbers_alike else word.encode()))
            continue
        number = _hashes.get(word)
        if number is None:
            number = zlib.crc32(word.encode("utf-8", "replace"))
            if len(word) <= _LONGEST_CACHED:
                _hashes[word] = number
        ids.append(number)
    return np.array(ids, dtype=np.uint64)


def _runs(ids: Triples) -> Triples:
    """The hashes of all runs of three words, in order."""
    hashes: Triples = ids[:-2] * _MULTIPLIERS[0] + ids[1:-1] * _MULTIPLIERS[1] + ids[2:] * _MULTIPLIERS[2]
    return hashes & _PLAIN
