"""LiteLLM's logs: rows of its table LiteLLM_SpendLogs, and the payloads that it hands to loggers and buckets.

Source: litellm 1.108.7 and litellm-proxy-extras 0.4.110 (2026-11-30): litellm_proxy_extras/schema.prisma,
proxy/spend_tracking/spend_tracking_utils.py, types/utils.py and litellm_core_utils/litellm_logging.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from tunewright.logs.call import LoggedCall, usage_of
from tunewright.logs.litellm_marks import REDACTED, fault_of_marks
from tunewright.logs.openai import call_of, kind_of
from tunewright.logs.usage import TokenCounts
from tunewright.logs.values import between, count, first, items, mapping, moment, number, parsed, text
from tunewright.logs.vendors import openai_request, openai_response, openai_usage

Row = Mapping[str, Any]

_PAYLOAD = {"call_type", "startTime", "endTime", "model_parameters"}
_SPEND = {"request_id", "call_type", "spend", "startTime"}
_DETAIL = {"response", "proxy_server_request"}
_DATADOG = {"ddsource", "ddtags", "message", "service"}
_DAY_SUM = {"startTime", "spend", "users", "models"}

_MODEL_CALL = re.compile(
    r"(?:_?a?(?:completion|text_completion|responses|responses_websocket|anthropic_messages|generate_content"
    r"|generate_content_stream|llm_passthrough_route|realtime)|pass_through_endpoint)?"
)
"""Types of calls that ask a language model; the type is empty where a call failed early."""
_BOOKKEEPING = re.compile(r"_batch_cost\Z|_background_cost\Z|-attempt-\d+\Z")
"""Ends of the ids of rows that only carry a cost: of batches, background answers and retries that were billed."""
_HEALTH_CHECK = "litellm-internal-health-check"
_UNKNOWN_MODEL = "unknown-model"
"""LiteLLM's word for a model's name that it did not want to keep."""
_OWN_KEYS = ("metadata", "litellm_metadata", "litellm_call_id", "litellm_logging_obj", "proxy_server_request")
"""Keys that LiteLLM adds to a request's body."""

_DAY_SUMS = (
    "no-request",
    "These are LiteLLM's sums of days, not calls. Ask for /spend/logs with summarize=false.",
)
_ENCRYPTED = ("not-kept", "LiteLLM encrypted this payload for the queue; decrypt it first.")
_LISTED = (
    "not-kept",
    "LiteLLM's list of calls has no texts. Export the table LiteLLM_SpendLogs, or ask for /spend/logs with "
    "summarize=false.",
)
_NOT_STORED = (
    "not-kept",
    "LiteLLM kept no texts of this call: set store_prompts_in_spend_logs to true there, and log anew.",
)
_ONLY_REQUEST = ("not-kept", "LiteLLM was told to log requests only (s3_log_prompts_only), so the answer is not here.")
_TOO_DEEP = ("no-request", "This row is nested too deep to be read.")


def is_litellm(row: Row) -> bool:
    """Whether a row is LiteLLM's: a payload, a spend log, one's texts, a payload for Datadog or a queue, or a sum."""
    keys = row.keys()
    if _is_payload(row) or keys >= _SPEND or keys >= _DETAIL or keys >= _DAY_SUM:
        return True
    return ("__encrypted__" in row and "payload" in row) or (
        keys >= _DATADOG and '"call_type"' in (text(row["message"]) or "")
    )


def litellm_calls(row: Row) -> Iterator[LoggedCall]:
    try:
        found = list(_calls(row))
    except RecursionError:
        found = [LoggedCall("chat", {}, None, _TOO_DEEP)]
    yield from found


def _is_payload(row: Row) -> bool:
    return row.keys() >= _PAYLOAD and ("hidden_params" in row or "model_map_information" in row)


def _calls(row: Row) -> Iterator[LoggedCall]:
    if "__encrypted__" in row:
        yield LoggedCall("chat", {}, None, _ENCRYPTED)
    elif _is_payload(row):
        yield from _payload_calls(row)
    elif row.keys() >= _DETAIL or row.keys() >= _SPEND:
        yield from _spend_calls(row)
    elif row.keys() >= _DAY_SUM:
        yield LoggedCall("chat", {}, None, _DAY_SUMS)
    elif _is_payload(payload := mapping(row.get("message"))):
        yield from _payload_calls(payload)


def _is_model_call(row: Row, metadata: Row, response: Any) -> bool:
    team = text(row.get("team_id")) or text(metadata.get("user_api_key_team_id"))
    if team == _HEALTH_CHECK or _HEALTH_CHECK in items(row.get("request_tags")):
        return False
    if _BOOKKEEPING.search(text(first(row, "request_id", "id")) or ""):
        return False
    is_answer = isinstance(response, Mapping) and ("choices" in response or "output" in response)
    return is_answer or bool(_MODEL_CALL.fullmatch(text(row.get("call_type")) or ""))


# The table of spend logs


def _spend_calls(row: Row) -> Iterator[LoggedCall]:
    metadata, response = mapping(row.get("metadata")), openai_response(parsed(row.get("response")))
    if not _is_model_call(row, metadata, response):
        return
    request = _spend_request(row)
    fault = _failure(row, metadata)
    if fault is None and not request and not response:
        fault = _why_not_kept(row, metadata)
    known = {
        "id": text(row.get("request_id")),
        "model": _model(request.get("model"), metadata.get("original_model_group"), *_models(row)),
        "usd": _usd(row.get("spend"), row),
        "is_streamed": request.get("stream") is True or None,
    }
    seconds = number(row.get("request_duration_ms"))
    yield _call(row, metadata, request, response, fault, seconds and seconds / 1000, known)


def _spend_request(row: Row) -> dict[str, Any]:
    """The request's body. The column `messages` has it in old rows only: of others it is empty, although the column is
    there (github.com/BerriAI/litellm/issues/34747)."""
    body = mapping(row.get("proxy_server_request"))
    if kind_of(body) is None and "contents" not in body and isinstance(body.get("body"), Mapping):
        body = body["body"]
    if kind_of(body) or "contents" in body:
        return openai_request({name: value for name, value in body.items() if name not in _OWN_KEYS})
    if messages := items(row.get("messages")):
        return openai_request({**mapping(row.get("modelParameters")), "messages": messages})
    return {}


def _why_not_kept(row: Row, metadata: Row) -> tuple[str, str]:
    if stored := text(metadata.get("cold_storage_object_key")):
        return (
            "not-kept",
            f"LiteLLM moved this call's texts to the object '{stored[:200]}' of its bucket; read that one.",
        )
    return _NOT_STORED if "response" in row or "proxy_server_request" in row else _LISTED


# Payloads


def _payload_calls(row: Row) -> Iterator[LoggedCall]:
    metadata, response = mapping(row.get("metadata")), openai_response(parsed(row.get("response")))
    if not _is_model_call(row, metadata, response):
        return
    request = _payload_request(row, mapping(response))
    fault = _failure(row, metadata)
    if fault is None and row.get("response") is None:
        fault = _ONLY_REQUEST
    known = {
        "id": text(row.get("id")),
        "model": _model(*_models(row)),
        "usd": _usd(row.get("response_cost"), row),
        "is_streamed": row.get("stream") is True or None,
    }
    yield _call(row, metadata, request, response, fault, None, known)


def _payload_request(row: Row, response: Row) -> dict[str, Any]:
    given = {"model": _model(*_models(row)), **mapping(row["model_parameters"])}
    parameters = {name: value for name, value in given.items() if name not in _OWN_KEYS and value is not None}
    sent = parsed(row.get("messages"))
    kind = text(row.get("call_type")) or ""
    if isinstance(sent, Mapping):
        found: dict[str, Any] = {**parameters, **sent}
    elif not sent or not isinstance(sent, list | str):
        return {}
    elif "responses" in kind:
        # Responses repeat what the parameters may lack.
        repeated = {name: response[name] for name in ("instructions", "tools", "text") if response.get(name)}
        found = {**repeated, **parameters, "input": sent}
    elif isinstance(sent, list):
        found = {**parameters, "messages": sent}
    else:
        found = {**parameters, "messages": [{"role": "user", "content": sent}]}
    return openai_request(found)


# What both have


def _call(
    row: Row,
    metadata: Row,
    request: dict[str, Any],
    response: Any,
    fault: tuple[str, str] | None,
    seconds: float | None,
    known: dict[str, Any],
) -> LoggedCall:
    begun, ended = moment(row.get("startTime")), moment(row.get("endTime"))
    # Where an answer did not stream, LiteLLM writes its end for its first piece.
    piece = moment(row.get("completionStartTime")) if known["is_streamed"] else None
    answered = text(mapping(response).get("model"))
    call = call_of(
        request,
        response,
        **known,
        fault=fault,
        time=begun,
        seconds=seconds or between(begun, ended),
        first_seconds=_first_seconds(begun, piece, ended),
        usage=_usage(row, metadata, response),
        answered_model=answered or (None if fault and fault[0] == "failed" else _model(row.get("model"))),
    )
    if fault and fault[0] == "failed":
        return call
    marked = fault_of_marks(call)
    if marked == REDACTED:
        parameters = {name: value for name, value in request.items() if name not in ("messages", "input", "prompt")}
        return replace(call, kind="chat", request=parameters, answer=None, fault=marked)
    return replace(call, fault=marked or call.fault)


def _first_seconds(begun: datetime | None, piece: datetime | None, ended: datetime | None) -> float | None:
    return None if piece == ended else between(begun, piece)


def _models(row: Row) -> tuple[Any, Any]:
    """The public name that was asked for, and the deployment's."""
    return row.get("model_group"), row.get("model")


def _model(*names: Any) -> str | None:
    return next((name for name in names if text(name) and name != _UNKNOWN_MODEL), None)


def _failure(row: Row, metadata: Row) -> tuple[str, str] | None:
    # The column is null in rows from before 2025-05-08, and often in `metadata`, too.
    if (text(row.get("status")) or text(metadata.get("status"))) != "failure":
        return None
    error = mapping(row.get("error_information")) or mapping(metadata.get("error_information"))
    what = text(error.get("error_class")) or "LiteLLM does not say why"
    code = first(error, "error_code")
    return "failed", f"The call failed: {what}{f' ({code})' if isinstance(code, str | int) and code else ''}."


def _usd(value: Any, row: Row) -> float | None:
    """LiteLLM writes 0 where it knows no price, too; an answer from its cache costs nothing indeed."""
    return number(value) or (0.0 if str(row.get("cache_hit")).lower() == "true" else None)


def _usage(row: Row, metadata: Row, response: Any) -> TokenCounts | None:
    blocks = (metadata.get("usage_object"), mapping(response).get("usage"), row.get("usage"))
    block = next((each for each in map(mapping, blocks) if each), {})
    usage = usage_of(openai_usage(block)) or TokenCounts()
    if not usage.prompt_tokens and not usage.answer_tokens:
        # The columns are LiteLLM's sums, cached tokens included.
        more = mapping(metadata.get("additional_usage_values"))
        usage = TokenCounts(
            count(row.get("prompt_tokens")),
            count(row.get("completion_tokens")),
            count(more.get("cache_read_input_tokens")),
            count(more.get("cache_creation_input_tokens")),
        )
    if not usage.cache_write_tokens:
        written = first(mapping(block.get("prompt_tokens_details")), "cache_creation_tokens")
        usage = replace(usage, cache_write_tokens=count(written or block.get("cache_creation_input_tokens")))
    return usage if usage.prompt_tokens or usage.answer_tokens else None
