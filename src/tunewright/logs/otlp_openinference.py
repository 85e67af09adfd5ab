"""The attributes of OpenInference, which Phoenix and Arize read.

Source: Arize-ai/openinference, spec/llm_spans.md and openinference-instrumentation-openai 0.1.66 (2026-11-30).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.logs.call import LoggedAnswer, answer_of_message
from tunewright.logs.openai import answer_in
from tunewright.logs.otlp_spans import TraceSpan
from tunewright.logs.otlp_texts import Said, call_of_tool, is_cut, loosely_parsed, message_of, nested
from tunewright.logs.values import mapping, mappings, parsed, text

_ASKED, _ANSWERED = "input.value", "output.value"
_SETTINGS = "llm.invocation_parameters"


def openinference_said(span: TraceSpan) -> Said | None:
    """What a span says in these attributes; None: it has none of them.

    `input.value` and `output.value` hold the whole request and answer of OpenAI's SDK, and are better than the
    numbered attributes, which lack refusals and are the first to be dropped. Other frameworks have forms of their own
    there; then the numbered ones count.
    """
    attributes = span.attributes
    request, response = (mapping(attributes.get(name)) for name in (_ASKED, _ANSWERED))
    if _is_openais(request) and (not attributes.get(_ANSWERED) or "choices" in response or "output" in response):
        answer = answer_in(response)[0] if response else None
        if answer or not response:
            return Said(dict(request), answer, response, is_whole=True)
    messages, answer = _messages(attributes), _answer(attributes)
    if attributes.get("openinference.span.kind") == "LLM":
        if not messages and (asked := _plain(attributes.get(_ASKED))):
            messages = [message_of("user", asked)]
        if answer is None and (answered := _plain(attributes.get(_ANSWERED))):
            answer = LoggedAnswer(answered)
    cut = _cut(attributes)
    if not messages and answer is None:
        return Said({}, None, cut=cut) if cut else None
    settings = mapping(attributes.get(_SETTINGS))
    asked_for: dict[str, Any] = {
        name: value for name, value in settings.items() if name not in ("messages", "input", "prompt")
    }
    if messages:
        asked_for["messages"] = messages
    if tools := [tool for each in nested(attributes, "llm.tools") if (tool := _tool(each))]:
        asked_for["tools"] = tools
    return Said(asked_for, answer, cut=cut)


def _is_openais(request: Mapping[str, Any]) -> bool:
    """Whether a request is in OpenAI's form. Anthropic's has its system text at the top, LangChain's lists in lists."""
    if "system" in request or "contents" in request:
        return False
    if isinstance(messages := request.get("messages"), list):
        return bool(messages) and all(isinstance(each, Mapping) and text(each.get("role")) for each in messages)
    return "model" in request and any(isinstance(request.get(name), str | list) for name in ("input", "prompt"))


def _cut(attributes: Mapping[str, Any]) -> str | None:
    """The attribute that was cut and is missed. A cut request or answer is not where each numbered text is shorter:
    what is shorter than a cut text was not cut."""
    numbered = [value for name, value in attributes.items() if name.startswith("llm.") and isinstance(value, str)]
    for name in (_ASKED, _ANSWERED):
        value = attributes.get(name)
        if isinstance(value, str) and is_cut(value) and not (numbered and max(map(len, numbered)) < len(value)):
            return name
    return _SETTINGS if is_cut(attributes.get(_SETTINGS)) else None


def _messages(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [_message(each) for each in map(mapping, nested(attributes, "llm.input_messages")) if each]


def _message(numbered: Mapping[str, Any]) -> dict[str, Any]:
    message = mapping(numbered.get("message"))
    content = message.get("content")
    if parts := [_part(mapping(each.get("message_content"))) for each in mappings(message.get("contents"))]:
        content = parts
    calls = [
        call for each in mappings(message.get("tool_calls")) if (call := call_of_tool(mapping(each.get("tool_call"))))
    ]
    return message_of(
        message.get("role"), content, calls, tool_call_id=message.get("tool_call_id"), name=message.get("name")
    )


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(part.get("text"), str):
        return {"type": "text", "text": part["text"]}
    return {"type": text(part.get("type")) or "image", **{name: part[name] for name in part if name != "type"}}


def _answer(attributes: Mapping[str, Any]) -> LoggedAnswer | None:
    said = next((each for each in map(mapping, nested(attributes, "llm.output_messages")) if each), None)
    return answer_of_message(_message(said), attributes.get("llm.finish_reason")) if said else None


def _plain(value: Any) -> str | None:
    """A text that is no JSON."""
    return text(value) if isinstance(loosely_parsed(value), str) and not is_cut(value) else None


def _tool(numbered: Any) -> dict[str, Any]:
    tool = mapping(mapping(numbered).get("tool"))
    return dict(mapping(parsed(tool.get("json_schema"))))
