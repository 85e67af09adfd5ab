"""The attributes of OpenTelemetry's GenAI conventions since 1.37: whole messages, as JSON text or structured.

Source: open-telemetry/semantic-conventions-genai, docs/gen-ai/gen-ai-spans.md and model/gen-ai/*.json (2026-11-30).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunewright.logs.call import LoggedAnswer, answer_of_message
from tunewright.logs.otlp_spans import TraceSpan
from tunewright.logs.otlp_texts import (
    Said,
    call_of_tool,
    first_reason,
    function_tool,
    is_cut,
    json_text,
    loosely_parsed,
    message_of,
)
from tunewright.logs.values import count, items, mapping, mappings, text

_INPUT, _OUTPUT = "gen_ai.input.messages", "gen_ai.output.messages"
_SYSTEM, _TOOLS = "gen_ai.system_instructions", "gen_ai.tool.definitions"
_DETAILS = "gen_ai.client.inference.operation.details"
"""The name of an event that has the same attributes."""


def genai_said(span: TraceSpan) -> Said | None:
    """What a span says in these attributes; None: it has none of them."""
    attributes = dict(span.attributes)
    for event in span.events:
        if event.name == _DETAILS:
            attributes = {**event.attributes, **attributes}
    if not {_INPUT, _OUTPUT, _SYSTEM} & attributes.keys():
        return None
    messages = [each for message in _listed(attributes.get(_INPUT)) for each in _messages(message)]
    system = _content(_parts(attributes.get(_SYSTEM)))
    if system and messages and not (messages[0]["role"] == "system" and messages[0]["content"] == system):
        messages.insert(0, message_of("system", system))
    request: dict[str, Any] = {"messages": messages} if messages else {}
    if tools := [_tool(each) for each in mappings(attributes.get(_TOOLS))]:
        request["tools"] = tools
    cut = next((name for name in (_INPUT, _OUTPUT, _SYSTEM, _TOOLS) if is_cut(attributes.get(name))), None)
    return Said(request, _answer(attributes), cut=cut)


def _listed(value: Any) -> list[Any]:
    """Messages: a list, or the text of one."""
    value = loosely_parsed(value)
    if isinstance(value, str) and value:
        return [{"role": "user", "content": value}]
    return items(value)


def _parts(value: Any) -> list[Mapping[str, Any]]:
    """The parts of a message, of which a text alone may stand for one."""
    value = loosely_parsed(value)
    if isinstance(value, str):
        return [{"type": "text", "content": value}]
    return list(mappings(value))


def _messages(message: Any) -> Iterator[dict[str, Any]]:
    """The chat messages of a message: one, and before it one for each tool's answer in it."""
    message = mapping(message)
    if "parts" not in message:  # in OpenAI's form, as some programs put it there
        if text(message.get("role")):
            yield {name: value for name, value in message.items() if value is not None} | {
                "content": message.get("content")
            }
        return
    parts, role = _parts(message.get("parts")), message.get("role")
    rest = []
    for part in parts:
        if part.get("type") == "tool_call_response":
            # The model of the convention names it `response`; its prose, `result`.
            answered = part.get("response", part.get("result"))
            yield message_of("tool", json_text(answered), tool_call_id=part.get("id"))
        else:
            rest.append(part)
    calls = [call for part in rest if part.get("type") == "tool_call" and (call := call_of_tool(part))]
    content = _content(rest)
    if content is not None or calls or not parts:
        yield message_of(role, content, calls, name=message.get("name"))


def _content(parts: list[Mapping[str, Any]]) -> Any:
    """Content of a chat message: one text, or several parts. Parts of other kinds stay as they are."""
    said = [
        {"type": "text", "text": str(part.get("content") or "")} if part.get("type") == "text" else dict(part)
        for part in parts
        if part.get("type") not in ("tool_call", "reasoning", "refusal")
    ]
    if len(said) == 1 and said[0].get("type") == "text":
        return said[0]["text"]
    return said or None


def _answer(attributes: Mapping[str, Any]) -> LoggedAnswer | None:
    messages = [message for each in _listed(attributes.get(_OUTPUT)) if (message := mapping(each))]
    if not messages:
        return None
    choices = max(count(attributes.get("gen_ai.request.choice.count")), len(_reasons(attributes)))
    reason = first_reason(attributes) or text(messages[0].get("finish_reason"))
    if "parts" not in messages[0]:
        return answer_of_message(messages[0], reason)
    # Each message is a choice; where there was one choice, they are pieces of it.
    parts = [part for message in messages[: 1 if choices > 1 else None] for part in _parts(message.get("parts"))]
    calls = [call for part in parts if part.get("type") == "tool_call" and (call := call_of_tool(part))]
    said = {
        kind: "\n".join(found)
        for kind in ("text", "refusal")
        if (found := [str(part["content"]) for part in parts if part.get("type") == kind and part.get("content")])
    }
    message = {"content": said.get("text"), "refusal": said.get("refusal"), "tool_calls": calls}
    return answer_of_message(message, reason)


def _reasons(attributes: Mapping[str, Any]) -> list[Any]:
    return items(attributes.get("gen_ai.response.finish_reasons"))


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function" or isinstance(tool.get("function"), Mapping):
        return dict(tool)
    return function_tool(tool.get("name"), tool.get("description"), tool.get("parameters"))
