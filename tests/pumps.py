"""Texts on which a regular expression takes longest, made from its own tree: each thing that it repeats, many times,
and then what breaks it off."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from re import _constants as sre
from re import _parser
from typing import Any

_MANY = 8
"""Repeats that may be as many or more are pumped; fewer take bounded time each."""
_FIRST = "aA0 \n.-:/@,_'\"<>[](){}#%&+=*|;!?~^$\\`é\t\r\x00"
"""What a class of characters is tried with."""
_BREAKS = ("", "\x00", "a")
"""What ends a text that would match without it."""


Pumped = tuple[str, str, str]
"""What a text begins with, what it repeats, and what it ends with."""


def pumps(pattern: re.Pattern[str]) -> Iterator[Pumped]:
    """Of everything that a pattern repeats without bound."""
    tree, seen = _parser.parse(pattern.pattern, pattern.flags & ~re.DEBUG), set()
    for before, unit in _repeats(list(tree), ""):
        for made in ((head, unit, end) for head in ("", before) for end in _BREAKS if unit):
            if made not in seen:
                seen.add(made)
                yield made


def of_length(pumped: Pumped, letters: int) -> str:
    head, unit, end = pumped
    return head + unit * (letters // len(unit)) + end


def _repeats(tree: Sequence[Any], before: str) -> Iterator[tuple[str, str]]:
    """(what matches the part before it, what it repeats once) of everything that is repeated."""
    for operation, argument in tree:
        for inner in _inner(operation, argument):
            yield from _repeats(inner, before)
        if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT) and argument[1] >= _MANY:
            for sample in _samples(argument[2]):
                yield before, sample
        before += next(iter(_samples([(operation, argument)])), "")


def _inner(operation: Any, argument: Any) -> list[Any]:
    if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        return [argument[2]]
    if operation is sre.SUBPATTERN:
        return [argument[3]]
    if operation is sre.BRANCH:
        return list(argument[1])
    if operation is sre.ATOMIC_GROUP:
        return [argument]
    if operation in (sre.ASSERT, sre.ASSERT_NOT):
        return [argument[1]]
    if operation is sre.GROUPREF_EXISTS:
        return [part for part in argument[1:] if part]
    return []


def _samples(tree: Sequence[Any]) -> list[str]:
    """Some texts that a tree matches, the shortest first."""
    found = [""]
    for operation, argument in tree:
        found = [head + tail for head in found for tail in _of_one(operation, argument)][:4]
    return found


def _of_one(operation: Any, argument: Any) -> list[str]:
    if operation is sre.LITERAL:
        return [chr(argument)]
    if operation is sre.ANY:
        return ["a", " "]
    if operation is sre.NOT_LITERAL:
        return [each for each in _FIRST if ord(each) != argument][:2]
    if operation is sre.IN:
        return _of_class(argument)
    if operation in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
        least, _, item = argument
        return [sample * max(least, 1) for sample in _samples(item)][:2] or [""]
    if operation is sre.SUBPATTERN:
        return _samples(argument[3])
    if operation is sre.BRANCH:
        return [sample for branch in argument[1] for sample in _samples(branch)[:1]][:4]
    if operation is sre.ATOMIC_GROUP:
        return _samples(argument)
    return [""]


def _of_class(items: Sequence[Any]) -> list[str]:
    """Some characters of a class."""
    one = re.compile(_class_of(items))
    known = [each for each in _FIRST if one.fullmatch(each)]
    if not known:
        known = [each for each in map(chr, range(0x21, 0x3000)) if one.fullmatch(each)]
    return [known[0], known[-1]] if len(known) > 1 else known


def _class_of(items: Sequence[Any]) -> str:
    names = {
        sre.CATEGORY_DIGIT: r"\d",
        sre.CATEGORY_NOT_DIGIT: r"\D",
        sre.CATEGORY_SPACE: r"\s",
        sre.CATEGORY_NOT_SPACE: r"\S",
        sre.CATEGORY_WORD: r"\w",
        sre.CATEGORY_NOT_WORD: r"\W",
    }
    parts = []
    for operation, argument in items:
        if operation is sre.NEGATE:
            parts.append("^")
        elif operation is sre.LITERAL:
            parts.append(re.escape(chr(argument)))
        elif operation is sre.RANGE:
            parts.append(f"{re.escape(chr(argument[0]))}-{re.escape(chr(argument[1]))}")
        else:
            parts.append(names[argument])
    return f"[{''.join(parts)}]"
