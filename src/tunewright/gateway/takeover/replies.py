"""Own answers in the form that the client asked for: of its route, in one piece or as a stream, as text, JSON or a tool
call."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from tunewright.config.checking import schema_fault
from tunewright.core.errors import UserError
from tunewright.gateway.answers import AnswerChoice
from tunewright.gateway.jobs.signature import JobSignature
from tunewright.gateway.routes import Kind
from tunewright.gateway.takeover.models import OwnAnswer
from tunewright.tasks import base as tasks
from tunewright.tasks.record_form import RecordForm

_ASKS_FOR_MORE = (
    "logprobs",
    "top_logprobs",
    "previous_response_id",
    "conversation",
    "background",
    "audio",
    "logit_bias",
)
"""Fields of a request that only the API can fulfil."""
_SCHEMAS = 100
"""Schemas of clients that are kept in the form that records are checked by."""


class Unfit(Exception):
    """An own answer can't stand in for the API's."""


def asks_for_more(request: Mapping[str, Any]) -> bool:
    """Whether a request asks for something that own models don't give: several answers, probabilities, or a
    conversation that the API keeps."""
    several = request.get("n") not in (None, 1)
    return several or any(request.get(name) not in (None, False, 0, {}) for name in _ASKS_FOR_MORE)


def choice_of(answer: OwnAnswer, signature: JobSignature, request: Mapping[str, Any]) -> AnswerChoice:
    """An own answer as the API would give it.

    Raises:
        Unfit: it was cut, is longer than the client allows, or does not fit the client's schema.
    """
    if answer.is_cut:
        raise Unfit("it was cut")
    limits = (request.get(name) for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"))
    if any(isinstance(limit, int) and answer.answer_tokens > limit for limit in limits):
        raise Unfit("it is longer than the client allows")
    if signature.answer != "record":
        return AnswerChoice(answer.text, finish_reason="stop")
    schema = _schema(signature, request)
    text = answer.text if schema is None else _fitted(answer.text, json.dumps(schema))
    if signature.tool:
        return AnswerChoice(tool_calls=[{"name": signature.tool, "arguments": text}], finish_reason="tool_calls")
    return AnswerChoice(text, finish_reason="stop")


def reply_body(
    kind: Kind, identity: str, model: str, choice: AnswerChoice, answer: OwnAnswer, request: Mapping[str, Any]
) -> tuple[str, bytes]:
    """(content type, body) of a reply.

    Args:
        identity: of the request, 32 letters.
        model: as the client named it.
    """
    make = {"chat": _chat, "responses": _responses, "completions": _completions}[kind]
    whole, events = make(identity, model, choice, answer, request)
    if request.get("stream") is not True:
        return "application/json", json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()
    return "text/event-stream; charset=utf-8", "".join(events).encode()


def _chat(
    identity: str, model: str, choice: AnswerChoice, answer: OwnAnswer, request: Mapping[str, Any]
) -> tuple[dict[str, Any], Iterator[str]]:
    head = {"id": f"chatcmpl-{identity}", "created": int(time.time()), "model": model}
    usage = _usage(answer)
    calls = [{"id": f"call_{identity[:24]}", "type": "function", "function": dict(call)} for call in choice.tool_calls]
    content = None if calls else choice.text
    message: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
    if calls:
        message["tool_calls"] = calls
    one = {"index": 0, "message": message, "logprobs": None, "finish_reason": choice.finish_reason}
    whole = {**head, "object": "chat.completion", "choices": [one], "usage": usage}
    with_usage = _wants_usage(request)

    def chunk(delta: dict[str, Any], finish: str | None = None) -> str:
        part = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        more = {"usage": None} if with_usage else {}
        return _data({**head, "object": "chat.completion.chunk", "choices": [part], **more})

    def events() -> Iterator[str]:
        yield chunk({"role": "assistant", "content": None if calls else ""})
        yield chunk({"tool_calls": [{"index": 0, **calls[0]}]} if calls else {"content": choice.text})
        yield chunk({}, choice.finish_reason)
        if with_usage:
            yield _data({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        yield "data: [DONE]\n\n"

    return whole, events()


def _completions(
    identity: str, model: str, choice: AnswerChoice, answer: OwnAnswer, request: Mapping[str, Any]
) -> tuple[dict[str, Any], Iterator[str]]:
    head = {"id": f"cmpl-{identity}", "object": "text_completion", "created": int(time.time()), "model": model}
    one = {"index": 0, "text": choice.text, "logprobs": None, "finish_reason": choice.finish_reason}
    whole = {**head, "choices": [one], "usage": _usage(answer)}

    def events() -> Iterator[str]:
        yield _data({**head, "choices": [one]})
        if _wants_usage(request):
            yield _data({**head, "choices": [], "usage": _usage(answer)})
        yield "data: [DONE]\n\n"

    return whole, events()


def _responses(
    identity: str, model: str, choice: AnswerChoice, answer: OwnAnswer, request: Mapping[str, Any]
) -> tuple[dict[str, Any], Iterator[str]]:
    item: dict[str, Any]
    if choice.tool_calls:
        (call,) = choice.tool_calls
        item = {
            "id": f"fc_{identity}",
            "type": "function_call",
            "status": "completed",
            "call_id": f"call_{identity[:24]}",
            **call,
        }
    else:
        part = {"type": "output_text", "text": choice.text, "annotations": [], "logprobs": []}
        item = {
            "id": f"msg_{identity}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [part],
        }
    whole = {
        "id": f"resp_{identity}",
        "object": "response",
        "created_at": int(time.time()),
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "model": model,
        "output": [item],
        "parallel_tool_calls": request.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "temperature": request.get("temperature", 1.0),
        "text": request.get("text", {"format": {"type": "text"}}),
        "tool_choice": request.get("tool_choice", "auto"),
        "tools": request.get("tools", []),
        "top_p": request.get("top_p", 1.0),
        "metadata": request.get("metadata") or {},
        "usage": {
            "input_tokens": answer.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": answer.answer_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": answer.prompt_tokens + answer.answer_tokens,
        },
    }

    def events() -> Iterator[str]:
        begun = {**whole, "status": "in_progress", "output": [], "usage": None}
        listed = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
            *_item_events(item, choice),
            {"type": "response.completed", "response": whole},
        ]
        for number, event in enumerate(listed):
            yield f"event: {event['type']}\n{_data({**event, 'sequence_number': number})}"

    return whole, events()


def _item_events(item: Mapping[str, Any], choice: AnswerChoice) -> list[dict[str, Any]]:
    """The events of a response's only item. Source: developers.openai.com/api/reference (2026-11-30)."""
    place = {"item_id": item["id"], "output_index": 0}
    added, done = "response.output_item.added", "response.output_item.done"
    if choice.tool_calls:
        arguments = item["arguments"]
        return [
            {"type": added, "output_index": 0, "item": {**item, "status": "in_progress", "arguments": ""}},
            {"type": "response.function_call_arguments.delta", **place, "delta": arguments},
            {"type": "response.function_call_arguments.done", **place, "arguments": arguments, "name": item["name"]},
            {"type": done, "output_index": 0, "item": item},
        ]
    (part,) = item["content"]
    place["content_index"] = 0
    return [
        {"type": added, "output_index": 0, "item": {**item, "status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **place, "part": {**part, "text": ""}},
        {"type": "response.output_text.delta", **place, "delta": choice.text, "logprobs": []},
        {"type": "response.output_text.done", **place, "text": choice.text, "logprobs": []},
        {"type": "response.content_part.done", **place, "part": part},
        {"type": done, "output_index": 0, "item": item},
    ]


def _usage(answer: OwnAnswer) -> dict[str, Any]:
    return {
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.answer_tokens,
        "total_tokens": answer.prompt_tokens + answer.answer_tokens,
    }


def _wants_usage(request: Mapping[str, Any]) -> bool:
    options = request.get("stream_options")
    return isinstance(options, Mapping) and options.get("include_usage") is True


def _schema(signature: JobSignature, request: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema that the client wants a record to fit; None: none."""
    if signature.tool:
        for tool in request.get("tools") or ():
            function = tool.get("function", tool) if isinstance(tool, Mapping) else {}
            if isinstance(function, Mapping) and function.get("name") == signature.tool:
                return _object(function.get("parameters"))
        return None
    form = request.get("response_format")
    if form is None and isinstance(text := request.get("text"), Mapping):
        form = text.get("format")
    if not isinstance(form, Mapping) or form.get("type") != "json_schema":
        return None
    inner = form.get("json_schema", form)
    return _object(inner.get("schema")) if isinstance(inner, Mapping) else None


def _object(schema: Any) -> Mapping[str, Any] | None:
    return schema if isinstance(schema, Mapping) else None


def _fitted(text: str, schema: str) -> str:
    """A record's JSON in the form of the client's schema.

    Raises:
        Unfit: it does not fit, or the schema can't be checked in bounded time.
    """
    try:
        return _form(schema).canonical(text)
    except (UserError, tasks.Unfit):
        raise Unfit("it does not fit the client's schema") from None


@lru_cache(_SCHEMAS)
def _form(schema: str) -> RecordForm:
    parsed = json.loads(schema)
    if (fault := schema_fault(parsed)) is not None:
        raise UserError(fault[1])
    return RecordForm(parsed)


def _data(event: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(event, ensure_ascii=False, separators=(',', ':'))}\n\n"
