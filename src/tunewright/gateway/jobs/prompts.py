"""What a request says to a model, in the one form that jobs are found by: messages, and the form of the answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.gateway.routes import Kind

SYSTEM, USER, ASSISTANT, TOOL = "system", "user", "assistant", "tool"
_ROLES = {"developer": SYSTEM, "function": TOOL}
"""OpenAI's other names for the roles."""
PLAIN = json.dumps([[], None, []])
"""The form of an answer that may be any text."""
_MOST_KEYS = 500
"""Keys of a schema that count towards a job's form."""


@dataclass(frozen=True)
class Prompt:
    """A request's messages, and what it asks of the answer's form."""

    kind: Kind
    """Of the route."""
    form: str
    """What the answer has to look like: the tools' names, and the keys of the schema; and the prompt that the API keeps
    and the request only names. The same for all of a job."""
    messages: tuple[tuple[str, str], ...]
    """(role, text), in order. A picture's text is its type."""
    is_text: bool = True
    """Whether `messages` hold all that was sent: there are no pictures, sounds, files and tool calls, and nothing is
    put into a prompt that the API keeps."""

    @property
    def last(self) -> str:
        """The text of the last message."""
        return self.messages[-1][1] if self.messages else ""

    @property
    def system(self) -> str:
        """The text of its system messages."""
        return "\n\n".join(text for role, text in self.messages if role == SYSTEM)


def read_prompt(kind: Kind, request: Mapping[str, Any]) -> Prompt:
    """The prompt of a request's JSON object. Whatever is not of OpenAI's form is left out."""
    listed: Any
    messages = []
    if kind == "responses":
        given = request.get("input")
        listed = given if isinstance(given, list) else [{"role": USER, "content": given}]
        messages = [(SYSTEM, request["instructions"])] if isinstance(request.get("instructions"), str) else []
    elif kind == "chat":
        listed = request.get("messages")
    else:
        given = request.get("prompt" if kind == "completions" else "input")
        listed = [{"role": USER, "content": text} for text in _texts(given)]
    messages += _messages(listed)
    stored, has_values = _stored_prompt(request)
    is_text = isinstance(listed, list) and all(map(_is_text, listed)) and not has_values
    return Prompt(kind, _form(request, stored), tuple(messages), is_text)


def _stored_prompt(request: Mapping[str, Any]) -> tuple[str | None, bool]:
    """(the name of the prompt that the API keeps, None: the request has its own; whether the request fills it in).

    Source: `ResponsePrompt` of OpenAI's client (2026-12-01).
    """
    named = request.get("prompt")
    if not isinstance(named, Mapping) or not isinstance(named.get("id"), str):
        return None, False
    return named["id"], bool(named.get("variables"))


def _messages(listed: Any) -> Iterator[tuple[str, str]]:
    for message in listed if isinstance(listed, list) else ():
        if isinstance(message, Mapping) and isinstance(role := message.get("role"), str):
            yield _ROLES.get(role, role), "\n".join(_texts(message.get("content")))


def _is_text(message: Any) -> bool:
    """Whether a message is text alone."""
    if not isinstance(message, Mapping) or "role" not in message or message.get("tool_calls"):
        return False
    content = message.get("content")
    if not isinstance(content, list):
        return isinstance(content, str)
    return all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content)


def _texts(content: Any) -> Iterator[str]:
    """The texts of a message's content, which is a text or a list of parts."""
    if isinstance(content, str):
        yield content
        return
    for part in content if isinstance(content, list) else ():
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping):
            text = part.get("text")
            yield text if isinstance(text, str) else f"[{part.get('type')}]"


def _form(request: Mapping[str, Any], stored: str | None) -> str:
    listed = request.get("tools")
    tools = sorted(
        _tool_name(each) for each in (listed if isinstance(listed, list) else ()) if isinstance(each, Mapping)
    )
    form = request.get("response_format")
    text = request.get("text")
    if form is None and isinstance(text, Mapping):
        form = text.get("format")  # of the Responses API
    schema = None
    kind = form.get("type") if isinstance(form, Mapping) else None
    if isinstance(form, Mapping) and kind == "json_schema":
        schema = form.get("json_schema", form)
    keys = sorted(set(_keys(schema)))[:_MOST_KEYS]
    return json.dumps([tools, kind if kind != "text" else None, keys, *([stored] if stored else [])])


def _tool_name(tool: Mapping[str, Any]) -> str:
    function = tool.get("function")
    name = function.get("name") if isinstance(function, Mapping) else tool.get("name", tool.get("type"))
    return str(name)


def _keys(schema: Any) -> Iterator[str]:
    """The names of all properties in a schema."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            properties = part.get("properties")
            if isinstance(properties, Mapping):
                yield from map(str, properties)
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
