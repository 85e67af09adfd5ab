"""Finding many known values in a text as whole words, in one pass however many there are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

_TOKEN, _WORD = re.compile(r"\w+|\W"), re.compile(r"\w+")
_DEEPEST = 64
"""Depth of the tree in tokens. Values that share that many tokens are compared one by one."""
_ENDS = ""
"""The key of the values that end at a node. No token is empty."""


class WholeWords:
    """Values to find in texts. A value within a longer word does not count.

    Args:
        values: texts of at least one character.
    """

    def __init__(self, values: Iterable[str]):
        # A tree of tokens: a text is followed once from each of its words, however many values begin alike.
        self._tree: dict[str, Any] = {}
        for value in values:
            node = self._tree
            for token in _TOKEN.findall(value)[:_DEEPEST]:
                node = node.setdefault(token, {})
            node.setdefault(_ENDS, []).append(value)
        self._firsts = _WORD if all(_in_word(first[0]) for first in self._tree) else _TOKEN

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """(start, end) of each place of a value, ordered by start and then by end. They may overlap."""
        for first in self._firsts.finditer(text) if self._tree else ():
            start = first.start()
            node = self._tree.get(first[0])
            if node is None or (start and _in_word(text[start - 1])):
                continue
            token: re.Match[str] | None = first
            ends = set[int]()
            while node and token:
                stops = (start + len(value) for value in node.get(_ENDS, ()) if text.startswith(value, start))
                ends.update(stop for stop in stops if stop == len(text) or not _in_word(text[stop]))
                token = _TOKEN.match(text, token.end())
                node = node.get(token[0]) if token else None
            yield from ((start, end) for end in sorted(ends))


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"
