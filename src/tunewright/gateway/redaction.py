"""Redaction: personal data is taken out of exchanges before they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from tunewright.gateway.answers import AnswerChoice
from tunewright.serving.redaction import Redaction

_STRUCTURE = frozenset(("model", "role", "type", "name", "id", "format", "detail", "finish_reason", "tool_call_id"))
"""Keys of a request whose values name something of the API or of the application, and nobody."""
_FREE = frozenset(("metadata", "variables"))
"""Keys below which the application chooses the keys, so that no key says what its value is."""


def redact(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields of an exchange with the kind, such as [EMAIL], in place of personal data.

    A value that is found in one text is replaced in the others too.
    """
    choices: list[AnswerChoice] = fields["choices"]
    written = [text for choice in choices for text in _texts(choice)]
    redaction = Redaction(_strings(fields["request"]), written)
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


def _strings(value: Any, key: str = "", *, free: bool = False) -> Iterator[str]:
    """The texts in a JSON value.

    Args:
        free: whether the application chose the key.
    """
    if isinstance(value, str) and (free or key not in _STRUCTURE):
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each, key, free=free)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _strings(each, name, free=free or key in _FREE)


def _changed(value: Any, change: Callable[[str], str], key: str = "", *, free: bool = False) -> Any:
    if isinstance(value, str):
        return change(value) if free or key not in _STRUCTURE else value
    if isinstance(value, list):
        return [_changed(each, change, key, free=free) for each in value]
    if isinstance(value, dict):
        free = free or key in _FREE
        return {name: _changed(each, change, name, free=free) for name, each in value.items()}
    return value
