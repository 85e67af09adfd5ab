"""A generated set of requests to an assistant with 25 tools: what bench/tools.py trains on and is tested on.

bench/tools_set.yaml has the tools, and phrasings and values for training and others for the test. A phrasing leaves
optional arguments out or names them; some values are said in other words than the tool takes (dates, choices).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

SET = Path(__file__).with_suffix(".yaml")
ANSWER = "How can I help you with orders, calendar, travel, home, customers or banking?"
EACH = 8
"""One row in so many needs no call."""
TALK = {"city": "city", "name": "person", "item": "item"}
"""The kinds of the values in requests that need no call."""

Value = tuple[str, Any]
"""(as a request says it, as the tool takes it)."""
Draw = Callable[[random.Random, bool], Value]
"""(random numbers, whether it is for the test) -> a value."""
Kind = tuple[dict[str, Any], Draw]
"""A kind of argument: (its schema, how its values are drawn)."""


@cache
def known() -> dict[str, Any]:
    """The content of bench/tools_set.yaml."""
    found: dict[str, Any] = YAML(typ="safe").load(SET)
    return found


@cache
def kinds() -> dict[str, Kind]:
    """All kinds of arguments."""
    found = {
        "order": _code("A-", 5),
        "ticket": _code("T-", 4),
        "date": ({"type": "string", "format": "date"}, _date),
        "time": ({"type": "string", "pattern": "^[0-9]{2}:[0-9]{2}$"}, _time),
        "nights": _number(1, 29),
        "guests": _number(1, 19),
        "quantity": _number(1, 49),
        "degrees": _number(10, 29, " degrees"),
        "percent": _number(1, 100, " %"),
        "minutes": _number(5, 120, " minutes"),
        "amount": _number(10, 5000),
    }
    found |= {name: _values(parts) for name, parts in known()["values"].items()}
    return found | {name: _choice(said) for name, said in known()["choices"].items()}


def _values(parts: Mapping[str, list[str]]) -> Kind:
    def draw(randoms: random.Random, is_test: bool) -> Value:
        value = randoms.choice(parts["test" if is_test else "train"])
        return value, value

    return {"type": "string"}, draw


def _choice(said: Mapping[str, list[str]]) -> Kind:
    def draw(randoms: random.Random, is_test: bool) -> Value:
        value = randoms.choice(list(said))
        *usual, other = said[value]
        return (other if is_test else randoms.choice(usual)), value

    return {"enum": list(said)}, draw


def _number(low: int, high: int, unit: str = "") -> Kind:
    """A whole number. Those that end in 3 or 7 are for the test alone."""

    def draw(randoms: random.Random, is_test: bool) -> Value:
        value = randoms.choice([n for n in range(low, high + 1) if (n % 10 in (3, 7)) == is_test])
        return f"{value}{unit}", value

    return {"type": "integer", "minimum": low, "maximum": high}, draw


def _code(prefix: str, digits: int) -> Kind:
    """A number behind a prefix. Odd ones are for the test alone."""

    def draw(randoms: random.Random, is_test: bool) -> Value:
        value = f"{prefix}{randoms.randrange(10 ** (digits - 1), 10**digits, 2) + is_test}"
        return value, value

    return {"type": "string", "pattern": f"^{prefix}[0-9]{{{digits}}}$"}, draw


def _date(randoms: random.Random, is_test: bool) -> Value:
    day = date(2027 if is_test else 2026, 1, 1) + timedelta(days=randoms.randrange(365))
    said = randoms.choice((day.isoformat(), f"{day.day} {day:%B %Y}", f"{day:%B} {day.day}, {day.year}"))
    return said, day.isoformat()


def _time(randoms: random.Random, is_test: bool) -> Value:
    hour, minute = randoms.randrange(7, 21), randoms.choice((15, 45) if is_test else (0, 30))
    return f"{hour}:{minute:02}", f"{hour:02}:{minute:02}"


def tools() -> list[dict[str, Any]]:
    """The tools, in the form of OpenAI's API."""
    return [_definition(name, tool) for name, tool in known()["tools"].items()]


def _definition(name: str, tool: Mapping[str, Any]) -> dict[str, Any]:
    arguments: dict[str, str] = tool["arguments"]
    properties = {each: kinds()[kind.rstrip("?")][0] for each, kind in arguments.items()}
    required = [each for each, kind in arguments.items() if not kind.endswith("?")]
    parameters = {"type": "object", "properties": properties, "required": required}
    function = {"name": name, "description": tool["description"], "parameters": parameters}
    return {"type": "function", "function": function}


def rows(count: int, *, new_phrasings: bool, new_values: bool, seed: int) -> Iterator[dict[str, Any]]:
    """Chat rows, each with its phrasing as `template`. The tools take turns. With new values in phrasings of training,
    there are fewer rows: tools without arguments have none.

    Args:
        new_phrasings: those of the test; else those of training.
        new_values: likewise.
    """
    randoms = random.Random(f"{seed} {new_phrasings} {new_values}")
    part, names = "test" if new_phrasings else "train", list(known()["tools"])
    for number in range(count):
        if number % EACH == 0:
            name, arguments, phrasings = "", TALK, known()["talk"][part]
        else:
            name = names[(number - number // EACH - 1) % len(names)]
            arguments, phrasings = known()["tools"][name]["arguments"], known()["tools"][name][part]
        if new_values and not new_phrasings:  # without a value, a request would be one of training
            phrasings = [each for each in phrasings if "{" in each]
        if not phrasings:
            continue
        template = randoms.choice(phrasings)
        drawn = _drawn(
            {each: kind for each, kind in arguments.items() if f"{{{each}}}" in template}, randoms, new_values
        )
        text = template.format(**{each: said for each, (said, _) in drawn.items()})
        taken = {each: value for each, (_, value) in drawn.items()}
        answer = _calling(name, taken, number) if name else {"role": "assistant", "content": ANSWER}
        yield {"messages": [{"role": "user", "content": text}, answer], "template": template}


def _drawn(arguments: Mapping[str, str], randoms: random.Random, is_test: bool) -> dict[str, Value]:
    """A value of each argument; two of one kind differ."""
    drawn: dict[str, Value] = {}
    for name, kind in arguments.items():
        value = kinds()[kind.rstrip("?")][1](randoms, is_test)
        while value in drawn.values():
            value = kinds()[kind.rstrip("?")][1](randoms, is_test)
        drawn[name] = value
    return drawn


def _calling(name: str, arguments: Mapping[str, Any], number: int) -> dict[str, Any]:
    function = {"name": name, "arguments": json.dumps(arguments)}
    call = {"id": f"call_{number}", "type": "function", "function": function}
    return {"role": "assistant", "content": None, "tool_calls": [call]}
