"""The windows of a document, and what of its values stands in each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunewright.tasks.spans.align import Aligned, ValueSpan
from tunewright.tasks.spans.fields import Field
from tunewright.tasks.spans.readings import READINGS
from tunewright.tasks.windows import held


def within(aligned: Aligned, start: int, end: int) -> Aligned:
    """What of a text's values stands in a piece of it; what is cut by its ends is not taught there."""
    spans, others = [], []
    for span in aligned.spans:
        if start <= span.start and span.end <= end:
            spans.append(ValueSpan(span.start - start, span.end - start, span.path, span.reading))
        elif span.start < end and start < span.end:
            others.append((max(span.start, start) - start, min(span.end, end) - start))
    for first, last in aligned.others:
        if first < end and start < last:
            others.append((max(first, start) - start, min(last, end) - start))
    return Aligned(tuple(spans), tuple(others), aligned.lost)


def records(
    fields: Sequence[Field], record: Mapping[str, Any], parts: Sequence[Aligned], windows: Sequence[str]
) -> list[dict[str, Any]]:
    """The part of a record that stands in each window; what the schema offers, by the rule of all windows."""
    shared: list[dict[str, Any]] = []
    for part, window, rest in zip(parts, windows, held(record, windows), strict=True):
        own: dict[str, Any] = {}
        for each in fields:
            if each.choices:
                values = each.among(rest)
            else:
                read = (
                    READINGS[span.reading](window[span.start : span.end])
                    for span in part.spans
                    if span.path == each.path
                )
                values = [each.fit(value) for value in read if value is not None]
            if values:
                several = each.listed and (len(values) > 1 or not each.single)
                each.put(own, values if several else values[0])
        shared.append(own)
    return shared
