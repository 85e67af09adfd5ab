"""Spans of OpenTelemetry, out of each form in which they are exported.

Sources, 2026-11-30: opentelemetry-specification, specification/protocol/file-exporter.md; opentelemetry-collector,
pdata/ptrace/json_test.go; Arize-ai/phoenix, src/phoenix/server/api/routers/v1/spans.py and
src/phoenix/trace/dsl/query.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tunewright.logs.values import between, count, first, mapping, mappings, moment, text

DEEPEST = 60
"""Values that are nested deeper are left out."""
_ERRORS = (2, "2", "STATUS_CODE_ERROR", "ERROR")
_SCALARS = ("string", "bool", "double", "bytes")
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_COLUMN = "attributes."
"""The beginning of the columns of attributes in a Phoenix data frame."""


@dataclass(frozen=True)
class SpanEvent:
    name: str
    time: datetime | None
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class TraceSpan:
    trace: str
    id: str
    parent: str
    """Empty: it has none."""
    begin: datetime | None
    end: datetime | None
    attributes: Mapping[str, Any]
    events: list[SpanEvent] = field(default_factory=list)
    is_failed: bool = False
    message: str = ""
    """Of the failure."""
    dropped: int = 0
    """Attributes that were left out because a span may have only so many."""

    @property
    def seconds(self) -> float | None:
        return between(self.begin, self.end)

    def until(self, *names: str) -> float | None:
        """Seconds to the first event of these names."""
        return next((between(self.begin, event.time) for event in self.events if event.name in names), None)


def spans_of_request(row: Mapping[str, Any]) -> Iterator[TraceSpan]:
    """The spans of one request of OTLP, which is a line of the collector's file exporter."""
    for resource in mappings(first(row, "resourceSpans", "resource_spans")):
        for scope in mappings(first(resource, "scopeSpans", "scope_spans", "instrumentationLibrarySpans")):
            yield from map(otlp_span, mappings(scope.get("spans")))


def otlp_span(span: Mapping[str, Any]) -> TraceSpan:
    """A span of OTLP. The keys of JSON are in camel case; Phoenix writes those of protocol buffers."""
    status = mapping(span.get("status"))
    events = [
        SpanEvent(
            str(event.get("name")),
            moment(first(event, "timeUnixNano", "time_unix_nano")),
            attributes_of(event.get("attributes")),
        )
        for event in mappings(span.get("events"))
    ]
    return TraceSpan(
        _name(first(span, "traceId", "trace_id")),
        _name(first(span, "spanId", "span_id")),
        _name(first(span, "parentSpanId", "parent_span_id")),
        moment(first(span, "startTimeUnixNano", "start_time_unix_nano")),
        moment(first(span, "endTimeUnixNano", "end_time_unix_nano")),
        attributes_of(span.get("attributes")),
        events,
        _is_error(status.get("code")),
        _name(status.get("message")),
        count(first(span, "droppedAttributesCount", "dropped_attributes_count")),
    )


def phoenix_span(span: Mapping[str, Any]) -> TraceSpan:
    """A span of Phoenix's API, or a row of its data frames, in which each attribute is a column."""
    context = mapping(span.get("context"))
    attributes = {key: value for key, value in mapping(span.get("attributes")).items() if _is_there(value)}
    for key, value in span.items():
        if key.startswith(_COLUMN) and _is_there(value):
            attributes[key.removeprefix(_COLUMN)] = value
    if text(span.get("span_kind")):  # Phoenix takes it out of the attributes
        attributes.setdefault("openinference.span.kind", span["span_kind"])
    events = [
        SpanEvent(str(event.get("name")), moment(event.get("timestamp")), mapping(event.get("attributes")))
        for event in mappings(span.get("events"))
    ]
    return TraceSpan(
        _name(first(context, "trace_id") or span.get("context.trace_id")),
        _name(first(context, "span_id") or span.get("context.span_id")),
        _name(span.get("parent_id")),
        moment(span.get("start_time")),
        moment(span.get("end_time")),
        attributes,
        events,
        _is_error(span.get("status_code")),
        _name(span.get("status_message")),
    )


def attributes_of(value: Any, depth: int = 0) -> dict[str, Any]:
    """Attributes by name."""
    if isinstance(value, Mapping):
        return dict(value)
    return {
        str(each["key"]): value_of(each.get("value"), depth + 1)
        for each in mappings(value)
        if isinstance(each.get("key"), str)
    }


def value_of(value: Any, depth: int = 0) -> Any:
    """A value of OTLP: an object whose one key, or whose one that is not null, says its kind. An empty one is null."""
    if not isinstance(value, Mapping) or depth > DEEPEST:
        return None
    for kind in _SCALARS:
        if (found := first(value, f"{kind}Value", f"{kind}_value")) is not None:
            return found
    if (whole := first(value, "intValue", "int_value")) is not None:  # a text, since JSON's numbers hold 53 bits
        return int(whole) if isinstance(whole, str) and _WHOLE.fullmatch(whole) else whole
    if (listed := first(value, "arrayValue", "array_value")) is not None:
        return [value_of(each, depth + 1) for each in mappings(mapping(listed).get("values"))]
    if (named := first(value, "kvlistValue", "kvlist_value")) is not None:
        return attributes_of(mapping(named).get("values"), depth)
    return None


def _name(value: Any) -> str:
    return text(value) or ""


def _is_there(value: Any) -> bool:
    """Whether a cell of a table has a value: neither null, nor empty, nor NaN, which alone differs from itself."""
    return value is not None and value != "" and (not isinstance(value, float) or value == value)


def _is_error(code: Any) -> bool:
    return isinstance(code, str | int | float) and code in _ERRORS
