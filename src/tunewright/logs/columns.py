"""What people write beside a request and its response: whether the call failed, its tokens, its times and its price.

Only names are read that say what they count: `latency_ms` is, `latency` and `cost` are not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tunewright.logs.call import usage_of
from tunewright.logs.usage import TokenCounts
from tunewright.logs.values import first, number, parsed, text, whole
from tunewright.logs.vendors import openai_usage

Row = Mapping[str, Any]

_ERRORS = ("error", "error_message", "errorMessage", "error_code", "errorCode")
_WENT_WELL = ("success", "succeeded", "ok")
_FAILED = ("failed", "is_error", "isError")
_STATUS = ("status_code", "statusCode", "http_status", "httpStatus", "status")
_FAILURES = ("error", "errored", "fail", "failed", "failure", "aborted", "timeout", "timed_out", "timedout")
"""Words of a status, in lower case. Those of orders and bookings, such as cancelled and expired, may be the data's."""
_NOTHING = ("", "none", "null", "nan", "n/a", "-", "no", "false", "ok", "success", "{}", "[]")
"""Texts in the place of an error that there was not."""
_STATUS_LINE = re.compile(r"(?:HTTP\S* )?([1-5]\d\d)\b")
_LONGEST = 200
"""Letters of an error that a reason has."""

_TOKENS = (
    ("prompt_tokens", "completion_tokens"),
    ("input_tokens", "output_tokens"),
    ("promptTokens", "completionTokens"),
    ("inputTokens", "outputTokens"),
    ("tokens_prompt", "tokens_completion"),
    ("tokens_in", "tokens_out"),
)
_CACHED = ("cached_tokens", "cached_input_tokens", "cachedTokens")
_REASONING = ("reasoning_tokens", "reasoningTokens")
_OF_ANTHROPIC = {"cache_read_input_tokens", "cache_creation_input_tokens"}
_TIMES = ("latency", "duration", "elapsed", "response_time")
_SECONDS = (*(f"{name}_s" for name in _TIMES), *(f"{name}_seconds" for name in _TIMES))
_MILLISECONDS = (*(f"{name}_ms" for name in _TIMES), "latencyMs", "durationMs", "elapsedMs", "responseTimeMs")
_FIRST_SECONDS = ("ttft_s", "ttft_seconds", "time_to_first_token_s", "time_to_first_token_seconds")
_FIRST_MILLISECONDS = ("ttft_ms", "ttftMs", "time_to_first_token_ms", "timeToFirstTokenMs")
_USD = ("cost_usd", "costUsd", "total_cost_usd", "usd")


def failure_in(row: Row) -> tuple[str, str] | None:
    """(code, reason) of a call that failed, by what stands beside its request and response; None: nothing says so."""
    error = next((value for name in _ERRORS if not _is_nothing(value := row.get(name))), None)
    if error is not None:
        return failure_of(error)
    for name in _STATUS:
        if failure := failure_of_status(row.get(name)):
            return failure
    for name in _WENT_WELL:
        if _is_false(row.get(name)):
            return "failed", f"The call failed: `{name}` is false."
    for name in _FAILED:
        if not _is_nothing(row.get(name)):
            return "failed", f"The call failed: `{name}` is true."
    return None


def failure_of(error: Any) -> tuple[str, str]:
    """(code, reason) of a call with an error in the place of its answer, or beside it."""
    error = parsed(error)
    named = first(error, "code", "type", "message") if isinstance(error, Mapping) else None
    return "failed", f"The call failed: {_line(named or error)}."


def failure_of_status(status: Any) -> tuple[str, str] | None:
    """(code, reason) of a call whose status, a number or a word, says that it failed; None: it does not. Tables have
    numbers as texts and as decimals."""
    words = status.strip() if isinstance(status, str) else ""
    code, line = whole(status), _STATUS_LINE.match(words)
    if code is None and line:
        code = int(line[1])
    is_word = re.sub(r"[\s-]+", "_", words.lower()) in _FAILURES
    if not is_word and (code is None or code < 400):
        return None
    return "failed", f"The call failed with status {words if code is None else code}."


def _is_nothing(error: Any) -> bool:
    if isinstance(error, str) and error.strip().lower() in _NOTHING:
        return True
    code = number(error)
    return not error or (code is not None and (code == 0 or 200 <= code < 300))


def _is_false(value: Any) -> bool:
    if isinstance(value, str) and value.strip().lower() in ("false", "no"):
        return True
    return value is False or number(value) == 0


def _line(value: Any) -> str:
    line = " ".join(str(value)[: 4 * _LONGEST].split()).rstrip(".")
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def usage_in(row: Row) -> TokenCounts | None:
    """The token counts in the columns of a row; None: it has none for the prompt, or none for the answer."""
    for prompt, answer in _TOKENS:
        if number(row.get(prompt)) is None or number(row.get(answer)) is None:
            continue
        block: Row = {
            "prompt_tokens": row[prompt],
            "completion_tokens": row[answer],
            "prompt_tokens_details": {"cached_tokens": first(row, *_CACHED)},
            "completion_tokens_details": {"reasoning_tokens": first(row, *_REASONING)},
        }
        if prompt == "input_tokens" and not _OF_ANTHROPIC.isdisjoint(row):
            block = openai_usage(row)
        usage = usage_of(block)
        return usage if usage and (usage.prompt_tokens or usage.answer_tokens) else None
    return None


def seconds_in(row: Row) -> float | None:
    """How long the answer took."""
    return _seconds(row, _SECONDS, _MILLISECONDS)


def first_seconds_in(row: Row) -> float | None:
    """How long the answer's first piece took."""
    return _seconds(row, _FIRST_SECONDS, _FIRST_MILLISECONDS)


def usd_in(row: Row) -> float | None:
    """The price; None also where it is 0, which often stands for an unknown one."""
    return _first_number(row, _USD) or None


def model_in(row: Row) -> str | None:
    return text(row.get("model")) or text(row.get("model_name"))


def finish_reason_in(row: Row) -> str | None:
    return text(first(row, "finish_reason", "finishReason", "stop_reason"))


def _seconds(row: Row, seconds: Iterable[str], milliseconds: Iterable[str]) -> float | None:
    found = _first_number(row, milliseconds)
    return _first_number(row, seconds) if found is None else found / 1000


def _first_number(row: Row, names: Iterable[str]) -> float | None:
    return next((found for name in names if (found := number(row.get(name))) is not None), None)
