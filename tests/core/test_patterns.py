"""Every regular expression of the package takes time that grows as its text does, or is only asked about short ones.

Each is given texts that repeat what it repeats and then break off, the longer ones only where the shorter took no time.
On a quadratic one the longest takes some hundred times as long as on a linear one, and an exponential one is found out
by twenty-four letters.
"""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import tunewright
from tests.pumps import of_length, pumps

pytestmark = pytest.mark.slow

ROOT = Path(tunewright.__file__).parent
LETTERS = (20, 24, 100, 300, 1000, 8000)
SECONDS = 0.1
"""Of CPU time on at most 8,000 letters: a linear pattern takes a hundredth of it, a quadratic one three times it."""
SHORT = {
    "tunewright.documents.thread:_MORE_INTRODUCTIONS": "lines of at most LONGEST_LINE letters",
}
"""Patterns that grow faster than their text, and why that is no matter."""
QUICK = (r"a+", r"(?<!\s)\s++$", r"^\w+$")
"""Patterns that take as many steps as a text has letters."""
_METHODS = re.compile(r"\b(_?[A-Z][A-Z_]*)\.(match|fullmatch|search|sub|subn|split|findall|finditer)\b")


def test_the_pumps_find_what_is_known_to_be_slow() -> None:
    quickly = max(slowest(re.compile(quick).search, re.compile(quick)) for quick in QUICK)
    assert quickly < SECONDS
    for slow in (r"(a+)+$", r"\s+$", r"(.*\n)*x", r"\w+@\w+", r"(?:a|a)*b"):
        assert slowest(re.compile(slow).search, re.compile(slow)) > 100 * quickly, slow


def slowest(ask: Callable[[str], Any], pattern: re.Pattern[str]) -> float:
    """CPU seconds that it takes on the first text that takes long, or on the one that takes longest."""
    worst = 0.0
    for pumped in pumps(pattern):
        for letters in LETTERS:
            text, began = of_length(pumped, letters), time.process_time()
            ask(text)
            worst = max(worst, took := time.process_time() - began)
            if took > SECONDS:
                return worst
            if letters == 1000 and took < SECONDS / 500:
                break
    return worst


def modules() -> Iterator[Any]:
    for found in pkgutil.walk_packages(tunewright.__path__, "tunewright."):
        if not found.name.endswith(("__main__", "migrations.env")):
            yield importlib.import_module(found.name)


@cache
def named() -> dict[str, re.Pattern[str]]:
    """The patterns that modules hold, by where they stand."""
    found: dict[str, re.Pattern[str]] = {}
    seen: set[int] = set()

    def look(place: str, value: Any, depth: int = 0) -> None:
        if isinstance(value, re.Pattern):
            if isinstance(value.pattern, str) and id(value) not in seen:
                found[place] = value
            seen.add(id(value))
        elif depth < 5 and isinstance(value, list | tuple | set | frozenset):
            for number, each in enumerate(value):
                look(f"{place}[{number}]", each, depth + 1)
        elif depth < 5 and isinstance(value, dict):
            for key, each in value.items():
                look(f"{place}[{key}]", each, depth + 1)
        elif depth < 5 and type(value).__module__.startswith("tunewright") and hasattr(value, "__dict__"):
            look(place, vars(value), depth + 1)

    for module in modules():
        for name, value in vars(module).items():
            if not name.startswith("__"):
                look(f"{module.__name__}:{name}", value)
    return found


@cache
def written() -> dict[str, tuple[str, str]]:
    """(method, pattern) of each that is written where it is asked, by file and line."""
    found = {}
    for file in sorted(ROOT.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(value=ast.Name(id="re"), attr=method),
                    args=[ast.Constant(value=str(pattern)), *_],
                ) if method not in ("compile", "escape"):
                    found[f"{file.relative_to(ROOT)}:{node.lineno}"] = (method, pattern)
    return found


@cache
def methods() -> dict[str, set[str]]:
    """By a pattern's name, in which ways it is asked."""
    found: dict[str, set[str]] = {}
    for file in ROOT.rglob("*.py"):
        for name, method in _METHODS.findall(file.read_text("utf-8")):
            found.setdefault(name, set()).add(method)
    return found


def way(asked: set[str]) -> str:
    """The slowest of some ways to ask a pattern."""
    return next((each for each in ("fullmatch", "match") if asked and asked <= {each}), "search")


def test_time_grows_as_the_text_does() -> None:
    slow = {}
    for place, pattern in named().items():
        ask = getattr(pattern, way(methods().get(place.rpartition(":")[2], set())))
        if (seconds := slowest(ask, pattern)) > SECONDS:
            slow[place] = f"{seconds:.2f} s: {pattern.pattern[:100]}"
    for place, (method, text) in written().items():
        pattern = re.compile(text)
        if (seconds := slowest(getattr(pattern, way({method})), pattern)) > SECONDS:
            slow[place] = f"{seconds:.2f} s: {text[:100]}"
    assert {place: told for place, told in slow.items() if place not in SHORT} == {}
    assert SHORT.keys() <= named().keys()
    assert len(named()) > 100
    assert len(written()) > 50
