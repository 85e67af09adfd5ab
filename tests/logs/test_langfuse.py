"""Langfuse's observations and traces in all the ways in which they leave Langfuse."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pytest

from tests.logs.reading import CLAUDE_ASKED, CLAUDE_CALLS, SAMPLES, check_claude, claude_said, read_sample, rows_in
from tunewright.data.readers import Fault, read
from tunewright.logs import LOG_FORMS, LoggedCall, TokenCounts
from tunewright.logs.langfuse import is_langfuse, langfuse_calls
from tunewright.tasks import Example

ALL = sorted(each.name for each in SAMPLES.glob("langfuse_*"))
PLAIN, TOOLS, TURNS, FAILED = "741fce4380fc733f", "419262a73d651a85", "5464120108dcffea", "60954c451a0ad3b3"
STREAMED, SCHEMA, LANGCHAIN, LITELLM = "2e518b0528cc703b", "092ddfe95f01c79c", "dce94b4016d73faa", "e4bfe663a5c8d902"
EVERY = [PLAIN, TOOLS, TURNS, FAILED, STREAMED, SCHEMA, LANGCHAIN, LITELLM]
SOME = [TOOLS, FAILED, STREAMED, LANGCHAIN, LITELLM]
OBSERVATIONS = {
    "langfuse_observations_v1.json": EVERY,
    "langfuse_observations_v2.jsonl": SOME,
    "langfuse_ui_observations.json": SOME,
    "langfuse_ui_observations.csv": SOME,
    "langfuse_ui_events.jsonl": SOME,
    "langfuse_ui_events.csv": SOME,
    "langfuse_blob_observations.jsonl": SOME,
    "langfuse_blob_observations.csv": SOME,
    "langfuse_blob_observations_v2.jsonl": SOME,
    "langfuse_traces_full.jsonl": [PLAIN, TOOLS, FAILED],
    "langfuse_trace_download.json": [PLAIN, TOOLS, STREAMED],
}
"""Files with observations, and the calls in them in order. Spans, which most of them have too, are none."""
TRACES = ("langfuse_ui_traces.jsonl", "langfuse_ui_traces.csv", "langfuse_traces_list.json")
CANCELS = ("cancel_order", '{"order_id":"A-10442","reason":"mistake"}')
ASKED = {
    PLAIN: "My parcel was due on Tuesday and still nothing has come.",
    TOOLS: "Please cancel A-10442, I ordered it by mistake.",
    TURNS: "I sent the shoes back two weeks ago. Where is my money?",
    FAILED: "I can't log in any more since the update.",
    STREAMED: "Take the blue lamp out of my order, I don't want it any longer.",
    SCHEMA: "The heater you sent smells burnt. I want my money back today!",
}
ASKED |= {LANGCHAIN: ASKED[TOOLS], LITELLM: ASKED[SCHEMA]}
ANSWERED = {PLAIN: "delivery", TOOLS: "", TURNS: "refund", STREAMED: "cancel", LANGCHAIN: ""}
ANSWERED |= {SCHEMA: '{"label":"refund","urgent":true}', LITELLM: '{"label":"refund","urgent":true}'}
COUNTS = {PLAIN: (58, 2, 0), TOOLS: (141, 24, 0), TURNS: (79, 2, 0), STREAMED: (60, 2, 0), SCHEMA: (1304, 11, 1024)}
COUNTS |= {LANGCHAIN: COUNTS[TOOLS], LITELLM: COUNTS[SCHEMA]}
PRICES = {PLAIN: 9.9e-06, TOOLS: 3.555e-05, TURNS: 1.305e-05, STREAMED: 1.02e-05, SCHEMA: 0.0001254}
PRICES |= {LANGCHAIN: PRICES[TOOLS], LITELLM: PRICES[SCHEMA]}
SECONDS = {PLAIN: 0.741, TOOLS: 1.302, TURNS: 0.688, FAILED: 0.215, STREAMED: 0.934, SCHEMA: 0.877}
SECONDS |= {LANGCHAIN: SECONDS[TOOLS], LITELLM: SECONDS[SCHEMA]}
MINUTES = {PLAIN: 14, TOOLS: 21, TURNS: 28, FAILED: 35, STREAMED: 42, SCHEMA: 49, LANGCHAIN: 21, LITELLM: 49}


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_every_way_out_gives_the_same_calls(name: str) -> None:
    found = read_sample(name)
    assert [call.id for call in found] == OBSERVATIONS[name]
    for call in found:
        key = str(call.id)
        roles = ["system", "user", "assistant", "user"] if key == TURNS else ["system", "user"]
        assert [message["role"] for message in call.messages] == roles
        assert call.messages[-1] == {"role": "user", "content": ASKED[key]}
        assert call.seconds == pytest.approx(SECONDS[key], abs=1e-6)
        assert call.time and call.time.isoformat().startswith(f"2026-11-28T09:{MINUTES[key]}:03")
        assert call.request["temperature"] == 0
        assert call.request.get("max_tokens") == (8 if key in (PLAIN, TURNS, FAILED, STREAMED) else None)
        assert call.is_streamed == (key == STREAMED)
        assert call.first_seconds == (pytest.approx(0.402) if key == STREAMED else None)
        if key == FAILED:
            check_failed(call)
        else:
            check_answered(call, key)


def check_failed(call: LoggedCall) -> None:
    assert call.answer is None
    assert call.fault
    assert call.fault[0] == "failed"
    assert "429" in call.fault[1] and "Rate limit reached" in call.fault[1]
    assert (call.model, call.answered_model, call.usage, call.usd) == ("gpt-4o-mini", None, None, None)


def check_answered(call: LoggedCall, key: str) -> None:
    assert call.fault is None
    assert call.answer and call.answer.fault is None
    assert call.answer.text == ANSWERED[key]
    calls = [(each["name"], each["arguments"]) for each in call.answer.tool_calls]
    assert calls == ([CANCELS] if key in (TOOLS, LANGCHAIN) else [])
    tools = [each["function"]["name"] for each in call.request.get("tools", [])]
    assert tools == (["cancel_order", "track_parcel"] if calls else [])
    assert all(each["function"]["parameters"]["required"] == ["order_id"] for each in call.request.get("tools", []))
    assert call.usage
    assert (call.usage.prompt_tokens, call.usage.answer_tokens, call.usage.cached_tokens) == COUNTS[key]
    assert call.usd == pytest.approx(PRICES[key])
    asked = "gpt-4o-mini" if key == LANGCHAIN else "gpt-4o-mini-2024-07-18"
    assert (call.model, call.answered_model) == (asked, "gpt-4o-mini-2024-07-18")
    assert call.answer.finish_reason == ("stop" if key == STREAMED else None)
    if key in (SCHEMA, LITELLM):
        assert call.request["response_format"]["json_schema"]["schema"]["required"] == ["label", "urgent"]
        assert call.request["response_format"]["json_schema"]["strict"] is True


@pytest.mark.parametrize("name", TRACES)
def test_a_trace_without_observations_is_its_own_call_if_it_is_a_chat(name: str) -> None:
    found = read_sample(name)
    assert [call.messages[-1]["content"] for call in found] == [ASKED[key] for key in (PLAIN, TOOLS, FAILED, STREAMED)]
    assert [call.answer and call.answer.text for call in found] == ["delivery", "", None, "cancel"]
    assert [call.fault and call.fault[0] for call in found] == [None, None, "no-answer", None]
    assert found[1].answer and found[1].answer.tool_calls[0]["name"] == "cancel_order"
    assert len(found[1].request["tools"]) == 2
    assert all(call.time and call.model is None and call.usage is None for call in found)


def test_traces_of_the_blob_export_give_nothing_because_its_observations_do() -> None:
    assert read_sample("langfuse_blob_traces.jsonl") == []


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_rows_become_examples(name: str) -> None:
    found = list(read(SAMPLES / name))
    examples = [each for each in found if isinstance(each, Example)]
    faults = [each for each in found if isinstance(each, Fault)]
    assert len(examples) == len(OBSERVATIONS[name]) - (FAILED in OBSERVATIONS[name])
    assert [fault.code for fault in faults] == ["call-failed"] * (FAILED in OBSERVATIONS[name])
    for example in examples:
        logged = (example.meta.extra or {})["call"]
        assert example.messages[-2].content == ASKED[logged["id"]]
        assert logged["usd"] == pytest.approx(PRICES[logged["id"]])


def rows_of(name: str) -> list[dict[str, Any]]:
    if name.endswith(".jsonl"):
        return rows_in(name)
    found = json.loads((SAMPLES / name).read_text("utf-8"))
    listed = found.get("data", found) if isinstance(found, dict) else found
    return listed if isinstance(listed, list) else [listed]


@pytest.mark.parametrize("name", [name for name in ALL if not name.endswith(".csv")])
def test_rows_are_langfuses_alone(name: str) -> None:
    for row in rows_of(name):
        assert is_langfuse(row)
        assert not [
            key for key, form in LOG_FORMS.items() if key != "langfuse" and not form.is_plain and form.fits(row)
        ]


def test_no_other_sample_is_langfuses() -> None:
    others = [each for each in SAMPLES.iterdir() if each.suffix == ".jsonl" and not each.name.startswith("langfuse_")]
    assert others
    for file in others:
        assert not any(is_langfuse(row) for row in rows_in(file.name)), file.name


# Single rows


def observation(**changed: Any) -> dict[str, Any]:
    usual = {
        "id": "o1",
        "traceId": "t1",
        "startTime": "2026-11-28T09:14:03.120Z",
        "endTime": "2026-11-28T09:14:04.120Z",
        "projectId": "p",
        "parentObservationId": None,
        "type": "GENERATION",
        "input": [{"role": "user", "content": "Where is it?"}],
        "output": {"role": "assistant", "content": "delivery"},
        "model": "gpt-5-mini",
    }
    return usual | changed


def one(row: Mapping[str, Any]) -> LoggedCall:
    assert is_langfuse(row)
    (call,) = langfuse_calls(row)
    return call


def answer_to(output: Any, **changed: Any) -> str:
    call = one(observation(output=output, **changed))
    assert call.answer
    return call.answer.text


def test_an_answer_in_json_is_written_back_as_text() -> None:
    assert answer_to({"label": "refund", "urgent": True}) == '{"label":"refund","urgent":true}'
    assert answer_to('{"label": "refund"}') == '{"label": "refund"}'
    assert answer_to({"role": "plumber", "content": "leak"}) == '{"role":"plumber","content":"leak"}'
    assert answer_to({"content": "leak", "floor": 2}) == '{"content":"leak","floor":2}'
    assert answer_to(["a", "b"]) == '["a","b"]'
    assert answer_to("4") == "4"
    assert answer_to(True) == "true"


def read_claude(row_of: Callable[..., Any], written: Callable[[Any], Any], response: dict[str, Any]) -> LoggedCall:
    return one(row_of(input=CLAUDE_ASKED, output=written(response)))


def test_anthropics_bodies() -> None:
    for row_of in (trace, observation):
        for written in (dict, json.dumps, lambda response: [response]):
            check_claude(partial(read_claude, row_of, written))
    assert read_claude(observation, dict, claude_said("Cologne.")).usage == TokenCounts(60, 7, 50)


def test_a_message_without_a_reason_for_its_end_keeps_its_calls() -> None:
    message = {"role": "assistant", "content": [CLAUDE_CALLS]}
    call = one(observation(output=message, metadata={"finish_reason": "tool_use"}))
    assert call.answer and call.answer.finish_reason == "tool_use"
    assert [each["name"] for each in call.answer.tool_calls] == ["track"]


def test_an_answer_in_json_may_have_candidates() -> None:
    assert answer_to({"candidates": [{"name": "Ada"}]}) == '{"candidates":[{"name":"Ada"}]}'
    assert answer_to({"candidates": []}) == '{"candidates":[]}'


def test_of_several_answers_the_first_counts() -> None:
    assert answer_to([{"role": "assistant", "content": "one"}, {"role": "assistant", "content": "two"}]) == "one"


def test_items_of_the_responses_api_are_read() -> None:
    tools = [{"type": "function", "name": "track", "parameters": {}}]
    asked = {"input": [{"role": "user", "content": [{"type": "input_text", "text": "Where?"}]}], "tools": tools}
    item = {"type": "function_call", "call_id": "c", "name": "track", "arguments": "{}"}
    call = one(observation(input=asked, output=[{"type": "reasoning", "summary": []}, item]))
    assert call.kind == "responses"
    assert call.messages == [{"role": "user", "content": [{"type": "text", "text": "Where?"}]}]
    assert call.request["tools"] == tools
    assert call.answer and call.answer.tool_calls == [{"id": "c", "name": "track", "arguments": "{}"}]
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Here."}]}
    assert answer_to(message, input="Where?") == "Here."


def test_parts_of_opentelemetrys_messages_are_read() -> None:
    asked = [{"role": "user", "parts": [{"type": "text", "content": "Where?"}]}]
    called = {"type": "tool_call", "id": "c", "name": "track", "arguments": {"id": 4}}
    answered = [{"role": "assistant", "parts": [called], "finish_reason": "tool_call"}]
    call = one(observation(input={"messages": asked, "tools": []}, output=answered))
    assert call.messages == [{"role": "user", "content": "Where?"}]
    assert call.answer and call.answer.tool_calls == [{"id": "c", "name": "track", "arguments": '{"id":4}'}]


def test_tools_and_calls_in_columns_of_their_own_are_read() -> None:
    definition = json.dumps({"description": "Where?", "parameters": json.dumps({"type": "object"})})
    made = json.dumps({"id": "c", "arguments": "{}", "type": "function", "index": 0})
    columns = {"toolDefinitions": {"track": definition}, "toolCalls": [made], "toolCallNames": ["track"]}
    call = one(observation(output=None, **columns))
    function = {"name": "track", "description": "Where?", "parameters": {"type": "object"}}
    assert call.request["tools"] == [{"type": "function", "function": function}]
    assert call.answer and call.answer.tool_calls == [{"id": "c", "name": "track", "arguments": "{}"}]


def test_a_call_of_langchain_in_the_conversation_gets_openais_form() -> None:
    made = {"name": "track", "args": {"id": 4}, "id": "c", "type": "tool_call"}
    turns = [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "", "tool_calls": [made], "additional_kwargs": {"refusal": None}},
        {"role": "tool", "content": "Depot", "tool_call_id": "c"},
    ]
    call = one(observation(input=turns))
    function = {"name": "track", "arguments": '{"id":4}'}
    assert call.messages[1]["tool_calls"] == [{"id": "c", "type": "function", "function": function}]
    assert "additional_kwargs" not in call.messages[1]
    assert call.messages[2] == turns[2]


def fault_of(**changed: Any) -> str | None:
    row = {key: value for key, value in observation(**changed).items() if value is not ...}
    call = one(row)
    return call.fault[0] if call.fault else None


def test_what_teaches_nothing_says_why() -> None:
    assert fault_of() is None
    assert fault_of(input=..., output=...) == "not-kept"
    assert fault_of(input=None) == "no-request"
    assert fault_of(input={"ticket": 4711, "text": "Where?"}) == "no-request"
    assert fault_of(output="") == "no-answer"
    assert fault_of(output="redacted-by-litellm") == "redacted"
    assert fault_of(input="redacted-by-litellm") == "redacted"
    image = "@@@langfuseMedia:type=image/png|id=abc|source=base64_data_uri@@@"
    content = [{"type": "image_url", "image_url": {"url": image}}]
    assert fault_of(input=[{"role": "user", "content": content}]) == "partial"
    assert fault_of(level="WARNING", statusMessage="slow") is None
    assert fault_of(level="ERROR") == "failed"


def test_an_answer_as_long_as_allowed_counts_as_cut() -> None:
    usage = {"input": 10, "output": 80, "total": 90}
    cut = one(observation(usageDetails=usage, modelParameters={"max_tokens": 80}))
    assert cut.answer and cut.answer.fault and cut.answer.fault[0] == "cut-answer"
    whole = one(observation(usageDetails=usage, modelParameters={"max_tokens": 81}))
    assert whole.answer and whole.answer.fault is None
    stopped = one(
        observation(usageDetails=usage, modelParameters={"max_tokens": 80}, metadata={"finish_reason": "stop"})
    )
    assert stopped.answer and stopped.answer.fault is None


def test_a_label_may_fill_its_limit() -> None:
    usage = {"input": 10, "output": 4, "total": 14}
    label = one(observation(usageDetails=usage, modelParameters={"max_tokens": 4}))
    assert label.answer and label.answer.fault is None


def test_an_answer_that_starts_at_its_end_did_not_stream() -> None:
    whole = one(observation(completionStartTime="2026-11-28T09:14:04.120Z"))
    assert (whole.is_streamed, whole.first_seconds) == (False, None)
    streamed = one(observation(completionStartTime="2026-11-28T09:14:03.620Z"))
    assert (streamed.is_streamed, streamed.first_seconds) == (True, 0.5)


def test_counts_are_summed_over_their_details() -> None:
    details = {"input": "5", "cache_read_input_tokens": "7", "cache_creation_input_tokens": 2, "output": 3}
    usage = one(observation(usageDetails=details | {"output_reasoning_tokens": 4, "total": 21})).usage
    assert usage
    assert (usage.prompt_tokens, usage.answer_tokens, usage.cached_tokens) == (14, 7, 7)
    assert (usage.cache_write_tokens, usage.reasoning_tokens) == (2, 4)


@pytest.mark.parametrize("plain", [58, 28])
def test_tokens_of_the_cache_that_the_input_holds_too_count_once(plain: int) -> None:
    """LiteLLM's callback: older versions leave all of them in `input`, newer ones those that were written."""
    details = {"input": plain, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 20, "output": 10}
    usage = one(observation(usageDetails=details | {"total": 68})).usage
    assert usage == TokenCounts(58, 10, 30, 20)
    assert one(observation(usageDetails=details)).usage == TokenCounts(plain + 50, 10, 30, 20)


def test_thinking_that_the_output_holds_too_leaves_the_prompt_as_it_is() -> None:
    details = {"input": 58, "output": 10, "output_reasoning_tokens": 4, "total": 68}
    usage = one(observation(usageDetails=details)).usage
    assert usage and usage.prompt_tokens == 58


def test_old_counts_are_read_if_they_are_tokens() -> None:
    old = one(observation(usage={"unit": "TOKENS", "input": 5, "output": 3, "total": 8})).usage
    assert old and (old.prompt_tokens, old.answer_tokens) == (5, 3)
    assert one(observation(usage={"unit": "CHARACTERS", "input": 50, "output": 30, "total": 80})).usage is None


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "SPAN", "model": None},
        {"type": "EMBEDDING"},
        {"type": "AGENT"},
        {"name": "litellm-aembedding"},
    ],
)
def test_what_is_no_models_call_gives_nothing(changed: dict[str, Any]) -> None:
    row = observation(**changed)
    assert is_langfuse(row)
    assert list(langfuse_calls(row)) == []


def test_a_score_gives_nothing() -> None:
    row = {"id": "s", "trace_id": "t", "observation_id": None, "data_type": "NUMERIC", "string_value": None, "value": 1}
    assert is_langfuse(row)
    assert list(langfuse_calls(row)) == []


# Traces


def trace(*observations: Any, **changed: Any) -> dict[str, Any]:
    usual = {
        "id": "t1",
        "timestamp": "2026-11-28T09:14:03.120Z",
        "htmlPath": "/project/p/traces/t1",
        "input": [{"role": "user", "content": "Where is it?"}],
        "output": "delivery",
        "observations": list(observations),
        "latency": -1,
        "totalCost": -1,
    }
    return usual | changed


def ids_in(row: Mapping[str, Any]) -> list[str | None]:
    return [call.id for call in langfuse_calls(row)]


def test_of_a_call_and_what_wraps_it_only_the_inner_counts() -> None:
    agent = observation(id="agent", type="AGENT", output={"state": 1})
    step = observation(id="step", type="CHAIN", model=None, parentObservationId="agent")
    outer = observation(id="outer", parentObservationId="step")
    inner = observation(id="inner", parentObservationId="outer")
    assert ids_in(trace(agent, step, outer, inner)) == ["inner"]
    assert ids_in(trace(inner, outer, step, agent, agent)) == ["inner"]
    other = observation(id="outer", parentObservationId="step", output="something else")
    assert ids_in(trace(agent, step, other, inner)) == ["outer", "inner"]
    assert ids_in(trace(agent)) == ["agent"]


def test_observations_that_go_round_all_count() -> None:
    ring = [observation(id=f"g{n}", parentObservationId=f"g{(n + 1) % 3}") for n in range(3)]
    assert ids_in(trace(*ring)) == ["g0", "g1", "g2"]
    spans = [observation(id=f"s{n}", type="SPAN", model=None, parentObservationId=f"s{(n + 1) % 3}") for n in range(3)]
    assert ids_in(trace(*spans, observation(parentObservationId="s0"))) == ["o1"]


def test_a_trace_counts_itself_only_without_model_calls() -> None:
    span = observation(id="span", type="SPAN", model=None)
    assert ids_in(trace(span, observation())) == ["o1"]
    assert ids_in(trace(span)) == ["t1"]
    assert ids_in(trace(span, input={"ticket": 1})) == []
    own = one(trace())
    assert (own.id, own.usd, own.seconds, own.fault) == ("t1", None, None, None)


@pytest.mark.parametrize(
    "changed", [{"input": {"ticket": 1}}, {"input": None}, {"input": "Where?"}, {"output": {"messages": []}}]
)
def test_a_trace_that_is_no_chat_says_what_to_export(changed: dict[str, Any]) -> None:
    call = one(trace("o1", "o2", **changed))
    assert call.fault and call.fault[0] == "no-request"
    assert "observations" in call.fault[1]


def test_an_old_download_has_everything_once() -> None:
    texts = {"input": json.dumps(json.dumps(observation()["input"])), "output": json.dumps("delivery")}
    inner = observation(**texts)
    call = one({"trace": trace(inner), "observations": [inner], "scores": []})
    assert call.messages == observation()["input"]
    assert call.answer and call.answer.text == "delivery"


def test_an_old_tables_quoted_text_is_unquoted() -> None:
    row = {key: value or "" for key, value in observation(input="Where?", output='"delivery"').items()}
    assert answer_to('"delivery"') == '"delivery"'
    assert one(row).answer_message == {"role": "assistant", "content": "delivery"}


# Hostile rows

VALUES: list[Any] = [
    None,
    True,
    -1,
    1e308,
    10**300,
    "",
    "[[[[",
    '{"a":',
    "NaN",
    [],
    {},
    [None],
    {"role": []},
    [[]],
    "\x00",
]


def deep(levels: int) -> Any:
    value: Any = "x"
    for _ in range(levels):
        value = [{"content": value}]
    return value


def test_what_is_nested_too_deep_stays_text_or_is_left_out() -> None:
    text = json.dumps(deep(200))
    assert answer_to(text) == text
    assert fault_of(output=deep(200)) == "no-answer"
    assert fault_of(input=[{"role": "user", "content": deep(200)}]) == "no-request"


def mutated(value: Any, source: random.Random) -> Any:
    roll = source.random()
    if roll < 0.03:
        return source.choice([*VALUES, deep(400), "[" * 50_000])
    if isinstance(value, dict):
        return {key: mutated(each, source) for key, each in value.items() if source.random() > 0.03}
    if isinstance(value, list):
        return [mutated(each, source) for each in value]
    if isinstance(value, str) and roll < 0.1:
        return value[: source.randrange(len(value) + 1)]
    return value


def test_broken_rows_raise_nothing() -> None:
    source = random.Random(33)
    rows = [row for name in ALL if not name.endswith(".csv") for row in rows_of(name)]
    begun, calls = time.monotonic(), 0
    for number in range(3000):
        row = mutated(rows[number % len(rows)], source)
        if not isinstance(row, dict):
            continue
        is_langfuse(row)
        for call in langfuse_calls(row):
            calls += 1
            assert call.meta is not None
            assert call.messages is not None
            assert call.fault is None or all(isinstance(each, str) and each for each in call.fault)
    assert calls > 1000
    assert time.monotonic() - begun < 60
