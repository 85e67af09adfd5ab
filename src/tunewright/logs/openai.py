"""Logs of OpenAI's and Azure's own: response objects, requests beside their answers, and batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tunewright.logs import columns
from tunewright.logs.beside import RequestsBeside
from tunewright.logs.call import (
    CallKind,
    LoggedAnswer,
    LoggedCall,
    answer_of_message,
    answer_of_output,
    earlier_turns_fault,
    joined,
    usage_of,
)
from tunewright.logs.usage import TokenCounts
from tunewright.logs.values import between, first, first_moment, mapping, mappings, moment, parsed, text
from tunewright.logs.vendors import openai_request, openai_response, openai_usage, response_or_answer

NO_ANSWER = "The log has no answer to this request."
NO_REQUEST = "The log has this answer without its request, so nothing can be learnt from it."
_PARAMETERS = ("tools", "response_format", "text", "temperature", "max_tokens", "stream", "tool_choice")


def kind_of(request: Mapping[str, Any]) -> CallKind | None:
    """Whose form a request has; None: no known one."""
    if isinstance(request.get("messages"), list):
        return "chat"
    if "prompt" in request and not isinstance(request["prompt"], Mapping):
        return "completions"
    return "responses" if "input" in request or "prompt" in request else None


def call_of(request: Mapping[str, Any], response: Any, **known: Any) -> LoggedCall:
    """The call of a request and a response in the forms of OpenAI, Anthropic or Gemini.

    Args:
        response: the response's object, or a text that is the answer.
        known: other fields of `LoggedCall`, which count before the objects' own.
    """
    request, response = openai_request(request), openai_response(response)
    kind = kind_of(request)
    answer, fault = answer_in(response)
    body = response if isinstance(response, Mapping) else {}
    if kind is None:
        kind, fault = "chat", ("no-request", NO_REQUEST)
    elif kind == "responses":
        fault = fault or earlier_turns_fault(request, body)
    begun = first_moment(body, "created", "created_at")
    usual: dict[str, Any] = {
        "id": text(body.get("id")),
        "model": text(request.get("model")),
        "answered_model": text(body.get("model")),
        "time": begun,
        "seconds": between(begun, moment(body.get("completed_at"))),
        "usage": _usage(body),
        "service_tier": text(body.get("service_tier")),
        "is_streamed": request.get("stream") is True,
    }
    found = {name: value for name, value in known.items() if value is not None}
    return LoggedCall(kind, request, answer, **{"fault": fault, **usual, **found})


def _usage(source: Mapping[str, Any]) -> TokenCounts | None:
    """The counts of the usage block in a response or a row; None: it has none."""
    return usage_of(openai_usage(mapping(source.get("usage"))))


def answer_in(response: Any) -> tuple[LoggedAnswer | None, tuple[str, str] | None]:
    """(the answer in a response as `openai_response` gives it, why there is none)."""
    if isinstance(response, str):
        return LoggedAnswer(response), None
    body = mapping(response)
    if body.get("error"):
        return None, columns.failure_of(body["error"])
    if isinstance(body.get("output"), list):
        if body.get("status") in ("failed", "cancelled"):
            return None, ("failed", f"The call has the status {body['status']}.")
        if body.get("status") in ("queued", "in_progress"):
            return None, ("no-answer", f"The call has the status {body['status']}, so its answer is not here yet.")
        return answer_of_output(body), None
    for choice in mappings(body.get("choices")):
        if isinstance(choice.get("message"), Mapping):
            return answer_of_message(choice["message"], choice.get("finish_reason")), None
        if isinstance(choice.get("text"), str):
            return LoggedAnswer(choice["text"], finish_reason=text(choice.get("finish_reason"))), None
    if body.get("role") == "assistant" or joined(body.get("content")):  # a bare message
        return answer_of_message(body, first(body, "finish_reason", "stop_reason")), None
    return None, ("no-answer", NO_ANSWER)


# One response object, or a request beside it


def is_response(row: Mapping[str, Any]) -> bool:
    """Whether a row is an object of the Responses API with its input in it."""
    return row.get("object") == "response" and isinstance(row.get("output"), list)


def response_calls(row: Mapping[str, Any]) -> Iterator[LoggedCall]:
    # What a response repeats of its request, and the input, if whoever logged it put it there.
    request = {
        name: row[name] for name in ("input", "instructions", "model", *_PARAMETERS) if row.get(name) is not None
    }
    if "input" not in request:
        request.pop("instructions", None)
    yield call_of(request, row)


_PAIRS = (
    ("request", "response"),
    ("request_body", "response_body"),
    ("requestBody", "responseBody"),
    ("input", "output"),
    ("prompt", "response"),
    ("messages", "response"),
    ("messages", "output"),
)
"""The keys of a request and its response in logs that people write themselves."""


def is_pair(row: Mapping[str, Any]) -> bool:
    return _pair(row) is not None


def _pair(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any, bool] | None:
    """(the request, the response, whether the request is a whole one and no text or messages alone) of a row; None: it
    has none. With an `instruction`, the row is of Alpaca's form."""
    if "instruction" in row:
        return None
    for asked, answered in _PAIRS:
        if asked not in row or answered not in row:
            continue
        request, response = parsed(row[asked]), row[answered]
        if isinstance(request, Mapping):
            if kind_of(request) or "contents" in request:  # Gemini's
                return request, response, True
            continue
        beside = {name: row[name] for name in ("model", "system", *_PARAMETERS) if row.get(name) is not None}
        if _are_messages(request):
            if request[0]["role"] in ("system", "developer"):
                beside.pop("system", None)  # the messages have it themselves
            return {**beside, "messages": request}, response, False
        if isinstance(request, str) and asked != "messages":
            return {**beside, "messages": [{"role": "user", "content": request}]}, response, False
    return None


def _are_messages(value: Any) -> bool:
    """Whether a value is a request's messages. If the last one is the assistant's, it is an example of its own."""
    if not isinstance(value, list) or not value:
        return False
    are = all(isinstance(each, Mapping) and "role" in each for each in value)
    return are and value[-1]["role"] != "assistant"


def pair_calls(row: Mapping[str, Any]) -> Iterator[LoggedCall]:
    found = _pair(row)
    assert found
    request, response, is_whole = found
    # Beside a whole request stands a whole response, in which an error is the call's and no field of a record.
    is_error = is_whole and isinstance(response, Mapping) and bool(response.get("error"))
    yield _beside(row, request, response if is_error else response_or_answer(response))


def completion_call(row: Mapping[str, Any]) -> LoggedCall:
    """The call of a chat completion with its request's messages: in one object, or under `request` and `response`."""
    request, response = (row[key] if isinstance(row.get(key), Mapping) else row for key in ("request", "response"))
    given: list[Any] = next((request[key] for key in ("messages", "input") if isinstance(request.get(key), list)), [])
    known = {name: request[name] for name in ("model", *_PARAMETERS) if request.get(name) is not None}
    return _beside(row, {**known, "messages": given}, response)


def _beside(row: Mapping[str, Any], request: Mapping[str, Any], response: Any) -> LoggedCall:
    """The call of a request and a response, with what stands beside them in a row."""
    begun = first_moment(row, "time", "timestamp", "created_at", "createdAt", "start_time", "startTime")
    ended = first_moment(row, "end_time", "endTime", "completed_at")
    seconds = columns.seconds_in(row)
    call = call_of(
        request,
        response,
        id=text(first(row, "id", "request_id", "requestId")),
        model=text(request.get("model")) or columns.model_in(row),
        time=begun,
        seconds=between(begun, ended) if seconds is None else seconds,
        first_seconds=columns.first_seconds_in(row),
        usage=_usage(row),
        usd=columns.usd_in(row),
        fault=columns.failure_in(row),
    )
    answer = call.answer
    if answer and answer.finish_reason is None:
        answer = replace(answer, finish_reason=columns.finish_reason_in(row))
    return replace(call, answer=answer, usage=call.usage or columns.usage_in(row))


# Batches, stored completions and streams


def batch_output_calls(row: Mapping[str, Any], beside: RequestsBeside) -> Iterator[LoggedCall]:
    """An answer of a batch. `error` is null also where the request was refused; then the body says so.

    Source: github.com/openai/openai-openapi/issues/302 (2026-11-30).
    """
    identity = str(row["custom_id"])
    requests = beside.of_batch(identity)
    response, error = mapping(row.get("response")), parsed(row.get("error"))
    failure, body = columns.failure_of_status(response.get("status_code")), response.get("body")
    fault = answer_in(body)[1]
    if error or not isinstance(body, Mapping):
        fault = columns.failure_of(error or "the batch has no answer to it")
    elif failure and not body.get("error"):
        fault = failure
    elif not requests and fault is None:
        reason = f"The request '{identity}' of this batch is not here: put the batch's input file beside its output."
        fault = ("no-request", reason)
    elif len(requests) > 1 and fault is None:
        reason = (
            f"Several batches in this folder have a request '{identity}', and nothing says which one this answers: "
            "give each batch a folder."
        )
        fault = ("no-request", reason)
    yield call_of(requests[0] if len(requests) == 1 else {}, body, id=identity, fault=fault, service_tier="batch")


def batch_input_calls(row: Mapping[str, Any]) -> Iterator[LoggedCall]:
    body = mapping(row["body"])
    reason = "This is the request of a batch; its answer is in the batch's output. Put that file beside it."
    yield LoggedCall(
        kind_of(body) or "chat", body, None, ("no-answer", reason), str(row["custom_id"]), text(body.get("model"))
    )


def stored_calls(row: Mapping[str, Any], beside: RequestsBeside) -> Iterator[LoggedCall]:
    """A stored completion as the API's list has it, without its messages, which the API gives by themselves.

    Source: openai/openai-openapi openapi.yaml, GET /chat/completions/{id}/messages (2026-11-30).
    """
    messages = beside.messages_of(row["id"])
    request = {name: row[name] for name in ("model", *_PARAMETERS) if row.get(name) is not None}
    fault = None
    if not messages:
        reason = (
            "The stored completion lacks the request's messages: put the answer of "
            f"GET /chat/completions/{row['id']}/messages beside it."
        )
        fault = ("no-request", reason)
    yield call_of({**request, "messages": messages}, row, fault=fault)


def stored_message_calls(row: Mapping[str, Any]) -> Iterator[LoggedCall]:
    reason = "This is a message of a stored completion; the completion with the answer is not beside it."
    yield LoggedCall("chat", {"messages": [dict(row)]}, None, ("no-answer", reason))


def is_stream_end(row: Mapping[str, Any]) -> bool:
    """Whether a row is the last event of a stream of the Responses API, which has the whole response."""
    is_last = row.get("type") in ("response.completed", "response.incomplete", "response.failed")
    return is_last and is_response(mapping(row.get("response")))


def stream_end_calls(row: Mapping[str, Any]) -> Iterator[LoggedCall]:
    yield from response_calls(mapping(row["response"]))
