"""Redaction: personal data is taken out of exchanges before they are written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tunewright.gateway.answers import AnswerChoice
from tunewright.serving.redaction import Redaction

_STRUCTURE = frozenset(("model", "role", "type", "id", "format", "detail", "finish_reason", "tool_call_id"))
"""Keys of a request whose values name something of the API or of the application, and nobody."""
_OF_TOOLS = frozenset(
    ("tools", "functions", "function", "function_call", "tool_calls", "tool_choice", "response_format", "format")
)
"""Keys below which a `name` is that of a tool or of a schema. A message's `name` is that of a person."""
_USER_NAME = re.compile(r"[^\W\d_]{2,}(?:[_.-][^\W\d_]{2,}){1,3}")
"""A text that may be the name of a person as the APIs allow it: letters, digits, `_` and `-`."""
_JOINT = re.compile("[_.-]")
_FREE = frozenset(("metadata", "variables"))
"""Keys below which the application chooses the keys, so that no key says what its value is."""


def redact(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of an exchange with the kind, such as [EMAIL], in place of personal data.

    A value that is found in one text is replaced in the others too.
    """
    choices: list[AnswerChoice] = fields["choices"]
    asked: list[str] = []

    def noted(text: str) -> str:
        asked.append(text)
        if _USER_NAME.fullmatch(text):  # `ada_lovelace` reads as "Ada Lovelace"
            asked.append(_JOINT.sub(" ", text).title())
        return text

    _changed(fields["request"], noted)
    redaction = Redaction(asked, [text for choice in choices for text in _texts(choice)])
    return {
        **fields,
        "request": _changed(fields["request"], redaction.plain),
        "choices": [_redacted(choice, redaction) for choice in choices],
    }


def _texts(choice: AnswerChoice) -> list[str]:
    return [choice.text, choice.refusal, *(call["arguments"] for call in choice.tool_calls)]


def _redacted(choice: AnswerChoice, redaction: Redaction) -> AnswerChoice:
    calls = [{**call, "arguments": redaction.answer(call["arguments"])} for call in choice.tool_calls]
    return replace(
        choice, text=redaction.answer(choice.text), refusal=redaction.answer(choice.refusal), tool_calls=calls
    )


def _changed(
    value: Any, change: Callable[[str], str], key: str = "", *, is_free: bool = False, names_tool: bool = False
) -> Any:
    """A JSON value with its texts changed.

    Args:
        is_free: whether the application chose the key.
        names_tool: whether a `name` here is that of a tool or of a schema.
    """
    if isinstance(value, str):
        is_structure = key in _STRUCTURE or (key == "name" and names_tool)
        return change(value) if is_free or not is_structure else value
    if isinstance(value, list):
        return [_changed(each, change, key, is_free=is_free, names_tool=names_tool) for each in value]
    if isinstance(value, dict):
        is_free = is_free or key in _FREE
        names_tool = names_tool or key in _OF_TOOLS or "call_id" in value or value.get("role") in ("tool", "function")
        return {
            name: _changed(each, change, name, is_free=is_free, names_tool=names_tool) for name, each in value.items()
        }
    return value
