"""Langfuse's exports: observations and traces, as its API, its pages and its exports to blob storage write them.

The ways out differ in their names (`startTime`, `start_time`), in what is text, and in what they leave out. Source:
langfuse/langfuse 4.16.0, packages/shared/src/server/repositories, web/src/features/public-api/types and
worker/src/features (2026-11-30).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from tunewright.logs.call import LoggedCall
from tunewright.logs.langfuse_observations import fault_in, model_of, observation_call
from tunewright.logs.langfuse_texts import opened, request_of, response_of, unquoted
from tunewright.logs.openai import call_of
from tunewright.logs.values import mapping, mappings, moment, number, text

Row = Mapping[str, Any]

_TYPES = (
    "SPAN",
    "EVENT",
    "GENERATION",
    "AGENT",
    "TOOL",
    "CHAIN",
    "RETRIEVER",
    "EVALUATOR",
    "EMBEDDING",
    "GUARDRAIL",
)
_CAMEL = ("parentObservationId", "calculatedTotalCost", "usageDetails", "providedModelName", "latencyMs", "traceName")
_SNAKE = ("parent_observation_id", "usage_details", "provided_model_name", "model_parameters")
_NO_CHAT = re.compile(r"litellm-a?(embedding|image_generation|image_edit|speech|transcription|rerank|moderation)")
"""Names of LiteLLM's generations that no chat model made (BerriAI/litellm, litellm/integrations/langfuse/langfuse.py,
2026-11-30)."""
_CLIMB = 100
"""Levels above an observation among which an outer model call is looked for."""


def is_langfuse(row: Row) -> bool:
    """Whether a row is an observation, a trace, a downloaded trace or a score."""
    return _is_observation(row) or _is_trace(row) or _is_download(row) or _is_score(row)


def langfuse_calls(row: Row) -> Iterator[LoggedCall]:
    """The model calls in a row. A trace gives those of its observations, and is one itself only where it has none."""
    if _is_observation(row):
        if _is_model_call(row, is_alone=True):
            yield observation_call(row, is_quoted=_is_of_table(row))
    elif _is_trace(row) or _is_download(row):
        yield from _trace_calls(row)


def _is_of_table(row: Row) -> bool:
    """Whether a row is of a CSV file. Older ones have a plain text in quotes (langfuse/langfuse, issue 2937)."""
    return all(isinstance(value, str) for value in row.values())


def _is_observation(row: Row) -> bool:
    if row.get("type") not in _TYPES:
        return False
    if "traceId" in row and "startTime" in row:
        return any(key in row for key in _CAMEL)
    return "trace_id" in row and "start_time" in row and any(key in row for key in _SNAKE)


def _is_trace(row: Row) -> bool:
    if "timestamp" not in row:
        return False
    if "htmlPath" in row:
        return True
    return (
        all(key in row for key in ("bookmarked", "public", "tags"))
        and any(key in row for key in ("userId", "user_id"))
        and any(key in row for key in ("sessionId", "session_id"))
    )


def _is_download(row: Row) -> bool:
    """Whether a row is a trace that was downloaded: 4.x has no trace in it, 3.x has its observations twice."""
    observations = row.get("observations")
    if not isinstance(observations, list) or not ("scores" in row or "trace" in row):
        return False
    return all(isinstance(each, Mapping) and "traceId" in each for each in observations[:1])


def _is_score(row: Row) -> bool:
    """Whether a row is a score of the export to blob storage, which lies beside the observations."""
    return all(key in row for key in ("trace_id", "observation_id", "data_type", "string_value"))


def _is_model_call(row: Row, *, is_alone: bool) -> bool:
    """Whether an observation is a model's call.

    Args:
        is_alone: whether the row is read without its trace. An agent with a model then counts as none, because the
            agent's calls are rows of their own.
    """
    kind = row.get("type")
    if kind == "GENERATION":
        return not _NO_CHAT.fullmatch(text(row.get("name")) or "")
    if kind not in _TYPES or kind == "EMBEDDING" or (kind == "AGENT" and is_alone):
        return False
    return model_of(row) is not None


# Traces


def _trace_calls(row: Row) -> Iterator[LoggedCall]:
    trace = mapping(row.get("trace")) or row
    observations = list(mappings(row.get("observations"))) or list(mappings(trace.get("observations")))
    calls = _inner_calls(observations, is_quoted="trace" in row)
    yield from calls
    # The export to blob storage (`project_id`) has the observations beside the traces.
    if not calls and "timestamp" in trace and "project_id" not in trace:
        own = _own_call(trace)
        if not observations or (own.answer and not own.fault):
            yield own


def _inner_calls(observations: list[Row], *, is_quoted: bool) -> list[LoggedCall]:
    """The calls of a trace's observations, without those that only wrap another one."""
    by_id = {text(each.get("id")) or f" {place}": each for place, each in enumerate(observations)}
    calls = {
        identity: observation_call(each, is_quoted=is_quoted)
        for identity, each in by_id.items()
        if _is_model_call(each, is_alone=False)
    }
    wrappers = set()
    for identity, call in calls.items():
        outer = _outer(identity, by_id, calls)
        if outer and (by_id[outer].get("type") != "GENERATION" or calls[outer].answer == call.answer):
            wrappers.add(outer)
    return [call for identity, call in calls.items() if identity not in wrappers]


def _outer(identity: str, by_id: Mapping[str, Row], calls: Mapping[str, LoggedCall]) -> str | None:
    """The nearest model call around an observation; None: there is none, or what is around it goes round."""
    around: list[str] = []
    above = text(by_id[identity].get("parentObservationId"))
    while above is not None and above in by_id and len(around) < _CLIMB:
        around.append(above)
        above = text(by_id[above].get("parentObservationId"))
    return None if identity in around else next((each for each in around if each in calls), None)


def _own_call(trace: Row) -> LoggedCall:
    """A trace as a call. Its input and output are those of its root, often the application's own and no chat."""
    written = unquoted(trace.get("output")) if _is_of_table(trace) else trace.get("output")
    given, answered = opened(trace.get("input")), opened(written)
    request = {} if isinstance(given, str) else request_of(given)
    if isinstance(answered, Mapping) and "messages" in answered:  # an agent's state
        request = {}
    reason = "This is a trace, and its input is no chat. Export the observations of its model calls instead."
    return call_of(
        request,
        response_of(written),
        id=text(trace.get("id")),
        time=moment(trace.get("timestamp")),
        seconds=number(trace.get("latency")),
        usd=number(trace.get("totalCost")) or None,
        fault=fault_in(given, answered) if request else ("no-request", reason),
    )
