"""MLflow's traces: whole ones (`Trace.to_json`, schemas 2 and 3), rows of `mlflow.search_traces`, and span artifacts.

Source: mlflow-skinny 3.17.2, 3.5.0, 3.4.0 and 2.22.0, mlflow/entities and mlflow/tracing (2026-11-30).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunewright.logs.call import LoggedCall
from tunewright.logs.openai import NO_ANSWER, NO_REQUEST, call_of, kind_of
from tunewright.logs.usage import TokenCounts
from tunewright.logs.values import between, count, first, items, mapping, mappings, moment, number, parsed, text
from tunewright.logs.vendors import response_or_answer

_CALLS = ("CHAT_MODEL", "LLM")
"""Types of spans that are model calls."""
_LONGEST = 200
"""Letters of an error's message."""
_CHUNK = "mlflow.chunk.item."
"""The beginning of an event with a piece of a streamed answer."""


def is_trace(row: Mapping[str, Any]) -> bool:
    """Whether a row is a trace, a row of `search_traces`, or an artifact of spans."""
    if _spans(row) is None:
        return False
    if "info" in row and "data" in row:
        return True
    if "trace" in row and {"trace_id", "request_id"} & row.keys():
        return True
    named = next(mappings(row.get("spans")), {})
    return set(row) <= {"spans", "request", "response"} and "mlflow.traceRequestId" in mapping(named.get("attributes"))


def trace_calls(row: Mapping[str, Any]) -> Iterator[LoggedCall]:
    """The model calls of a trace. Where frameworks nest one call in another, the inner one counts."""
    spans = [span for span in mappings(_spans(row) or []) if _value(span, "mlflow.spanType") in _CALLS]
    outer = {_parent(span) for span in spans} - {None}
    for span in spans:
        if _identity(span) not in outer:
            yield _call(span)


def _spans(row: Mapping[str, Any]) -> Any:
    """The spans of a row, wherever they are; None: it has none."""
    inner = mapping(row.get("trace")) or row
    if isinstance(spans := mapping(inner.get("data")).get("spans"), list):
        return spans
    spans = parsed(row.get("spans"))
    return spans if isinstance(spans, list) else None


def _call(span: Mapping[str, Any]) -> LoggedCall:
    begin, end = (moment(first(span, f"{name}_unix_nano", name)) for name in ("start_time", "end_time"))
    usage = mapping(_value(span, "mlflow.chat.tokenUsage"))
    known: dict[str, Any] = {
        "id": text(_identity(span)),
        "model": text(_value(span, "model")),
        "answered_model": text(_value(span, "mlflow.llm.model")),
        "time": begin,
        "seconds": between(begin, end),
        "usd": number(mapping(_value(span, "mlflow.llm.cost")).get("total_cost")),
    }
    request, response = _request(span), _response(span)
    if usage and not mapping(response).get("usage"):
        known["usage"] = _usage(usage)
    return call_of(request, response, fault=_fault(span, request, response), **known)


def _usage(block: Mapping[str, Any]) -> TokenCounts:
    """Older versions have Anthropic's counts as they are, without the tokens of the cache in those of the input; the
    other counts are of whole prompts."""
    asked, read, written = (count(block.get(f"{part}input_tokens")) for part in ("", "cache_read_", "cache_creation_"))
    cached = read + written
    return TokenCounts(asked + cached if asked < cached else asked, count(block.get("output_tokens")), read, written)


def _fault(span: Mapping[str, Any], request: Mapping[str, Any], response: Any) -> tuple[str, str] | None:
    status = first(mapping(span.get("status")), "code") or span.get("status_code")
    if isinstance(status, str) and status.endswith("ERROR"):
        exception = next((each for each in mappings(span.get("events")) if each.get("name") == "exception"), {})
        raised = mapping(exception.get("attributes"))
        message = first(mapping(span.get("status")), "message") or span.get("status_message")
        message = message or parsed(raised.get("exception.message")) or raised.get("exception.type")
        return "failed", f"The call failed: {str(message or 'the trace does not say why')[:_LONGEST]}."
    if kind_of(request) is None:
        return "no-request", NO_REQUEST
    return ("no-answer", NO_ANSWER) if response is None else None


def _request(span: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request in OpenAI's form. Frameworks wrap it, LangChain in a list of lists of messages."""
    given = parsed(_value(span, "mlflow.spanInputs"))
    if isinstance(given, str):
        return {"messages": [{"role": "user", "content": given}]}
    request = dict(mapping(given)) if isinstance(given, Mapping) else {"messages": given}
    messages = request.get("messages")
    if isinstance(messages, list) and len(messages) == 1 and isinstance(messages[0], list):
        request["messages"] = messages[0]
    if isinstance(request.get("messages"), list):
        request["messages"] = [_plain_message(each) for each in mappings(request["messages"])]
    tools = items(_value(span, "mlflow.chat.tools"))
    if tools and "tools" not in request:
        request["tools"] = tools
    return request


_LANGCHAIN_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


def _plain_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message in OpenAI's form; LangChain has its role as `type`."""
    if "role" not in message and (role := _LANGCHAIN_ROLES.get(str(message.get("type")))):
        kept = {name: message[name] for name in ("tool_calls", "tool_call_id") if message.get(name)}
        return {"role": role, "content": message.get("content"), **kept}
    return dict(message)


def _response(span: Mapping[str, Any]) -> Any:
    """The response, or the record that is the answer. Of a stream MLflow puts only the texts together, so its pieces
    are read where they are."""
    given = _value(span, "mlflow.spanOutputs")
    if isinstance(generations := mapping(given).get("generations"), list):
        return _of_langchain(next((each for part in generations for each in mappings(part)), {}))
    pieces = [
        mapping(mapping(event.get("attributes")).get("mlflow.chunk.value"))
        for event in mappings(span.get("events"))
        if str(event.get("name")).startswith(_CHUNK)
    ]
    if any("choices" in piece for piece in pieces):
        return _put_together(pieces, given)
    return response_or_answer(given) if isinstance(given, Mapping) else given


def _of_langchain(generation: Mapping[str, Any]) -> dict[str, Any]:
    """LangChain has the reason for the end beside the message, or in it."""
    message = mapping(generation.get("message"))
    about = {**mapping(generation.get("generation_info")), **mapping(message.get("response_metadata"))}
    reason = first(about, "finish_reason", "stop_reason")
    if message:
        return {**_plain_message(message), "stop_reason": reason}
    return {"choices": [{"text": generation.get("text"), "finish_reason": reason}]}


def _put_together(pieces: Sequence[Mapping[str, Any]], given: Any) -> dict[str, Any]:
    """A chat completion from the pieces of its stream."""
    content, calls, finish, whole = "", dict[int, dict[str, Any]](), None, dict(mapping(given))
    for piece in pieces:
        whole |= {name: piece[name] for name in ("id", "model", "created", "usage", "service_tier") if piece.get(name)}
        for choice in mappings(piece.get("choices")):
            delta = mapping(choice.get("delta"))
            content += text(delta.get("content")) or ""
            finish = choice.get("finish_reason") or finish
            for call in mappings(delta.get("tool_calls")):
                known = calls.setdefault(count(call.get("index")), {"id": "", "name": "", "arguments": ""})
                function = mapping(call.get("function"))
                known["id"] += text(call.get("id")) or ""
                known["name"] += text(function.get("name")) or ""
                known["arguments"] += text(function.get("arguments")) or ""
    message = {"role": "assistant", "content": content, "tool_calls": [calls[place] for place in sorted(calls)]}
    return {**whole, "choices": [{"message": message, "finish_reason": finish}]}


def _value(span: Mapping[str, Any], name: str) -> Any:
    """An attribute, each of which is a JSON text."""
    value = mapping(span.get("attributes")).get(name)
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _identity(span: Mapping[str, Any]) -> Any:
    return first(span, "span_id") or mapping(span.get("context")).get("span_id")


def _parent(span: Mapping[str, Any]) -> Any:
    return text(first(span, "parent_span_id", "parent_id"))
