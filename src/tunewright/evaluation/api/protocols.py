"""The two APIs of OpenAI's that endpoints speak: how a question is put to each, and how its reply is read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tunewright.evaluation.api.paid import Ending, Paid

CHAT = "chat-completions"
ROOM_NAMES = ("max_completion_tokens", "max_tokens", "max_output_tokens")
"""What the room for an answer is called: today's name, the one that Mistral's API has kept, and the Responses API's."""


class MalformedError(Exception):
    """What came is no answer."""

    def __init__(self, cause: Exception | None = None):
        self.cause = cause or self
        super().__init__("no chat completion")


def asked_by(
    protocol: str, client: Any, model: str, messages: Iterable[Mapping[str, str]], options: Mapping[str, Any]
) -> Paid:
    """Ask one question through the official client, and wait for the answer.

    Args:
        options: arguments, as the Chat Completions API calls them.

    Raises:
        MalformedError: what came is no answer.
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
    """Arguments as the Responses API calls them.

    Source: developers.openai.com/api/docs/guides/migrate-to-responses (2026-11-28).
    """
    made = dict(options)
    if room := made.pop("max_completion_tokens", None):
        made["max_output_tokens"] = room
    if effort := made.pop("reasoning_effort", None):
        made["reasoning"] = {"effort": effort}
    if form := made.pop("response_format", None):
        made["text"] = {"format": {"type": form["type"], **form["json_schema"]}}
    return made


def read_completion(reply: Any, latency_ms: float) -> Paid:
    """What counts of a chat completion.

    Raises:
        MalformedError: it is none.
    """
    choices = getattr(reply, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    text = _text_of(getattr(getattr(choice, "message", None), "content", 0))
    if choice is None or text is None:
        raise MalformedError
    ending: Ending = "cut" if choice.finish_reason == "length" else "whole"
    if choice.finish_reason == "content_filter" or getattr(choice.message, "refusal", None):
        ending = "refused"
    usage = getattr(reply, "usage", None)
    read, written = (_part(usage, f"{part}_tokens_details") for part in ("prompt", "completion"))
    return _paid(
        text, ending, latency_ms, _count(usage, "prompt_tokens"), _count(usage, "completion_tokens"), read, written
    )


def read_response(reply: Any, latency_ms: float) -> Paid:
    """What counts of a reply of the Responses API.

    Raises:
        MalformedError: it is none, or says that it failed.
    """
    output, status = getattr(reply, "output", None), getattr(reply, "status", None)
    if not isinstance(output, list) or status not in ("completed", "incomplete"):
        raise MalformedError
    parts = [
        part
        for item in output
        if getattr(item, "type", None) == "message"
        for part in getattr(item, "content", None) or ()
    ]
    text = "".join(str(getattr(part, "text", "") or "") for part in parts if part.type == "output_text")
    reason = getattr(getattr(reply, "incomplete_details", None), "reason", None)
    ending: Ending = "cut" if status == "incomplete" else "whole"
    if reason == "content_filter" or any(part.type == "refusal" for part in parts):
        ending = "refused"
    usage = getattr(reply, "usage", None)
    read, written = (_part(usage, f"{part}_tokens_details") for part in ("input", "output"))
    return _paid(text, ending, latency_ms, _count(usage, "input_tokens"), _count(usage, "output_tokens"), read, written)


def _paid(
    text: str, ending: Ending, latency_ms: float, asked: int, written: int, of_asked: Any, of_written: Any
) -> Paid:
    # Half of a pair of surrogates is no text that a file can hold.
    plain = text.encode("utf-8", "replace").decode()
    return Paid(
        plain,
        asked,
        written,
        _count(of_asked, "cached_tokens"),
        ending,
        round(latency_ms, 1),
        _count(of_asked, "cache_write_tokens"),
        _count(of_written, "reasoning_tokens"),
    )


def _text_of(content: Any) -> str | None:
    """The text of a message; Mistral's models that think send it in parts. None where it is no content."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list) or not all(_part(part, "type") for part in content):
        return None
    return "".join(str(_part(part, "text")) for part in content if _part(part, "type") == "text")


def _part(whole: Any, name: str) -> Any:
    return whole.get(name) if isinstance(whole, Mapping) else getattr(whole, name, None)


def _count(usage: Any, name: str) -> int:
    found = _part(usage, name)
    return found if isinstance(found, int) else 0
