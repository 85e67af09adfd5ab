"""OpenAI's two APIs, which endpoints speak: how to ask each a question, and how to read its reply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from tunewright.economics.usage import TokenUsage, read_usage
from tunewright.evaluation.api.paid import Ending, Paid
from tunewright.tasks.tools import as_answer

CHAT = "chat-completions"
MAX_TOKENS_NAMES = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""Names of the limit of an answer's tokens: today's, the one that Mistral's API has kept, and the Responses API's."""
REFUSED_TEXT = "invalid_prompt"
"""The code with which OpenAI's reasoning models refuse a text; some accounts get it for every text."""


class MalformedError(Exception):
    """The reply is no answer."""

    def __init__(self, cause: Exception | None = None):
        self.cause = cause or self
        super().__init__("no chat completion")


def ask(
    protocol: str, client: Any, model: str, messages: Iterable[Mapping[str, str]], options: Mapping[str, Any]
) -> Paid:
    """Ask one question through the official client, and wait for the answer.

    Args:
        options: arguments, named as in the Chat Completions API.

    Raises:
        MalformedError: the reply is no answer.
        openai.OpenAIError, ValueError: as the client raises them.
    """
    if protocol == CHAT:
        raw = client.chat.completions.with_raw_response.create(model=model, messages=list(messages), **options)
        return read_completion(raw.parse(), raw.elapsed.total_seconds() * 1000)
    raw = client.responses.with_raw_response.create(
        model=model, input=list(messages), store=False, **for_responses(options)
    )
    return read_response(raw.parse(), raw.elapsed.total_seconds() * 1000)


def for_responses(options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments with their names in the Responses API.

    Source: developers.openai.com/api/docs/guides/migrate-to-responses (2026-11-28).
    """
    renamed = dict(options)
    if limit := renamed.pop("max_completion_tokens", None):
        renamed["max_output_tokens"] = limit
    if effort := renamed.pop("reasoning_effort", None):
        renamed["reasoning"] = {"effort": effort}
    if form := renamed.pop("response_format", None):
        renamed["text"] = {"format": {"type": form["type"], **form["json_schema"]}}
    if tools := renamed.pop("tools", None):
        renamed["tools"] = [{"type": "function", **tool["function"]} for tool in tools]
    return renamed


def read_completion(reply: Any, latency_ms: float) -> Paid:
    """The answer in a chat completion, with its token counts.

    Raises:
        MalformedError: the reply is no chat completion.
    """
    choices = getattr(reply, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    text = _text_of(getattr(getattr(choice, "message", None), "content", 0))
    if choice is None or text is None:
        raise MalformedError
    functions = [getattr(call, "function", None) for call in getattr(choice.message, "tool_calls", None) or ()]
    text = _calls_of(functions) or text
    ending: Ending = "cut" if choice.finish_reason == "length" else "whole"
    if choice.finish_reason == "content_filter" or getattr(choice.message, "refusal", None):
        ending = "refused"
    return _paid(text, ending, latency_ms, reply)


def read_response(reply: Any, latency_ms: float) -> Paid:
    """The answer in a reply of the Responses API, with its token counts.

    Raises:
        MalformedError: the reply is none of that API, or reports a failure.
    """
    output, status = getattr(reply, "output", None), getattr(reply, "status", None)
    if status == "failed" and getattr(getattr(reply, "error", None), "code", None) == REFUSED_TEXT:
        return _paid("", "refused", latency_ms, reply)
    if not isinstance(output, list) or status not in ("completed", "incomplete"):
        raise MalformedError
    parts = [
        part
        for item in output
        if getattr(item, "type", None) == "message"
        for part in getattr(item, "content", None) or ()
    ]
    text = "".join(str(getattr(part, "text", "") or "") for part in parts if part.type == "output_text")
    text = _calls_of([item for item in output if getattr(item, "type", None) == "function_call"]) or text
    reason = getattr(getattr(reply, "incomplete_details", None), "reason", None)
    ending: Ending = "cut" if status == "incomplete" else "whole"
    if reason == "content_filter" or any(part.type == "refusal" for part in parts):
        ending = "refused"
    return _paid(text, ending, latency_ms, reply)


def _paid(text: str, ending: Ending, latency_ms: float, reply: Any) -> Paid:
    usage = read_usage(getattr(reply, "usage", None)) or TokenUsage()
    # A file can't hold half of a pair of surrogates.
    plain = text.encode("utf-8", "replace").decode()
    return Paid(plain, ending=ending, latency_ms=round(latency_ms, 1), **asdict(usage))


def _calls_of(functions: Iterable[Any]) -> str:
    """Tool calls as the JSON of an answer; empty without any."""
    calls = [(_part(each, "name"), _part(each, "arguments")) for each in functions if each is not None]
    return as_answer(calls) if calls else ""


def _text_of(content: Any) -> str | None:
    """The text of a message, which Mistral's thinking models send in parts; None where it has none."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list) or not all(_part(part, "type") for part in content):
        return None
    return "".join(str(_part(part, "text")) for part in content if _part(part, "type") == "text")


def _part(whole: Any, name: str) -> Any:
    return whole.get(name) if isinstance(whole, Mapping) else getattr(whole, name, None)
