"""Texts in the events of a span: the GenAI conventions of 1.26 and 1.27, and one event a message after them.

Sources, 2026-11-30: open-telemetry/semantic-conventions at v1.27.0, docs/gen-ai/gen-ai-spans.md; for the second form
Azure/azure-sdk-for-python, sdk/ai/azure-ai-inference/azure/ai/inference/tracing.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.logs.call import LoggedAnswer, answer_of_message
from tunewright.logs.otlp_spans import SpanEvent, TraceSpan
from tunewright.logs.otlp_texts import Said, call_of_tool, first_reason, is_cut, loosely_parsed, message_of
from tunewright.logs.values import first, mapping, mappings, text

_PROMPT, _COMPLETION = "gen_ai.prompt", "gen_ai.completion"
_BODY = "gen_ai.event.content"
_ROLES = {f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")}


def events_said(span: TraceSpan) -> Said | None:
    """What the events of a span say; None: they say nothing."""
    found = dict(span.attributes)
    for event in span.events:
        found |= {name: event.attributes[name] for name in (_PROMPT, _COMPLETION) if name in event.attributes}
    messages = _prompt(loosely_parsed(found.get(_PROMPT)))
    answer = _completion(loosely_parsed(found.get(_COMPLETION)), first_reason(span.attributes))
    messages += [message for event in span.events if event.name in _ROLES and (message := _message(event))]
    choice = next((_body(event) for event in span.events if event.name == "gen_ai.choice"), {})
    if answer is None and choice:
        answer = _choice(choice)
    if not messages and answer is None:
        return None
    cut = next((name for name in (_PROMPT, _COMPLETION) if is_cut(found.get(name))), None)
    return Said({"messages": messages} if messages else {}, answer, cut=cut)


def _prompt(given: Any) -> list[dict[str, Any]]:
    if isinstance(given, str) and given:
        return [message_of("user", given)]
    inner = mapping(given).get("messages", [given] if isinstance(given, Mapping) else given)
    return [dict(each) for each in mappings(inner) if text(each.get("role"))]


def _completion(given: Any, reason: str | None) -> LoggedAnswer | None:
    if isinstance(given, str) and given:
        return LoggedAnswer(given, finish_reason=reason)
    said = next(mappings([given] if isinstance(given, Mapping) else given), None)
    return answer_of_message(_with_calls(mapping(said.get("message")) or said), reason) if said else None


def _message(event: SpanEvent) -> dict[str, Any] | None:
    """A message; None: it was logged without its text."""
    said = _with_calls(_body(event))
    if said.get("content") is None and not said["tool_calls"]:
        return None
    role = text(said.get("role")) or _ROLES[event.name]
    identity = first(said, "tool_call_id", "id") if role == "tool" else None
    return message_of(role, said.get("content"), said["tool_calls"], tool_call_id=identity)


def _choice(choice: Mapping[str, Any]) -> LoggedAnswer | None:
    """The answer in a choice; None: it was logged without its text."""
    said = _with_calls({**choice, **mapping(choice.get("message"))})
    answer = answer_of_message(said, choice.get("finish_reason"))
    return answer if answer.text or answer.refusal or answer.tool_calls else None


def _with_calls(message: Mapping[str, Any]) -> dict[str, Any]:
    calls = [call for each in mappings(message.get("tool_calls")) if (call := call_of_tool(each))]
    return {**message, "tool_calls": calls}


def _body(event: SpanEvent) -> Mapping[str, Any]:
    return mapping(event.attributes.get(_BODY)) or event.attributes
