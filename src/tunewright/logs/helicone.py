"""Helicone's logs: answers of its API, files of its export tools, and of its page of requests.

Source: github.com/Helicone/helicone (2026-11-30), valhalla/jawn/src/lib/stores/request/request.ts, README.md,
examples/export/ and packages/llm-mapper/types.ts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tunewright.logs.call import LoggedCall, ended_by_limit, usage_of
from tunewright.logs.helicone_python import from_python
from tunewright.logs.openai import call_of, kind_of
from tunewright.logs.usage import TokenCounts
from tunewright.logs.values import between, count, first, mapping, mappings, moment, number, parsed, text, whole
from tunewright.logs.vendors import openai_request, openai_response, openai_usage

Row = Mapping[str, Any]

_REQUEST = {"request_created_at", "request_body"}
_RESPONSE = ("response_status", "delay_ms", "response_created_at")
_UI = {"heliconeMetadata", "raw"}

_OTHER_CALLS = re.compile(
    r"/(?:embeddings|moderations|images|audio|rerank|files|batches|assistants|threads|vector_stores|fine_tuning)\b"
    r"|:(?:embedContent|batchEmbedContents|countTokens|predict)\b"
)
"""Paths of calls that ask no language model."""
_OTHER_TYPES = re.compile(r"embedding|image|moderation|assistant|vector-db|\Atool\Z|\Adata\Z")
"""The same in the page's `_type`."""
_LOGGED_TYPES = ("tool", "vector_db", "data")
"""`_type` of what an application logs by itself."""
_CANCELLED = -3
_NO_CACHE = "00000000-0000-0000-0000-000000000000"

_PREVIEW = (
    "not-kept",
    "Helicone's file has no whole texts of this call, at most a preview. Export it with bodies (--include-body).",
)
_OMITTED = "not-kept", "Helicone was told not to keep the texts of this call (Helicone-Omit-Request or -Response)."
_NO_ANSWERS = ("no-answer", "Helicone's CSV files have no answers. Export them as JSONL, with bodies.")
_BROKEN_OFF = ("cut-answer", "The client broke the answer off, and would teach cut answers.")
_NOT_FOLDED = ("partial", "Helicone could not put this answer together from its stream.")
_UNREADABLE = ("partial", "Helicone could not read this answer.")
_OTHER_API = (
    "no-request",
    "This request has the form of an API that can't be read: neither OpenAI's, nor one like it.",
)
_TOO_DEEP = ("no-request", "This row is nested too deep to be read.")


def is_helicone(row: Row) -> bool:
    """Whether a row is Helicone's: of its API and export tools, or of its page."""
    keys = row.keys()
    return (keys >= _REQUEST and any(name in row for name in _RESPONSE)) or keys >= _UI


def helicone_calls(row: Row) -> Iterator[LoggedCall]:
    try:
        found = list(_calls(_of_page(row) if "heliconeMetadata" in row else row))
    except RecursionError:
        found = [LoggedCall("chat", {}, None, _TOO_DEEP)]
    yield from found


def _of_page(row: Row) -> dict[str, Any]:
    """A row of the page with the API's names. `schema` has the same texts, in a form that loses tools' schemas."""
    raw, known = mapping(row.get("raw")), mapping(row.get("heliconeMetadata"))
    return {
        "request_body": raw.get("request"),
        "response_body": raw.get("response"),
        "request_id": known.get("requestId"),
        "request_created_at": known.get("createdAt"),
        "response_status": mapping(known.get("status")).get("code"),
        "delay_ms": known.get("latency"),
        "time_to_first_token": known.get("timeToFirstToken"),
        "cost": known.get("cost"),
        "prompt_tokens": known.get("promptTokens"),
        "completion_tokens": known.get("completionTokens"),
        "prompt_cache_read_tokens": known.get("promptCacheReadTokens"),
        "prompt_cache_write_tokens": known.get("promptCacheWriteTokens"),
        "cache_reference_id": known.get("cacheReferenceId"),
        "target_url": known.get("path"),
        "model": row.get("model"),
        "page_type": row.get("_type"),
    }


def _calls(row: Row) -> Iterator[LoggedCall]:
    asked, answered = _body(row.get("request_body")), _body(row.get("response_body"))
    if content := text(row.get("signed_body_content")):
        both = mapping(from_python(content) or content)
        asked, answered = _body(both.get("request")), _body(both.get("response"))
        # The script that writes this column puts bodies to other rows (examples/export/python/export.py).
        if not _belongs(mapping(answered), row):
            row = {"signed_body_content": content}
    if not _is_other(row, asked, answered):
        yield _call(row, asked, answered)


def _call(row: Row, asked: Any, answered: Any) -> LoggedCall:
    request, response = openai_request(mapping(asked)), openai_response(answered)
    fault = _fault(row, asked, answered, request)
    code = fault[0] if fault else None
    if code == "not-kept":  # what is in the texts' place was not sent
        request = request if kind_of(request) else {name: request[name] for name in request if name == "model"}
        response = None
    path = text(first(row, "target_url", "request_path")) or ""
    begun, ended = moment(row.get("request_created_at")), moment(row.get("response_created_at"))
    milliseconds, piece = number(row.get("delay_ms")), number(row.get("time_to_first_token"))
    answered_model = text(mapping(response).get("model")) or text(first(row, "response_model", "model"))
    call = call_of(
        request,
        _whole(response),
        id=text(row.get("request_id")),
        # In PostgreSQL's rows `request_model` is what was asked for; in ClickHouse's it is what `model` is.
        model=text(request.get("model")) or (text(row.get("request_model")) if "response_model" in row else None),
        answered_model=None if code == "failed" else answered_model,
        fault=fault,
        time=begun,
        seconds=between(begun, ended) if milliseconds is None else milliseconds / 1000,
        first_seconds=piece / 1000 if piece else None,
        usage=_usage(row, mapping(response)),
        usd=_usd(row),
        is_streamed=request.get("stream") is True or ":streamGenerateContent" in path or None,
    )
    return _ended(call)


def _body(value: Any) -> Any:
    """A body as the file has it. CSV files double its quotes once more than CSV does, or have it in Python's form."""
    value = parsed(value)
    if isinstance(value, str) and value.startswith('{""'):
        value = parsed(value.replace('""', '"'))
    if isinstance(value, str) and value.startswith("{'"):
        value = from_python(value)
    return value


def _is_other(row: Row, asked: Any, answered: Any) -> bool:
    """Whether it is no call of a language model."""
    if _OTHER_CALLS.search(text(first(row, "target_url", "request_path")) or ""):
        return True
    if _OTHER_TYPES.search(text(row.get("page_type")) or "") or "embed" in (text(row.get("model")) or ""):
        return True
    return mapping(asked).get("_type") in _LOGGED_TYPES or mapping(answered).get("object") == "list"


def _belongs(response: Row, row: Row) -> bool:
    """Whether a response is that of its row, by its model and usage."""
    models = [name for name in (row.get("response_model"), row.get("model"), row.get("request_model")) if text(name)]
    usage = usage_of(openai_usage(mapping(response.get("usage")))) or TokenCounts()
    prompt = count(row.get("prompt_tokens"))
    return (
        (not text(response.get("model")) or response["model"] in models)
        and prompt in (usage.prompt_tokens, usage.prompt_tokens - usage.cached_tokens)
        and (usage.answer_tokens - count(row.get("completion_tokens"))) in (0, usage.reasoning_tokens)
        and bool(response.get("error")) == ((_status(row) or 0) >= 400)
    )


def _status(row: Row) -> int | None:
    """The HTTP status, or a negative number of Helicone's own."""
    return whole(row.get("response_status"))


def _fault(row: Row, asked: Any, answered: Any, request: Row) -> tuple[str, str] | None:
    status = _status(row)
    if status is not None and (status >= 400 or (status < 0 and status != _CANCELLED)):
        error = mapping(mapping(answered).get("error"))
        what = first(error, "code", "type")
        return "failed", f"The call failed: status {status}{f', {what}' if isinstance(what, str) else ''}."
    for body in (asked, answered):
        if note := mapping(body).get("helicone_message"):
            said = note[:100] if isinstance(note, str) else "a note"
            reason = f"Helicone has a note in place of this call's texts ('{said}'). Export it with bodies."
            return "not-kept", reason
        if isinstance(body, Mapping) and body and body.keys() <= {"model"}:
            return _OMITTED
    if not isinstance(asked, Mapping) or (isinstance(answered, str) and answered.strip()):
        return _PREVIEW
    if kind_of(request) is None:
        return _OTHER_API
    if "response_body" not in row and "signed_body_content" not in row and answered is None:
        return _NO_ANSWERS
    if status == _CANCELLED:
        return _BROKEN_OFF
    if "helicone_error" in mapping(answered):
        return _UNREADABLE
    return _NOT_FOLDED if _is_stream_alone(answered) else None


def _is_stream_alone(answered: Any) -> bool:
    """Whether a response is a stream's pieces, or its first piece, in place of the whole answer."""
    body = mapping(answered)
    choices = list(mappings(body.get("choices")))
    alone = body.keys() == {"streamed_data"}
    return alone or (bool(choices) and all("message" not in each and "delta" in each for each in choices))


def _whole(response: Any) -> Any:
    """A response with its reason for the end, which Helicone loses where it puts a stream together."""
    choices = [dict(each) for each in mappings(mapping(response).get("choices"))]
    if not choices or choices[0].get("finish_reason"):
        return response
    pieces = mappings(response.get("streamed_data"))
    ends = [end for piece in pieces for each in mappings(piece.get("choices")) if (end := each.get("finish_reason"))]
    choices[0]["finish_reason"] = ends[-1] if ends else None
    return {**response, "choices": choices}


def _ended(call: LoggedCall) -> LoggedCall:
    """A call whose answer ended at its limit where the log has no reason for the end."""
    if not call.answer or call.answer.finish_reason or not (reason := ended_by_limit(call.request, call.usage)):
        return call
    return replace(call, answer=replace(call.answer, finish_reason=reason))


def _usage(row: Row, response: Row) -> TokenCounts | None:
    """The response's own counts, else the row's, which leave out cached tokens and thinking."""
    if usage := usage_of(openai_usage(mapping(response.get("usage")))):
        return usage
    read, written = (count(row.get(f"prompt_cache_{way}_tokens")) for way in ("read", "write"))
    fresh, answered = count(row.get("prompt_tokens")), count(row.get("completion_tokens"))
    return TokenCounts(fresh + read + written, answered, read, written) if fresh or answered else None


def _usd(row: Row) -> float | None:
    """The price; 0 only where Helicone answered from its cache, because it stands for an unknown one elsewhere."""
    usd = number(first(row, "cost", "cost_usd", "costUSD"))
    return usd if usd or (text(row.get("cache_reference_id")) or _NO_CACHE) != _NO_CACHE else None
