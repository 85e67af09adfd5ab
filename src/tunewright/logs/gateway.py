"""The gateway's own captures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from tunewright.logs.call import LoggedAnswer, LoggedCall, earlier_turns_fault
from tunewright.logs.columns import failure_of_status
from tunewright.logs.otlp_texts import json_text
from tunewright.logs.usage import TokenCounts
from tunewright.logs.values import count, mapping, mappings, moment, number, text


def is_exchange(row: Mapping[str, Any]) -> bool:
    return {"upstream", "kind", "request_bytes", "choices"} <= row.keys()


def exchange_calls(row: Mapping[str, Any]) -> Iterator[LoggedCall]:
    if row["kind"] not in ("chat", "responses", "completions"):
        return
    choice = next(mappings(row.get("choices")), None)
    answer = choice and LoggedAnswer(
        str(choice.get("text") or ""),
        str(choice.get("refusal") or ""),
        list(_tool_calls(choice)),
        text(choice.get("finish_reason")),
    )
    yield LoggedCall(
        row["kind"],
        mapping(row.get("request")),
        answer or None,
        exchange_fault(row, answer or None),
        text(row.get("id")),
        text(row.get("model")),
        text(row.get("answered_model")),
        moment(row.get("time")),
        number(row.get("seconds")),
        number(row.get("first_seconds")),
        _counts(mapping(row.get("usage"))),
        number(row.get("usd")),
        row.get("streamed") is True,
        share=share if (share := number(row.get("share"))) and share <= 1 else 1.0,
        is_audit=_flag(row, "is_audit"),
        usage_is_estimated=_flag(row, "usage_is_estimated"),
    )


def _flag(row: Mapping[str, Any], name: str) -> bool:
    """Whether a column is true, which a table may have as text."""
    return row.get(name) in (True, "true", "True")


def _tool_calls(choice: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    for call in mappings(choice.get("tool_calls")):
        if name := text(call.get("name")):
            yield {"id": text(call.get("id")) or "", "name": name, "arguments": json_text(call.get("arguments"))}


def _counts(usage: Mapping[str, Any]) -> TokenCounts | None:
    known = {each.name: count(usage[each.name]) for each in fields(TokenCounts) if each.name in usage}
    return TokenCounts(**known) if known else None


def exchange_fault(row: Mapping[str, Any], answer: LoggedAnswer | None) -> tuple[str, str] | None:
    """(code, reason) why an exchange has no answer, or one that says nothing; None: its answer says something, though
    it may have a fault of its own.

    Args:
        row: its fields, as `tunewright.gateway.exchanges.Exchange` has them.
    """
    if failure := failure_of_status(row.get("status")):
        return failure
    if row.get("ending", "whole") != "whole":
        return "cut-answer", "The answer did not arrive whole."
    if row.get("answered_by") == "own":
        return "own-answer", "An own model gave this answer, and nothing says that it is right."
    if row.get("request") is None or not answer or row.get("is_whole") is False:
        return "no-answer", "The gateway captured it without its texts, because they were too large."
    return earlier_turns_fault(mapping(row["request"]), {}) if row["kind"] == "responses" else None
