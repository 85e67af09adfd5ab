"""One observation of Langfuse as a call: its texts, its figures, and why nothing can be learnt from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.logs.call import LoggedCall, ended_by_limit, usage_of
from tunewright.logs.langfuse_texts import opened, opened_repr, request_of, response_of, texts_in, unquoted
from tunewright.logs.openai import call_of
from tunewright.logs.usage import TokenCounts
from tunewright.logs.values import between, count, items, mapping, moment, number, text

Row = Mapping[str, Any]

_PARAMETERS = (
    "temperature",
    "max_tokens",
    "max_completion_tokens",
    "top_p",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "stop",
    "tool_choice",
    "response_format",
)
_REDACTED = "redacted-by-litellm"
_MEDIA = "@@@langfuseMedia:"
"""How a text begins that stands for a file (packages/shared/src/server/media/MediaPayloadProcessor.ts, 2026-11-30)."""
_LONGEST_REASON = 200


def observation_call(row: Row, *, is_quoted: bool) -> LoggedCall:
    """The call that an observation is.

    Args:
        is_quoted: whether a plain text may be a JSON text, in quotes.
    """
    written = {name: unquoted(row.get(name)) if is_quoted else row.get(name) for name in ("input", "output")}
    given, details = opened(written["input"]), mapping(opened(row.get("metadata")))
    failed = row.get("level") == "ERROR"
    model, usage, request = model_of(row), _usage(row), _request(row, given, details)
    begun, ended = moment(_known(row, "startTime", "start_time")), moment(_known(row, "endTime", "end_time"))
    started = moment(_known(row, "completionStartTime", "completion_start_time"))
    # LiteLLM writes the end here if the answer did not stream.
    is_streamed = started is not None and started != ended
    finish_reason = text(details.get("finish_reason")) or ended_by_limit(request, usage)
    return call_of(
        request,
        # LiteLLM writes an error's text as the output.
        None if failed else response_of(written["output"], finish_reason) or _called(row),
        id=text(row.get("id")),
        # Of the model asked and the one that answered, one is kept; LangChain's handler keeps both.
        model=text(details.get("ls_model_name")) or model,
        answered_model=None if failed else model,
        time=begun,
        seconds=between(begun, ended),
        first_seconds=between(begun, started) if is_streamed else None,
        usage=usage,
        usd=_usd(row),
        is_streamed=is_streamed,
        fault=_failure(row) if failed else _fault(row, request, given, opened(written["output"])),
    )


def model_of(row: Row) -> str | None:
    return text(_known(row, "model", "providedModelName", "provided_model_name"))


def _known(row: Row, *names: str) -> Any:
    """The value of the first of these keys that is there; some ways out write an empty text for what is missing."""
    return next((row[name] for name in names if row.get(name) is not None and row[name] != ""), None)


def _request(row: Row, given: Any, details: Row) -> dict[str, Any]:
    request = request_of(given)
    if not request:
        return {}
    parameters = mapping(opened(_known(row, "modelParameters", "model_parameters")))
    for name in _PARAMETERS:
        value = opened_repr(parameters.get(name))
        if value not in (None, "", "Infinity"):  # OpenAI's wrapper writes "Infinity" where there is no limit
            request.setdefault(name, value)
    wanted = opened(details.get("response_format"))  # OpenAI's wrapper keeps it here
    if isinstance(wanted, Mapping):
        request["response_format"] = wanted
    tools = _tools(opened(_known(row, "toolDefinitions", "tool_definitions")))
    if tools:
        request.setdefault("tools", tools)
    return request


def _tools(definitions: Any) -> list[dict[str, Any]]:
    """Tools from a map of their names to JSON texts, in which the parameters are JSON texts again."""
    tools = []
    for name, written in mapping(definitions).items():
        found = mapping(opened(written))
        function = {
            "name": name,
            "description": found.get("description"),
            "parameters": opened(found.get("parameters")),
        }
        tools.append({"type": "function", "function": {key: value for key, value in function.items() if value}})
    return tools


def _called(row: Row) -> dict[str, Any] | None:
    """A response of the tool calls in columns of their own: the names are in one, the arguments in the other."""
    calls = items(opened(_known(row, "toolCalls", "tool_calls")))
    names = items(opened(_known(row, "toolCallNames", "tool_call_names")))
    named = [{**mapping(opened(call)), "name": name} for call, name in zip(calls, names, strict=False)]
    return response_of({"role": "assistant", "tool_calls": named}) if named else None


# Faults


def _failure(row: Row) -> tuple[str, str]:
    message = text(_known(row, "statusMessage", "status_message"))
    if message is None:
        return "failed", "The call failed."
    line = " ".join(message[: 4 * _LONGEST_REASON].split())
    return "failed", f"The call failed: {line if len(line) <= _LONGEST_REASON else line[:_LONGEST_REASON] + '…'}"


def _fault(row: Row, request: Row, given: Any, answered: Any) -> tuple[str, str] | None:
    if "input" not in row and "output" not in row:
        return "not-kept", "This export leaves the texts out. Export the observations with their input and output."
    if not request:
        return "no-request", "The input is empty, or has no form that is known as a request."
    return fault_in(given, answered)


def fault_in(*values: Any) -> tuple[str, str] | None:
    """(code, reason) why texts can't be learnt from: something in them was replaced. None: nothing was."""
    for each in texts_in(*values):
        if each == _REDACTED:
            return "redacted", "LiteLLM redacted the texts of this call."
        if _MEDIA in each:
            return "partial", "The call has an image or another file, which is not in the export."
    return None


# Figures


def _usage(row: Row) -> TokenCounts | None:
    """Langfuse takes each detail out of `input` and `output`, so that a whole is the sum of its parts
    (packages/shared/src/server/ingestion/types.ts, 2026-11-30)."""
    details = mapping(opened(_known(row, "usageDetails", "usage_details")))

    def total(part: str, *words: str) -> int:
        named = (name for name in details if part in name and (not words or any(word in name for word in words)))
        return sum(count(details[name]) for name in named)

    if not any("input" in name or "output" in name for name in details):
        return usage_of(details) or _old_usage(row)
    asked, answered = total("input"), total("output")
    read, written = total("input", "cached", "cache_read"), total("input", "cache_creation", "cache_write")
    # LiteLLM's callback leaves tokens of the cache in `input`, too. Its `total` counts them once.
    twice = asked + answered - (count(details.get("total")) or asked + answered)
    if 0 < twice <= read + written:
        asked -= twice
    return TokenCounts(asked, answered, read, written, total("output", "reasoning"))


def _old_usage(row: Row) -> TokenCounts | None:
    """The counts of versions without details; they may be of characters."""
    block = mapping(opened(row.get("usage")))
    if block.get("unit") not in (None, "TOKENS"):
        return None
    read = count(block.get("input")) or count(_known(row, "promptTokens", "inputUsage"))
    written = count(block.get("output")) or count(_known(row, "completionTokens", "outputUsage"))
    return TokenCounts(read, written) if read or written else None


def _usd(row: Row) -> float | None:
    whole = number(_known(row, "calculatedTotalCost", "totalCost", "total_cost"))
    return whole or number(mapping(opened(_known(row, "costDetails", "cost_details"))).get("total")) or None
