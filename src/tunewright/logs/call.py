"""A call of a language model, as some log has it: what every reader of logs gives, and what the rest of Tunewright
reads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from tunewright.logs.usage import TokenCounts, token_counts
from tunewright.logs.values import count, first, mapping, mappings, parsed, text

CallKind = Literal["chat", "responses", "completions"]
"""OpenAI's API whose form the request has."""
_CUT = (
    *("length", "model_length", "max_tokens", "max_output_tokens", "MAX_TOKENS", "content_filter", "SAFETY", "error"),
    # of the Responses API, whose status the gateway keeps
    *("incomplete", "failed", "cancelled", "queued", "in_progress"),
)
"""Reasons for an end before the answer's own."""
_UNFINISHED = ("incomplete", "in_progress")
"""The status of an item of the Responses API that is not whole. Source: openai-python (2026-12-02)."""
_LABEL = 24
"""Tokens that a label may have."""
_KEPT_BY_API = ("previous_response_id", "conversation")
"""Under which a request of the Responses API, and its response, name the conversation that the API keeps."""


@dataclass(frozen=True)
class LoggedAnswer:
    """What a model answered."""

    text: str = ""
    refusal: str = ""
    tool_calls: list[dict[str, str]] = field(default_factory=list)
    """Each with `id`, `name` and `arguments`, a JSON text."""
    finish_reason: str | None = None

    @property
    def fault(self) -> tuple[str, str] | None:
        """(code, reason) why it can't be learnt from; None: it can."""
        if self.finish_reason in _CUT:
            return "cut-answer", f"The answer was cut off ({self.finish_reason}) and would teach cut answers."
        if self.refusal or self.finish_reason == "refusal":
            return "refusal", "The model refused to answer."
        if not self.text.strip() and not self.tool_calls:
            return "empty-answer", "The answer is empty."
        return None


@dataclass(frozen=True)
class LoggedCall:
    """One call."""

    kind: CallKind
    request: Mapping[str, Any]
    """In the form of OpenAI's API: messages, input or prompt, and the parameters."""
    answer: LoggedAnswer | None
    """None: the log has none."""
    fault: tuple[str, str] | None = None
    """(code, reason) why it has no answer, or one that says nothing: it failed, or the log left it out."""
    id: str | None = None
    model: str | None = None
    """As the request names it."""
    answered_model: str | None = None
    """As the answer names it."""
    time: datetime | None = None
    """Of the request."""
    seconds: float | None = None
    first_seconds: float | None = None
    """To the answer's first piece."""
    usage: TokenCounts | None = None
    usd: float | None = None
    """As the log has it."""
    is_streamed: bool = False
    service_tier: str | None = None
    """The tier that the answer was billed at, as it says; `batch` for a batch's."""
    share: float = 1.0
    """The share of calls that were logged: this one stands for 1 / share."""
    is_audit: bool = False
    """Whether no client got this answer: it was asked for to compare it with an own model's."""
    usage_is_estimated: bool = False
    """Whether no API counted `usage`: the gateway estimated it, because a stream came without."""

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The request in the form of chat messages."""
        if self.kind == "chat":
            return [dict(each) for each in mappings(self.request.get("messages"))]
        if self.kind == "completions":
            return [{"role": "user", "content": self.request.get("prompt")}]
        system = text(self.request.get("instructions"))
        return [*([{"role": "system", "content": system}] if system else []), *_of_items(self.request.get("input"))]

    @property
    def answer_message(self) -> dict[str, Any] | None:
        """The answer in the form of a chat message."""
        if self.answer is None:
            return None
        message: dict[str, Any] = {"role": "assistant", "content": self.answer.text or None}
        if self.answer.tool_calls:
            message["tool_calls"] = [tool_call(**call) for call in self.answer.tool_calls]
        return message

    @property
    def meta(self) -> dict[str, Any]:
        """What the log knows of the call beside its texts."""
        known = {
            "id": self.id,
            "model": self.model,
            "answered_model": self.answered_model,
            "time": self.time and self.time.isoformat(timespec="milliseconds"),
            "seconds": self.seconds,
            "first_seconds": self.first_seconds,
            "usage": self.usage.row if self.usage and not self.usage_is_estimated else None,
            "usd": self.usd,
        }
        return {name: value for name, value in known.items() if value is not None}


def tool_call(name: str, arguments: str, id: str = "") -> dict[str, Any]:
    """A tool call in the form of chat messages."""
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def answer_of_message(message: Mapping[str, Any], finish_reason: Any = None) -> LoggedAnswer:
    """The answer in an assistant's chat message."""
    calls = [
        {
            "id": str(call.get("id") or ""),
            "name": str(each.get("name")),
            "arguments": _json(first(each, "arguments", "args")),  # LangChain's word is `args`
        }
        for call in mappings(message.get("tool_calls"))
        if (each := mapping(call.get("function")) or call).get("name")
    ]
    old = mapping(message.get("function_call"))
    if old.get("name"):
        calls.append({"id": "", "name": str(old["name"]), "arguments": _json(old.get("arguments"))})
    return LoggedAnswer(joined(message.get("content")), text(message.get("refusal")) or "", calls, text(finish_reason))


def answer_of_output(response: Mapping[str, Any]) -> LoggedAnswer:
    """The answer in an object of the Responses API."""
    texts, refusals, calls = [], [], []
    is_cut = response.get("status") == "incomplete"
    for item in mappings(response.get("output")):
        is_cut = is_cut or item.get("status") in _UNFINISHED
        if item.get("type") == "message" or (item.get("type") is None and "content" in item):
            for part in mappings(item.get("content")):
                texts.append(str(part.get("text") or ""))
                refusals.append(str(part.get("refusal") or ""))
        elif item.get("type") in ("function_call", "custom_tool_call"):
            given = _json(item.get("arguments", item.get("input")))
            calls.append({"id": str(item.get("call_id") or ""), "name": str(item.get("name")), "arguments": given})
    cut = text(mapping(response.get("incomplete_details")).get("reason"))
    if cut is None and is_cut:
        cut = "incomplete"
    return LoggedAnswer("".join(texts), "".join(refusals), calls, cut or ("tool_calls" if calls else "stop"))


def earlier_turns_fault(request: Mapping[str, Any], response: Mapping[str, Any]) -> tuple[str, str] | None:
    """(code, reason) why a call of the Responses API can't be learnt from: a part of its conversation, or its text, is
    not where it is read. None: all of it is."""
    if mapping(request.get("prompt")).get("variables"):
        return "partial", "The request fills in a prompt that the API keeps, so its input is not all of its text."
    is_named = any(body.get(name) for body in (request, response) for name in _KEPT_BY_API)
    if is_named or any(item.get("type") == "item_reference" for item in mappings(request.get("input"))):
        return "partial", "The earlier turns of this conversation are kept by the API, not in the log."
    return None


def ended_by_limit(request: Mapping[str, Any], usage: TokenCounts | None) -> str | None:
    """`length` if an answer is as long as its request allows, for logs that don't keep the reason of the end. A limit
    for a label may just be the label's length."""
    limit = count(first(request, "max_completion_tokens", "max_tokens", "max_output_tokens"))
    return "length" if usage and _LABEL < limit <= usage.answer_tokens else None


def joined(content: Any) -> str:
    """The text of a message's content: a text, or a list of parts."""
    if isinstance(content, str):
        return content
    listed = content if isinstance(content, list) else []
    parts = (each.get("text") if isinstance(each, Mapping) else each for each in listed)
    return "\n".join(part for part in parts if isinstance(part, str))


def usage_of(block: Any) -> TokenCounts | None:
    """The counts of a usage block, which may be JSON text; None: it is none."""
    return token_counts(mapping(block))


def _of_items(given: Any) -> Iterator[dict[str, Any]]:
    """Chat messages of the Responses API's input: a text, or a list of items."""
    given = parsed(given)
    if isinstance(given, str):
        yield {"role": "user", "content": given}
        return
    for item in mappings(given):
        kind = item.get("type")
        if kind == "function_call":
            call = tool_call(str(item.get("name")), _json(item.get("arguments")), str(item.get("call_id") or ""))
            yield {"role": "assistant", "content": None, "tool_calls": [call]}
        elif kind == "function_call_output":
            yield {"role": "tool", "content": _json(item.get("output")), "tool_call_id": str(item.get("call_id") or "")}
        elif kind in (None, "message") and "role" in item:
            yield {"role": item["role"], "content": _chat_content(item.get("content"))}


def _chat_content(content: Any) -> Any:
    """The Responses API's content in the form of chat messages."""
    if not isinstance(content, list):
        return content
    parts = [each for each in content if isinstance(each, Mapping)]
    if all(isinstance(part.get("text"), str) for part in parts):
        return [{"type": "text", "text": part["text"]} for part in parts]
    return content


def _json(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
