"""Guessing the tools of a job from conversations in which the assistant calls them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunewright.config.tool_list import MOST_TOOLS, UnfitTool, name_of, plain_tool
from tunewright.data.guess.schema import guess_schema
from tunewright.tasks import Example

_LEAST = 0.1
"""Share of answers that must be calls. Fewer calls are outliers in a job of another kind."""


def guess_tools(examples: Sequence[Example]) -> list[dict[str, Any]] | None:
    """The tools that rows offer, each as the last row has it, and those that answers call, with a schema guessed from
    the arguments where no row defines them; None where answers are hardly ever calls."""
    calls = [list(_calls(example)) for example in examples]
    if sum(map(bool, calls)) < max(1, _LEAST * len(examples)):
        return None
    tools = {name_of(tool): tool for example in examples for tool in _offered(example)}
    arguments: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for name, values in (call for each in calls for call in each):
        arguments[name].append(values)
    for name, given in arguments.items():
        if name not in tools:
            guessed = {"type": "function", "function": {"name": name, "parameters": guess_schema(given)}}
            tools |= {name: guessed} if _is_tool(guessed) else {}
    return list(tools.values())[:MOST_TOOLS] or None


def _offered(example: Example) -> Iterator[dict[str, Any]]:
    for tool in example.tools or ():
        try:
            yield plain_tool(tool)
        except UnfitTool:
            continue


def _calls(example: Example) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(the tool, its arguments) of each call in the answer whose arguments are an object."""
    for call in example.messages[-1].tool_calls or ():
        function = call["function"]
        try:
            arguments = json.loads(function.get("arguments") or "{}")
        except (ValueError, RecursionError):
            continue
        if isinstance(arguments, Mapping):
            yield function["name"], arguments


def _is_tool(tool: Mapping[str, Any]) -> bool:
    try:
        plain_tool(tool)
    except UnfitTool:
        return False
    return True
