"""What a span says of a call's texts, and the parts that the vocabularies of attributes have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunewright.logs.call import LoggedAnswer, tool_call
from tunewright.logs.otlp_spans import DEEPEST
from tunewright.logs.python_texts import python_as_json
from tunewright.logs.values import items, mapping, parsed, text


@dataclass(frozen=True)
class Said:
    """What the attributes of one vocabulary say."""

    request: dict[str, Any]
    """In the form of OpenAI's API; without messages or an input where the span has none."""
    answer: LoggedAnswer | None
    response: Mapping[str, Any] = field(default_factory=dict)
    """The answer's whole object, in the form of OpenAI's API, where the span has it."""
    is_whole: bool = False
    """Whether the texts stand in one attribute each, so that none of them can have been dropped."""
    cut: str | None = None
    """The attribute whose JSON text ends in the middle."""


def loosely_parsed(value: Any) -> Any:
    """The value of a text that is a list or an object in JSON, or as Python shows it, which is common where a program
    passed `str(messages)`, and in data frames written as CSV."""
    found = parsed(value)
    if not isinstance(found, str) or found.lstrip()[:1] not in ("{", "["):
        return found
    return parsed(python_as_json(found))


def is_cut(value: Any) -> bool:
    """Whether a text begins as JSON and does not end as such: SDKs can limit the length of an attribute."""
    return isinstance(value, str) and value.lstrip()[:1] in ("{", "[") and isinstance(loosely_parsed(value), str)


def nested(attributes: Mapping[str, Any], name: str) -> list[Any]:
    """The list that was flattened to attributes `<name>.<number>.<...>`. In Phoenix's data frames it is a list again,
    of objects whose keys have dots."""
    if isinstance(listed := loosely_parsed(attributes.get(name)), list):
        return [_unflattened(each) for each in listed]
    begin = f"{name}."
    tree = _unflattened({key.removeprefix(begin): value for key, value in attributes.items() if key.startswith(begin)})
    if isinstance(tree, list):
        return tree
    return [tree[key] for key in sorted(filter(_is_number, tree), key=int)]  # beside numbers: a filter's results


class _Tree(dict[str, Any]):
    """An object that dotted keys stood for, apart from objects that were values."""


def _unflattened(value: Any, depth: int = 0) -> Any:
    """A value whose dotted keys are objects in objects, and objects whose keys are all numbers lists."""
    if depth > DEEPEST:
        return None
    if isinstance(value, list):
        return [_unflattened(each, depth + 1) for each in value]
    if not isinstance(value, Mapping):
        return value
    tree = _Tree()
    for key, inner in value.items():
        place = tree
        *path, last = str(key).split(".", 12)
        for step in path:
            below = place.get(step)
            if not isinstance(below, _Tree):
                below = place[step] = _Tree()
            place = below
        place[last] = _unflattened(inner, depth + 1) if isinstance(inner, list) else inner
    return _with_lists(tree)


def _with_lists(tree: _Tree) -> Any:
    for key, inner in tree.items():
        if isinstance(inner, _Tree):
            tree[key] = _with_lists(inner)
    if tree and all(map(_is_number, tree)):
        return [tree[key] for key in sorted(tree, key=int)]
    return tree


def _is_number(key: str) -> bool:
    return key.isascii() and key.isdigit() and len(key) < 10


def json_text(value: Any) -> str:
    """A text as it is, no value as an empty object, and any other as JSON."""
    if isinstance(value, str):
        return value
    return "{}" if value is None else json.dumps(value, ensure_ascii=False)


def message_of(role: Any, content: Any, calls: list[dict[str, Any]] | None = None, **known: Any) -> dict[str, Any]:
    """A chat message.

    Args:
        known: its other fields; those that are no text are left out.
    """
    message = {"role": role, "content": content}
    if calls:
        message["tool_calls"] = calls
    return message | {name: value for name, value in known.items() if text(value)}


def call_of_tool(call: Mapping[str, Any]) -> dict[str, Any] | None:
    """A tool call in the form of chat messages, from one whose function is in an object of its own, or is not."""
    function = mapping(call.get("function")) or call
    name = text(function.get("name"))
    return tool_call(name, json_text(function.get("arguments")), text(call.get("id")) or "") if name else None


def function_tool(name: Any, description: Any, parameters: Any) -> dict[str, Any]:
    """A tool in the form of chat completions, without what is not known of it."""
    known = {"name": name, "description": description, "parameters": dict(mapping(parameters)) or None}
    return {"type": "function", "function": {key: value for key, value in known.items() if value is not None}}


def first_reason(attributes: Mapping[str, Any]) -> str | None:
    """Why the first choice ended, as the span has it."""
    return next((reason for reason in items(attributes.get("gen_ai.response.finish_reasons")) if text(reason)), None)
