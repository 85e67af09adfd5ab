"""Traces of OpenTelemetry in each vocabulary of attributes, and Phoenix's exports of them."""

from __future__ import annotations

import csv
import json
import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.logs.reading import SAMPLES, read_sample, rows_in
from tunewright.data.readers import Fault, read
from tunewright.data.readers.calls import read_calls
from tunewright.data.readers.forms import form_of
from tunewright.logs import LoggedCall, TokenCounts
from tunewright.logs.otlp import is_otlp, is_phoenix, otlp_calls, phoenix_calls
from tunewright.logs.otlp_texts import loosely_parsed
from tunewright.tasks import Example

LABELS = (
    "Sort the message of a bicycle shop's customer into one label: delivery, refund, damage, account, other. "
    "Answer with the label only."
)
PEDAL = "The box came open and one pedal is bent."
RECORD = {"order": "B-20433", "item": "front light", "wish": "exchange"}
OTLP = (
    "otlp_genai.jsonl",
    "otlp_genai_structured.jsonl",
    "otlp_openinference.jsonl",
    "otlp_openllmetry.jsonl",
    "otlp_openllmetry_old.jsonl",
    "otlp_span_events_old.jsonl",
    "otlp_events_spans.jsonl",
    "otlp_events_logs.jsonl",
)
PHOENIX = ("phoenix_dataframe.jsonl", "phoenix_spans.json")
WITH_TEXTS = (*OTLP[:5], *PHOENIX)
OPENINFERENCE = ("otlp_openinference.jsonl", *PHOENIX)
OPENLLMETRY = ("otlp_openllmetry.jsonl", "otlp_openllmetry_old.jsonl")


def rows_of(name: str) -> list[dict[str, Any]]:
    """The rows of a sample, in the order of their time."""
    if name.endswith(".jsonl"):
        return rows_in(name)
    rows: list[dict[str, Any]] = json.loads((SAMPLES / name).read_text("utf-8"))["data"]
    return rows[::-1]


def calls_of(row: dict[str, Any]) -> list[LoggedCall]:
    return list((otlp_calls if is_otlp(row) else phoenix_calls)(row))


def sample(name: str) -> list[LoggedCall]:
    return [call for row in rows_of(name) for call in calls_of(row)]


def span_of(attributes: dict[str, Any], **known: Any) -> dict[str, Any]:
    """A request of OTLP with one span."""
    listed = [{"key": key, "value": {"stringValue": value}} for key, value in attributes.items()]
    span = {"traceId": "aa", "spanId": "01", "attributes": listed, **known}
    return {"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}


def one(attributes: dict[str, Any], **known: Any) -> LoggedCall:
    (call,) = otlp_calls(span_of(attributes, **known))
    return call


def answers(calls: list[LoggedCall]) -> list[str | None]:
    return [call.answer.text if call.answer else None for call in calls]


def code(call: LoggedCall) -> str | None:
    fault = call.fault or (call.answer and call.answer.fault)
    return fault[0] if fault else None


# What every vocabulary gives


@pytest.mark.parametrize("name", WITH_TEXTS)
def test_a_question_and_its_label(name: str) -> None:
    call = sample(name)[0]
    assert call.kind == "chat"
    assert call.messages == [{"role": "system", "content": LABELS}, {"role": "user", "content": PEDAL}]
    assert call.answer_message == {"role": "assistant", "content": "damage"}
    assert call.fault is None
    assert (call.model, call.answered_model) == ("gpt-5-mini", "gpt-5-mini-2025-08-07")
    assert call.time and call.time.replace(microsecond=0) == datetime(2026, 11, 24, 9, 20, tzinfo=UTC)
    assert call.seconds == (0.83 if "genai" in name else 0.9)
    assert call.usage == TokenCounts(58, 10 if name in OPENINFERENCE else 2)
    assert call.id and call.id.startswith("chatcmpl-")
    assert call.usd is None
    assert not call.is_streamed


@pytest.mark.parametrize("name", WITH_TEXTS)
def test_a_tool_call_and_the_answer_after_it(name: str) -> None:
    asked, answered = sample(name)[1:3]
    assert asked.answer
    (called,) = asked.answer.tool_calls
    assert called["name"] == "find_parcel"
    assert json.loads(called["arguments"]) == {"order": "B-20417", "notify": False}
    assert called["id"] == "call_Hq3mW8rT2yLc0vNd5sKe7bPa"
    assert asked.answer.finish_reason == "tool_calls"
    for call in (asked, answered):
        (tool,) = call.request["tools"]
        assert tool["function"]["parameters"]["required"] == ["order"]
        assert tool["function"]["description"] == "Where the parcel of an order is"
        assert call.fault is None
    assert [message["role"] for message in answered.messages] == ["system", "user", "assistant", "tool"]
    (earlier,) = answered.messages[2]["tool_calls"]
    assert earlier["function"]["name"] == "find_parcel"
    assert json.loads(earlier["function"]["arguments"]) == {"order": "B-20417", "notify": False}
    assert answered.messages[3]["tool_call_id"] == earlier["id"]
    assert json.loads(answered.messages[3]["content"])["state"] == "in transit"
    assert answered.answer and answered.answer.text.startswith("Your parcel is on its way")


@pytest.mark.parametrize(
    ("name", "first_seconds"),
    [
        ("otlp_genai.jsonl", 0.412),
        ("otlp_openllmetry.jsonl", 0.3),
        ("otlp_openllmetry_old.jsonl", None),
        *((name, 0.4) for name in OPENINFERENCE),
    ],
)
def test_a_streamed_record(name: str, first_seconds: float | None) -> None:
    call = sample(name)[3]
    assert call.answer and json.loads(call.answer.text) == RECORD
    assert call.is_streamed
    assert call.first_seconds == (first_seconds and pytest.approx(first_seconds, abs=0.001))
    form = call.request["response_format"]
    if name == "otlp_genai.jsonl":
        assert form == {"type": "json_object"}  # the convention has no place for a schema
    else:
        assert form["type"] == "json_schema"
        assert form["json_schema"]["schema"]["required"] == ["order", "item", "wish"]


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("otlp_genai.jsonl", [None, None, None, None, "cut-answer", "failed", None, "not-kept", "not-kept"]),
        ("otlp_genai_structured.jsonl", [None] * 4),
        ("otlp_openllmetry.jsonl", [None, None, None, None, "refusal", "cut-answer", "failed"]),
        ("otlp_openllmetry_old.jsonl", [None, None, None, None, "refusal", "cut-answer", "failed", "cut-answer"]),
        ("otlp_span_events_old.jsonl", [None, None]),
        ("otlp_events_spans.jsonl", ["not-kept"] * 4 + ["failed"]),
        ("otlp_events_logs.jsonl", ["not-kept"] * 3),
        *((name, [None, None, None, None, "cut-answer", "refusal", "failed"]) for name in OPENINFERENCE),
        ("phoenix_otlpv1.json", [None, None]),
    ],
)
def test_calls_and_faults(name: str, codes: list[str | None]) -> None:
    found = read_sample(name)
    if name == "phoenix_spans.json":
        found = found[::-1]
    assert [code(call) for call in found] == codes
    examples = [each for each in read(SAMPLES / name) if isinstance(each, Example)]
    assert len(examples) == codes.count(None)
    assert sum(isinstance(each, Fault) for each in read(SAMPLES / name)) == len(codes) - codes.count(None)


@pytest.mark.parametrize("name", [*OPENINFERENCE, *OPENLLMETRY, "otlp_genai.jsonl"])
def test_a_failed_call_keeps_its_request(name: str) -> None:
    (call,) = (each for each in sample(name) if code(each) == "failed")
    assert call.fault and call.fault[1].startswith("The call failed: ")
    assert call.fault[1].endswith("Error.")
    assert call.messages[0] == {"role": "developer", "content": LABELS}
    content = call.messages[1]["content"]
    assert content in ("I can't log in since yesterday.", [{"type": "text", "text": "I can't log in since yesterday."}])
    assert call.answer is None
    assert call.usage is None


def test_a_filtered_answer_is_no_label() -> None:
    call = sample("otlp_openllmetry_old.jsonl")[5]
    assert call.answer
    assert call.answer.text == ""
    assert call.answer.finish_reason == "content_filter"


def test_thinking_is_counted_but_is_no_text() -> None:
    (call,) = calls_of(rows_of("otlp_genai.jsonl")[4])
    assert [message["role"] for message in call.messages] == ["system", "user"]
    assert call.messages[0]["content"] == LABELS
    assert call.answer and call.answer.text == "account"
    assert call.usage == TokenCounts(49, 31, reasoning_tokens=22)


@pytest.mark.parametrize("name", ["openai.response.service_tier", "gen_ai.openai.response.service_tier"])
def test_the_tier_that_an_answer_was_billed_at(name: str) -> None:
    said = {"gen_ai.operation.name": "chat", "openai.request.service_tier": "auto"}
    assert one(said | {name: "flex"}).service_tier == "flex"
    assert one(said).service_tier is None


def test_phoenix_for_otlp_is_the_same_as_the_spans() -> None:
    found, spans = read_sample("phoenix_otlpv1.json"), sample("phoenix_spans.json")
    assert [call.messages for call in found] == [call.messages for call in spans[:2]]
    assert [call.usage for call in found] == [call.usage for call in spans[:2]]
    assert [call.seconds for call in found] == [call.seconds for call in spans[:2]]


def test_a_trace_of_phoenixs_command() -> None:
    spans = rows_of("phoenix_spans.json")
    row = {"traceId": "t", "spans": spans, "rootSpan": spans[0], "status": "OK"}
    assert is_phoenix(row)
    assert answers(calls_of(row)) == answers(sample("phoenix_spans.json"))


def test_a_data_frame_as_csv(tmp_path: Path) -> None:
    """Pandas writes lists as Python shows them, and whole numbers in a column with gaps with a point."""
    rows = rows_of("phoenix_dataframe.jsonl")
    kept = [{**row, "attributes.input.value": None, "attributes.output.value": None} for row in rows]
    for name, table in (("whole.csv", rows), ("numbered.csv", kept)):
        with (tmp_path / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            for row in table:
                writer.writerow(
                    {key: float(cell) if "token_count" in key and cell else cell for key, cell in row.items()}
                )
        found = [each for each in read_calls(tmp_path / name) if isinstance(each, LoggedCall)]
        expected = sample("phoenix_dataframe.jsonl")
        assert [call.messages for call in found] == [call.messages for call in expected]
        assert answers(found) == answers(expected)
        assert [call.usage for call in found] == [call.usage for call in expected]
        assert [call.request.get("tools") for call in found] == [call.request.get("tools") for call in expected]
        assert sum(isinstance(each, Example) for each in read(tmp_path / name)) == 4


# Spans that are no calls, and calls that are logged twice


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "embeddings", "gen_ai.request.model": "m"},
        {"gen_ai.operation.name": "invoke_agent", "gen_ai.input.messages": '[{"role":"user","content":"a"}]'},
        {"gen_ai.operation.name": "fetch_response", "gen_ai.output.messages": '[{"role":"assistant","content":"a"}]'},
        {"openinference.span.kind": "CHAIN", "input.value": "a", "output.value": "b"},
        {"traceloop.span.kind": "tool", "traceloop.entity.input": "a", "gen_ai.prompt.0.content": "a"},
        {"llm.request.type": "rerank", "gen_ai.prompt.0.content": "a"},
        {"http.method": "GET"},
    ],
)
def test_other_spans_are_no_calls(attributes: dict[str, Any]) -> None:
    assert not list(otlp_calls(span_of(attributes)))


def nested_pair(outer: dict[str, Any], inner: dict[str, Any]) -> list[LoggedCall]:
    """The calls of a framework's span with a span that is no call in it, and in that the SDK's."""
    spans = [
        span_of(inner, spanId="03", parentSpanId="02"),
        span_of({}, spanId="02", parentSpanId="01"),
        span_of(outer),
    ]
    return list(otlp_calls({"resourceSpans": [each["resourceSpans"][0] for each in spans]}))


def said(answer: str | None, model: str) -> dict[str, Any]:
    given = {"llm.request.type": "chat", "gen_ai.request.model": model, "gen_ai.prompt.0.role": "user"}
    given["gen_ai.prompt.0.content"] = "a"
    return given | ({"gen_ai.completion.0.content": answer} if answer else {})


def test_of_a_call_in_a_call_one_counts() -> None:
    bare = {"gen_ai.operation.name": "chat", "gen_ai.request.model": "sdk"}
    assert [call.model for call in nested_pair(said("b", "framework"), said("b", "sdk"))] == ["sdk"]
    assert [call.model for call in nested_pair(said("b", "framework"), bare)] == ["framework"]
    assert [call.model for call in nested_pair(said(None, "framework"), said("b", "sdk"))] == ["sdk"]
    # A guard's call within another is a call of its own, and so is an attempt that failed before another.
    assert len(nested_pair(said("b", "framework"), said("safe", "sdk"))) == 2
    assert len(nested_pair(said("b", "framework"), said(None, "sdk"))) == 2


def test_of_two_instrumentations_of_one_call_one_counts() -> None:
    both = [
        span_of({"gen_ai.operation.name": "chat", "gen_ai.response.id": "r1", "gen_ai.request.model": "bare"}),
        span_of({**said("b", "texts"), "gen_ai.response.id": "r1"}, spanId="02"),
        span_of({**said("c", "other"), "gen_ai.response.id": "r2"}, spanId="03"),
    ]
    found = list(otlp_calls({"resourceSpans": [each["resourceSpans"][0] for each in both]}))
    assert [call.model for call in found] == ["texts", "other"]


def test_a_line_has_spans_of_several_traces() -> None:
    rows = rows_of("otlp_openllmetry_old.jsonl")
    merged = {"resourceSpans": [each for row in rows for each in row["resourceSpans"]]}
    assert answers(calls_of(merged)) == answers(sample("otlp_openllmetry_old.jsonl"))


# Variants of one vocabulary


def test_older_spans_in_snake_case_and_libraries() -> None:
    span = {
        "trace_id": "aa",
        "span_id": "01",
        "start_time_unix_nano": 1795512000000417000,
        "end_time_unix_nano": "1795512001000417000",
        "status": {"code": "STATUS_CODE_UNSET"},
        "attributes": [{"key": key, "value": {"string_value": value}} for key, value in said("b", "m").items()],
    }
    row = {"resource_spans": [{"instrumentationLibrarySpans": [{"spans": [span]}]}]}
    (call,) = calls_of(row)
    assert (call.model, call.seconds, answers([call])) == ("m", 1.0, ["b"])
    (call,) = calls_of(span)
    assert answers([call]) == ["b"]


def test_messages_are_in_the_order_of_their_numbers() -> None:
    given = {"llm.request.type": "chat", "gen_ai.prompt.prompt_filter_results": "[]"}
    for number in reversed(range(12)):
        given[f"gen_ai.prompt.{number}.role"] = "user" if number % 2 == 0 else "assistant"
        given[f"gen_ai.prompt.{number}.content"] = str(number)
    call = one(given)
    assert [message["content"] for message in call.messages] == [str(number) for number in range(12)]
    assert code(call) == "no-answer"


def test_names_of_2024() -> None:
    given = {"llm.request.type": "completion", "llm.request.model": "m", "llm.prompts.0.user": "a"}
    call = one({**given, "llm.completions.0.content": "b", "llm.usage.prompt_tokens": "3"})
    assert call.messages == [{"role": "user", "content": "a"}]
    assert (call.model, answers([call]), call.usage) == ("m", ["b"], TokenCounts(3, 0))


def test_numbers_of_openinference_may_have_holes() -> None:
    given = {
        "openinference.span.kind": "LLM",
        "llm.input_messages.1.message.role": "user",
        "llm.input_messages.1.message.contents.0.message_content.type": "text",
        "llm.input_messages.1.message.contents.0.message_content.text": "a",
        "llm.input_messages.1.message.contents.1.message_content.type": "image",
        "llm.input_messages.1.message.contents.1.message_content.image.image.url": "https://example.org/a.png",
        "llm.output_messages.0.message.content": "b",
        "llm.cost.total": "0.25",
        "llm.invocation_parameters": '{"model": "m", "temperature": 0}',
        "input.value": '{"messages": [[{"lc": 1, "kwargs": {}}]]}',
        "output.value": '{"generations": []}',
    }
    call = one(given)
    assert [part["type"] for part in call.messages[0]["content"]] == ["text", "image"]
    assert (answers([call]), call.usd, call.model) == (["b"], 0.25, "m")
    assert call.request["temperature"] == 0


def test_openinference_of_the_responses_api() -> None:
    request = {"model": "m", "input": "a", "instructions": "Be brief.", "text": {"format": {"type": "text"}}}
    message = {"type": "message", "content": [{"type": "output_text", "text": "b"}]}
    usage = {"input_tokens": 5, "output_tokens": 1, "input_tokens_details": {"cached_tokens": 4}}
    response = {"id": "resp_1", "object": "response", "model": "m-1", "output": [message], "usage": usage}
    given = {"openinference.span.kind": "LLM", "input.value": json.dumps(request), "output.value": json.dumps(response)}
    call = one(given, droppedAttributesCount=3)
    assert call.kind == "responses"
    assert call.messages == [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a"}]
    assert (answers([call]), call.fault, call.id, call.answered_model) == (["b"], None, "resp_1", "m-1")
    assert call.usage == TokenCounts(5, 1, 4)


def test_plain_texts_of_a_span_written_by_hand() -> None:
    call = one({"openinference.span.kind": "LLM", "input.value": "a", "output.value": "b"})
    assert call.messages == [{"role": "user", "content": "a"}]
    assert (answers([call]), call.fault) == (["b"], None)


def test_phoenix_gives_spans_of_other_vocabularies_the_kind_unknown() -> None:
    row = {
        "context": {"trace_id": "aa", "span_id": "01"},
        "span_kind": "UNKNOWN",
        "status_code": "UNSET",
        "attributes": {"gen_ai.operation.name": "chat", **said("b", "m")},
    }
    (call,) = calls_of(row)
    assert (answers([call]), call.fault) == (["b"], None)


def test_parts_of_the_conventions() -> None:
    parts = [
        {"type": "tool_call_response", "id": "c1", "result": {"n": 1}},
        {"type": "text", "content": "a"},
        {"type": "text", "content": "b"},
        {"type": "uri", "uri": "https://example.org/a.png"},
    ]
    answered = [{"role": "assistant", "parts": [{"type": "text", "content": text}]} for text in ("x", "y")]
    given = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": json.dumps([{"role": "user", "parts": parts}]),
        "gen_ai.output.messages": json.dumps(answered),
    }
    call = one(given)
    assert call.messages[0] == {"role": "tool", "content": '{"n": 1}', "tool_call_id": "c1"}
    assert [part["type"] for part in call.messages[1]["content"]] == ["text", "text", "uri"]
    assert answers([call]) == ["x\ny"]
    assert answers([one({**given, "gen_ai.request.choice.count": "2"})]) == ["x"]


def test_one_event_a_message() -> None:
    def event(name: str, body: dict[str, Any]) -> dict[str, Any]:
        content = {"key": "gen_ai.event.content", "value": {"stringValue": json.dumps(body)}}
        return {"name": name, "attributes": [content]}

    function = {"name": "find", "arguments": "{}"}
    events = [
        event("gen_ai.user.message", {"role": "user", "content": "a"}),
        event("gen_ai.assistant.message", {"tool_calls": [{"id": "c1", "type": "function", "function": function}]}),
        event("gen_ai.tool.message", {"content": "found", "id": "c1"}),
        event("gen_ai.choice", {"finish_reason": "stop", "index": 0, "message": {"content": "b"}}),
    ]
    call = one({"gen_ai.operation.name": "chat"}, events=events)
    assert [message["role"] for message in call.messages] == ["user", "assistant", "tool"]
    assert call.messages[2]["tool_call_id"] == call.messages[1]["tool_calls"][0]["id"] == "c1"
    assert (answers([call]), call.fault) == (["b"], None)
    without = [event("gen_ai.choice", {"finish_reason": "stop", "index": 0})]
    assert code(one({"gen_ai.operation.name": "chat"}, events=without)) == "not-kept"


def test_messages_as_python_shows_them() -> None:
    shown = str([{"role": "user", "content": 'It\'s "new"\u00a0\u2028\nhere', "name": None, "ok": True}])
    assert loosely_parsed(shown) == [
        {"role": "user", "content": 'It\'s "new"\u00a0\u2028\nhere', "name": None, "ok": True}
    ]
    prompt = {"key": "gen_ai.prompt", "value": {"stringValue": shown}}
    completion = {"key": "gen_ai.completion", "value": {"stringValue": "[{'role': 'assistant', 'content': 'b'}]"}}
    events = [
        {"name": "gen_ai.content.prompt", "attributes": [prompt]},
        {"name": "gen_ai.content.completion", "attributes": [completion]},
    ]
    assert answers([one({"gen_ai.system": "openai"}, events=events)]) == ["b"]


# What is lost


def test_texts_that_were_cut() -> None:
    given = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": '[{"role":"assistant","content":"b"}]'}
    call = one({**given, "gen_ai.input.messages": '[{"role":"user","content":"abc'})
    assert call.fault == ("cut-text", "The log cut the text of gen_ai.input.messages in the middle.")


def test_numbered_texts_stand_in_for_a_cut_whole_where_they_are_shorter() -> None:
    given = {
        "openinference.span.kind": "LLM",
        "input.value": '{"messages": [{"role": "user", "content": "abcd',
        "output.value": '{"choices": [{"message": {"content": "b"}}]}',
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "abcdef",
        "llm.output_messages.0.message.content": "b",
    }
    call = one(given)
    assert (call.messages[0]["content"], answers([call]), call.fault) == ("abcdef", ["b"], None)
    assert code(one({**given, "llm.input_messages.0.message.content": "a" * 47})) == "cut-text"


@pytest.mark.parametrize(
    ("changed", "known", "expected"),
    [
        ({}, {}, None),
        ({}, {"droppedAttributesCount": 2}, "partial"),
        ({"gen_ai.completion.0.tool_calls.0.name": "find"}, {}, "partial"),
        ({"llm.request.functions.0.name": "find"}, {}, "partial"),
        ({"llm.request.functions.0.name": "find", "llm.request.functions.0.parameters": "null"}, {}, "partial"),
        ({"llm.request.functions.0.name": "find", "llm.request.functions.0.description": "a"}, {}, None),
        ({"gen_ai.completion.0.finish_reason": "error"}, {}, "cut-answer"),
        ({"gen_ai.prompt.0.content": "__REDACTED__"}, {}, "redacted"),
        ({"error.type": "Timeout"}, {"status": {"code": 2}}, "failed"),
    ],
)
def test_why_a_call_teaches_nothing(changed: dict[str, Any], known: dict[str, Any], expected: str | None) -> None:
    assert code(one({**said("b", "m"), **changed}, **known)) == expected


def test_hidden_texts() -> None:
    given = {"openinference.span.kind": "LLM", "input.value": "__REDACTED__", "output.value": "__REDACTED__"}
    assert code(one(given)) == "redacted"
    assert code(one({"openinference.span.kind": "LLM", "input.value": "__REDACTED__"})) == "redacted"


def test_a_logs_file_is_recognised_once_a_row() -> None:
    for row in rows_of("otlp_events_logs.jsonl"):
        (call,) = calls_of(row)
        assert call.fault and "not joined" in call.fault[1]
    plain = {"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "started"}}]}]}]}
    assert is_otlp(plain)
    assert not calls_of(plain)


# Detection


@pytest.mark.parametrize("name", [*OTLP, *PHOENIX, "phoenix_otlpv1.json"])
def test_rows_have_one_form(name: str) -> None:
    for row in rows_of(name):
        assert form_of(row) == ("phoenix" if name in PHOENIX else "otlp")
        assert is_otlp(row) != is_phoenix(row)


def test_rows_of_others_are_not_taken() -> None:
    files = [file for file in SAMPLES.glob("*.jsonl") if not file.name.startswith(("otlp", "phoenix"))]
    assert files
    for file in files:
        for line in file.read_text("utf-8").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            assert not is_otlp(row), file.name
            assert not is_phoenix(row), file.name


# Hostile rows


def mutated(value: Any, chance: random.Random, depth: int = 0) -> Any:
    """A value with keys dropped, types swapped, texts cut, and nesting added."""
    if chance.random() < 0.01:
        deep: Any = "x"
        for _ in range(chance.choice((3, 200))):
            deep = (
                {"values": [deep]}
                if chance.random() < 0.5
                else {"kvlistValue": {"values": [{"key": "a", "value": deep}]}}
            )
        return chance.choice((None, [], {}, "", 0, -1, 1e308, 10**40, True, "[" * 400, "\\'" * 50, [None], deep))
    if isinstance(value, dict):
        kept = {key: mutated(inner, chance, depth + 1) for key, inner in value.items() if chance.random() > 0.02}
        if chance.random() < 0.02:
            kept["gen_ai.prompt." * 20] = kept["0.1.2"] = chance.choice(("a", None, {}))
        return kept
    if isinstance(value, list):
        return [mutated(each, chance, depth + 1) for each in value if chance.random() > 0.02]
    if isinstance(value, str) and chance.random() < 0.05:
        try:
            inside = json.loads(value)
        except ValueError:
            return value[: chance.randrange(len(value) + 1)]
        return json.dumps(mutated(inside, chance, depth + 1))[: chance.choice((None, 30))]
    return value


def hostile() -> Iterator[dict[str, Any]]:
    chance = random.Random(33)
    for name in (*OTLP, *PHOENIX, "phoenix_otlpv1.json"):
        for row in rows_of(name):
            for _ in range(30):
                found = mutated(row, chance)
                if isinstance(found, dict):
                    yield found


def test_no_row_raises() -> None:
    begun, read_rows, found = time.monotonic(), 0, 0
    for row in hostile():
        read_rows += 1
        for fits, calls in ((is_otlp, otlp_calls), (is_phoenix, phoenix_calls)):
            if not fits(row):
                continue
            for call in calls(row):
                found += 1
                assert call.meta is not None
                assert isinstance(call.messages, list)
                assert call.answer_message is None or call.answer
    assert read_rows > 1000
    assert found > 500
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize(
    "text",
    ["['" + "\\'" * 200_000, '["' + "'" * 400_000, "[" + "'a" * 200_000 + "\\", "[" * 400_000, "{'a': " * 100_000],
)
def test_texts_that_are_hard_to_parse_take_no_time(text: str) -> None:
    begun = time.monotonic()
    assert code(one({"gen_ai.operation.name": "chat", "gen_ai.input.messages": text})) == "cut-text"
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("depth", [50, 300, 900, 3000])
def test_deep_nesting_is_no_error(depth: int) -> None:
    arguments = '{"a":' * depth + "1" + "}" * depth
    part = f'{{"type": "tool_call", "name": "find", "arguments": {arguments}}}'
    given = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": '[{"role": "user", "content": "a"}]'}
    call = one({**given, "gen_ai.output.messages": f'[{{"role": "assistant", "parts": [{part}]}}]'})
    assert code(call) in ("partial", "cut-text", "no-request")
    value: Any = {"stringValue": "b"}
    for _ in range(depth):
        value = {"arrayValue": {"values": [value]}}
    row = span_of(given)
    row["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["attributes"].append(
        {"key": "gen_ai.output.messages", "value": value}
    )
    (call,) = otlp_calls(row)
    assert code(call) == "no-answer"


def test_a_span_that_is_too_deep_is_a_finding() -> None:
    arguments: Any = "x"
    for _ in range(5000):
        arguments = [arguments]
    message = {"role": "assistant", "parts": [{"type": "tool_call", "name": "find", "arguments": arguments}]}
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.output.messages": [message]}
    context = {"trace_id": "aa", "span_id": "01"}
    row = {"context": context, "span_kind": "LLM", "status_code": "OK", "attributes": attributes}
    (call,) = phoenix_calls(row)
    assert call.fault == ("no-request", "The values of this span are nested too deeply to be read.")


def test_a_row_stays_as_it_is() -> None:
    for name in (*OTLP, *PHOENIX):
        for row in rows_of(name):
            before = json.dumps(row)
            calls_of(row)
            assert json.dumps(row) == before


def test_long_chains_of_spans_take_no_time() -> None:
    names = said("b", "m")
    spans = [
        span_of(names, spanId=f"{number}", parentSpanId=f"{number + 1}")["resourceSpans"][0] for number in range(5000)
    ]
    begun = time.monotonic()
    (innermost,) = otlp_calls({"resourceSpans": spans})
    assert innermost.id == "0"
    assert time.monotonic() - begun < 20
