"""Prompts as sets of numbered word triples, which templates are found in."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunewright.traffic.prompts import Prompt

_WORD = re.compile(r"\w+|\n+|[^\w\s]+")
_MOST_LETTERS = 12_000
"""Letters of a message that count: this many at its start, and a quarter of it at its end."""
_LEAD_WORDS = 8
"""Words of an instruction so short that it ends with a colon, such as `Translate to French:`."""
_EDGE, _LEAD = np.uint64(1), np.uint64(2)
"""Bits of a hash that tell its kind; the other bits are the words'."""
_MULTIPLIERS = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9], dtype=np.uint64)

Triples = NDArray[np.uint64]


def are_edges(triples: Triples) -> NDArray[np.bool_]:
    """Which of them begin or end a message."""
    found: NDArray[np.bool_] = (triples & _EDGE) != 0
    return found


def are_leads(triples: Triples) -> NDArray[np.bool_]:
    """Which of them stand for a message's first words up to a colon."""
    found: NDArray[np.bool_] = (triples & _LEAD) != 0
    return found


class Words:
    """Numbers the words of prompts.

    A word that is a number counts as any other number, because dates and amounts vary. Words beyond `most` share one
    number: the words of templates come early and often, so that only variable parts are affected.
    """

    def __init__(self, most: int = 2_000_000):
        self._most = most
        self._numbers: dict[str, int] = {}

    def triples(self, prompt: Prompt) -> Triples:
        """The hashes of all runs of three words in a prompt, each once, sorted.

        Each message begins with its role and ends with an end mark, both as words, so that a short instruction has
        triples of its own. The pair of a mark and the word beside it counts as well (`are_edges`), and so do the few
        words before a first colon (`are_leads`).
        """
        parts = [self._of_message(role, text) for role, text in prompt.messages]
        return np.unique(np.concatenate(parts)) if parts else np.empty(0, np.uint64)

    def _of_message(self, role: str, text: str) -> Triples:
        if len(text) > _MOST_LETTERS + _MOST_LETTERS // 4:
            text = f"{text[:_MOST_LETTERS]} … {text[-_MOST_LETTERS // 4 :]}"
        words = [f"<{role}>", *_WORD.findall(text), f"</{role}>"]
        ids = np.array(self._ids(words), dtype=np.uint64)
        others = ~(_EDGE | _LEAD)
        parts = [(np.array([ids[:2], ids[-2:]], dtype=np.uint64) @ _MULTIPLIERS[:2]) & others | _EDGE]
        if len(ids) > 2:
            runs = ids[:-2] * _MULTIPLIERS[0] + ids[1:-1] * _MULTIPLIERS[1] + ids[2:] * _MULTIPLIERS[2]
            parts.append(runs & others)
        colon = next((place for place, word in enumerate(words[: _LEAD_WORDS + 2]) if word.startswith(":")), 0)
        if colon:
            powers = _MULTIPLIERS[0] ** np.arange(colon, dtype=np.uint64)
            parts.append(np.array([(ids[:colon] * powers).sum()], dtype=np.uint64) & others | _LEAD)
        return np.concatenate(parts)

    def _ids(self, words: Sequence[str]) -> list[int]:
        numbers = self._numbers
        ids = []
        for word in words:
            if word.isdigit():
                word = "0"
            number = numbers.get(word)
            if number is None:
                number = len(numbers) + 1 if len(numbers) < self._most else 0
                if number:
                    numbers[word] = number
            ids.append(number)
        return ids
