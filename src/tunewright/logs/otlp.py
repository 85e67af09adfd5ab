"""Traces of OpenTelemetry with spans of model calls: OTLP's JSON, and what Phoenix exports.

`otlp_spans.py` decodes the spans, and a module each reads the texts in one vocabulary of attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from tunewright.logs.call import LoggedAnswer, LoggedCall, earlier_turns_fault, usage_of
from tunewright.logs.openai import NO_ANSWER, NO_REQUEST, kind_of
from tunewright.logs.otlp_events import events_said
from tunewright.logs.otlp_genai import genai_said
from tunewright.logs.otlp_numbers import (
    answered_model_in,
    first_seconds_of,
    is_streamed,
    model_in,
    service_tier_in,
    settings_in,
    usage_in,
)
from tunewright.logs.otlp_openinference import openinference_said
from tunewright.logs.otlp_openllmetry import openllmetry_said
from tunewright.logs.otlp_spans import TraceSpan, attributes_of, otlp_span, phoenix_span, spans_of_request
from tunewright.logs.otlp_texts import Said
from tunewright.logs.values import first, mapping, mappings, number, text

_VOCABULARIES: tuple[Callable[[TraceSpan], Said | None], ...] = (
    openinference_said,
    genai_said,
    openllmetry_said,
    events_said,
)
"""In the order in which they count where a span has several."""
_OPERATIONS = ("chat", "text_completion", "generate_content")
"""Operations that ask a model. `fetch_response` only fetches an earlier answer again."""
_KEPT_APART = ("gen_ai.input.messages_ref", "gen_ai.output.messages_ref")
_REDACTED = "__REDACTED__"
"""What OpenInference writes in place of a text that it was told to hide."""
_FARTHEST = 20
"""Spans between a framework's call and the same call of the SDK within it, at most."""
_APART = (
    "These log records belong to spans in another file and are not joined with them: "
    "set OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=SPAN_ONLY, which keeps the texts in the spans."
)
"""The setting: opentelemetry-util-genai's description at pypi.org, 2026-11-30."""
_NOT_KEPT = (
    "The span has no texts: the instrumentation keeps none unless it is told to, or it sent them to a file of logs."
)


def is_otlp(row: Mapping[str, Any]) -> bool:
    """Whether a row is a request of OTLP, of spans or of log records, or one span in its form."""
    names = ("resourceSpans", "resource_spans", "resourceLogs", "resource_logs")
    return any(isinstance(row.get(name), list) for name in names) or _is_bare_span(row)


def _is_bare_span(row: Mapping[str, Any]) -> bool:
    """Whether a row is one span. Phoenix's export for OTLP has them so; MLflow's spans have an object of attributes."""
    has_keys = {"traceId", "spanId", "startTimeUnixNano"} <= row.keys()
    has_keys = has_keys or {"trace_id", "span_id", "start_time_unix_nano"} <= row.keys()
    return has_keys and isinstance(row.get("attributes"), list)


def otlp_calls(row: Mapping[str, Any]) -> Iterator[LoggedCall]:
    if _is_bare_span(row):
        yield from _calls([otlp_span(row)])
        return
    yield from _calls(spans_of_request(row))
    if _has_events(row):
        yield LoggedCall("chat", {}, None, ("not-kept", _APART))


def _has_events(row: Mapping[str, Any]) -> bool:
    """Whether a row has log records that are events of model calls."""
    for resource in mappings(first(row, "resourceLogs", "resource_logs")):
        for scope in mappings(first(resource, "scopeLogs", "scope_logs")):
            for record in mappings(first(scope, "logRecords", "log_records")):
                older = attributes_of(record.get("attributes")).get("event.name")
                name = text(first(record, "eventName", "event_name")) or text(older)
                if name and name.startswith("gen_ai."):
                    return True
    return False


def is_phoenix(row: Mapping[str, Any]) -> bool:
    """Whether a row is a span of Phoenix's API, a row of its data frames, or a trace of its command `px`."""
    if "context.span_id" in row:
        return any(name.startswith("attributes.") for name in row)
    if "traceId" in row and isinstance(row.get("spans"), list):
        return all(map(_is_phoenix_span, mappings(row["spans"])))
    return _is_phoenix_span(row)


def _is_phoenix_span(row: Mapping[str, Any]) -> bool:
    return {"context", "span_kind", "status_code"} <= row.keys() and "span_id" in mapping(row["context"])


def phoenix_calls(row: Mapping[str, Any]) -> Iterator[LoggedCall]:
    spans = mappings(row["spans"]) if "spans" in row else iter([row])
    yield from _calls(map(phoenix_span, spans))


# From spans to calls


def _calls(spans: Iterable[TraceSpan]) -> Iterator[LoggedCall]:
    """The model calls among spans, each once."""
    parents: dict[tuple[str, str], tuple[str, str]] = {}
    calls: dict[tuple[str, str], LoggedCall] = {}
    for place, span in enumerate(spans):
        key = (span.trace, span.id or f"#{place}")
        parents[key] = (span.trace, span.parent)
        if call := _call(span):
            calls[key] = call
    twins = _twins(parents, calls)
    yield from (call for key, call in calls.items() if key not in twins)


def _twins(
    parents: Mapping[tuple[str, str], tuple[str, str]], calls: Mapping[tuple[str, str], LoggedCall]
) -> set[tuple[str, str]]:
    """The calls that others of these tell as well: of a framework's span around the SDK's the inner one counts, of two
    instrumentations that have the same answer the first, and in either case the one with texts."""
    twins: set[tuple[str, str]] = set()
    seen: dict[tuple[str, str], tuple[str, str]] = {}
    for key, call in calls.items():
        outer = key
        for _ in range(_FARTHEST):
            outer = parents.get(outer, ("", ""))
            if outer in calls and outer != key and _is_same(call, calls[outer]):
                twins.add(key if _is_bare(call) and not _is_bare(calls[outer]) else outer)
        if call.id and key not in twins and call.id != key[1]:
            other = seen.setdefault((key[0], call.id), key)
            if other != key and other not in twins:
                twins.add(other if _is_bare(calls[other]) and not _is_bare(call) else key)
    return twins


def _is_same(inner: LoggedCall, outer: LoggedCall) -> bool:
    if _is_bare(inner) or _is_bare(outer) or outer.answer is None:
        return True
    if inner.answer is None:  # an attempt that failed before the one that gave the outer answer
        return False
    said, again = (
        (answer.text.strip(), [(call["name"], call["arguments"]) for call in answer.tool_calls])
        for answer in (inner.answer, outer.answer)
    )
    return said == again


def _is_bare(call: LoggedCall) -> bool:
    return call.answer is None and kind_of(call.request) is None


def _call(span: TraceSpan) -> LoggedCall | None:
    """The call that a span is; None: it is none."""
    try:
        return _read(span)
    except RecursionError:
        reason = "The values of this span are nested too deeply to be read."
        return LoggedCall("chat", {}, None, ("no-request", reason), span.id or None)


def _read(span: TraceSpan) -> LoggedCall | None:
    attributes = span.attributes
    is_call = _is_call(attributes)
    if is_call is False:
        return None
    found = [said for vocabulary in _VOCABULARIES if (said := vocabulary(span))]
    usage = usage_in(attributes)
    if is_call is None and not found and not (usage and usage.answer_tokens):
        return None
    said = max(found, key=_fullness, default=Said({}, None))
    response = said.response
    request = {**settings_in(attributes), **said.request}
    model = model_in(attributes) or text(request.get("model"))
    if model:
        request.setdefault("model", model)
    answer = _usual(said.answer)
    return LoggedCall(
        kind_of(request) or "chat",
        request,
        answer,
        _fault(span, said, request, answer),
        text(attributes.get("gen_ai.response.id")) or text(response.get("id")) or span.id or None,
        model,
        answered_model_in(attributes) or text(response.get("model")),
        span.begin,
        span.seconds,
        first_seconds_of(span),
        usage or usage_of(response.get("usage")),
        number(attributes.get("llm.cost.total")) or None,
        is_streamed(attributes) or request.get("stream") is True,
        service_tier_in(attributes) or text(response.get("service_tier")),
    )


def _is_call(attributes: Mapping[str, Any]) -> bool | None:
    """Whether a span is a model call, by the attributes that say so; None: none says."""
    kind = (text(attributes.get("openinference.span.kind")) or "UNKNOWN").upper()
    if kind != "UNKNOWN":  # as Phoenix writes it for spans of other vocabularies
        return kind == "LLM"
    if operation := text(attributes.get("gen_ai.operation.name")):
        return operation in _OPERATIONS
    if asked := text(attributes.get("llm.request.type")):
        return asked in ("chat", "completion")
    return False if "traceloop.span.kind" in attributes else None


def _fullness(said: Said) -> int:
    return (kind_of(said.request) is not None) + (said.answer is not None)


def _usual(answer: LoggedAnswer | None) -> LoggedAnswer | None:
    """An answer with OpenAI's word for an end with tool calls; messages of the GenAI conventions have the singular."""
    return replace(answer, finish_reason="tool_calls") if answer and answer.finish_reason == "tool_call" else answer


def _fault(
    span: TraceSpan, said: Said, request: Mapping[str, Any], answer: LoggedAnswer | None
) -> tuple[str, str] | None:
    error = text(span.attributes.get("error.type"))
    if span.is_failed or (error and answer is None):
        raised = next((event.attributes for event in span.events if event.name == "exception"), {})
        why = error or text(raised.get("exception.type")) or span.message[:200] or "the span does not say why"
        return "failed", f"The call failed: {why.rstrip('.')}."
    asks = kind_of(request) is not None
    if _is_redacted(span, request, answer, asks):
        return "redacted", "The texts of this call were hidden when it was logged."
    if said.cut:
        return "cut-text", f"The log cut the text of {said.cut} in the middle."
    if not asks and answer is None:
        if any(name in span.attributes for name in _KEPT_APART):
            return "not-kept", "The texts of this call lie in files of their own, which the span only names."
        return "not-kept", _NOT_KEPT
    if not asks:
        return "no-request", NO_REQUEST
    if answer is None:
        return "no-answer", NO_ANSWER
    if answer.finish_reason == "error":  # where a stream ended without a reason
        return "cut-answer", "The answer did not arrive whole."
    if span.dropped and not said.is_whole:
        return "partial", f"{span.dropped} attributes of this span were dropped, so texts or tools may be missing."
    if answer.tool_calls and not request.get("tools") and not request.get("functions"):
        return "partial", "The model called a tool, but the log does not have the request's tools."
    if any(_is_empty(tool) for tool in mappings(request.get("tools"))):
        return "partial", "The log has the names of the request's tools, but not what they are."
    return earlier_turns_fault(request, said.response)  # some spans have the Responses API's calls as chats


def _is_redacted(span: TraceSpan, request: Mapping[str, Any], answer: LoggedAnswer | None, asks: bool) -> bool:
    if not asks or answer is None:
        return _REDACTED in (span.attributes.get("input.value"), span.attributes.get("output.value"))
    contents = [message.get("content") for message in mappings(request.get("messages"))]
    texts = [mapping(part).get("text") for content in contents if isinstance(content, list) for part in content]
    return _REDACTED in (answer.text, request.get("input"), *contents, *texts)


def _is_empty(tool: Mapping[str, Any]) -> bool:
    """Whether a function is a name alone: instrumentations leave the rest out unless they are told otherwise."""
    return tool.get("type") == "function" and mapping(tool.get("function")).keys() == {"name"}
