"""The numbered attributes of OpenLLMetry up to 0.54, which some of its packages still write.

Source: traceloop/openllmetry, packages/opentelemetry-instrumentation-openai at 0.53.0, and its history (2026-11-30).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.logs.call import LoggedAnswer, answer_of_message
from tunewright.logs.otlp_spans import TraceSpan
from tunewright.logs.otlp_texts import Said, call_of_tool, first_reason, function_tool, message_of, nested
from tunewright.logs.values import first, items, mapping, mappings, text

_PROMPTS = ("gen_ai.prompt", "llm.prompts")
_COMPLETIONS = ("gen_ai.completion", "llm.completions")
"""The second names are those until April 2024."""
_SAID = {"role", "content", "user", "tool_calls", "refusal"}
_FILTERED = "FILTERED"
"""Stands where an answer was filtered."""


def openllmetry_said(span: TraceSpan) -> Said | None:
    """What a span says in these attributes; None: it has none of them."""
    prompts, completions = (_mappings(span.attributes, names) for names in (_PROMPTS, _COMPLETIONS))
    if not prompts and not completions:
        return None
    request: dict[str, Any] = {"messages": messages} if (messages := [_message(each) for each in prompts]) else {}
    functions = (mapping(each) for each in nested(span.attributes, "llm.request.functions"))
    if tools := [
        function_tool(each.get("name"), each.get("description"), first(each, "parameters", "input_schema"))
        for each in functions
        if text(each.get("name"))
    ]:
        request["tools"] = tools
    return Said(request, _answer(completions[0], span.attributes) if completions else None)


def _mappings(attributes: Mapping[str, Any], names: tuple[str, ...]) -> list[Mapping[str, Any]]:
    for name in names:
        if found := [each for each in map(mapping, nested(attributes, name)) if _SAID & each.keys()]:
            return found
    return []


def _message(prompt: Mapping[str, Any]) -> dict[str, Any]:
    content = prompt.get("content")
    if content is None and (asked := text(prompt.get("user"))):  # of a text completion: `gen_ai.prompt.0.user`
        return message_of("user", asked)
    parts = items(content)
    if parts and all(isinstance(part, Mapping) and text(part.get("type")) for part in parts):
        content = parts  # parts of content were written as JSON text
    calls = [call for each in mappings(prompt.get("tool_calls")) if (call := call_of_tool(each))]
    return message_of(prompt.get("role"), content, calls, tool_call_id=prompt.get("tool_call_id"))


def _answer(completion: Mapping[str, Any], attributes: Mapping[str, Any]) -> LoggedAnswer:
    reason = text(completion.get("finish_reason")) or first_reason(attributes)
    calls = [call for each in mappings(completion.get("tool_calls")) if (call := call_of_tool(each))]
    content = completion.get("content")
    if reason == "content_filter" and content == _FILTERED:
        content = None
    return answer_of_message({**completion, "content": content, "tool_calls": calls}, reason)
