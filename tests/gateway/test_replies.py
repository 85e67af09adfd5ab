"""Own answers in the client's form, read by the official client."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import httpx
import numpy as np
import pytest
from openai import OpenAI

from tunewright.gateway.answers import AnswerReader
from tunewright.gateway.jobs.signature import JobSignature
from tunewright.gateway.own_responses import is_own_response
from tunewright.gateway.routes import Kind
from tunewright.gateway.takeover.models import OwnAnswer
from tunewright.gateway.takeover.replies import CantReplace, asks_for_more, choice_of, reply_body

SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number"}, "city": {"type": ["string", "null"]}},
    "required": ["city", "total"],
    "additionalProperties": False,
}
TOOL = {"name": "book", "parameters": SCHEMA}
NOTHING = np.empty(0, np.uint64)


def signature(answer: str, tool: str | None = None, kind: Kind = "chat", key: str | None = None) -> JobSignature:
    return JobSignature(
        name="x",
        kind=kind,
        form="",
        template=NOTHING,
        fixed=NOTHING,
        least_share=0,
        patterns=frozenset(),
        rivals=[],
        answer=answer,
        tool=tool,
        key=key,
    )


def own(text: str, **more: Any) -> OwnAnswer:
    return OwnAnswer(text, 0.97, False, True, "tickets", "abc", 70, 3, **more)


def client_of(answer: OwnAnswer, found: JobSignature) -> OpenAI:
    """The official client, whose requests are answered by an own answer."""

    def reply(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        choice = choice_of(answer, found, body)
        content_type, content = reply_body(found.kind, "a" * 32, body["model"], choice, answer, body)
        reader = AnswerReader(found.kind, content_type, "", 1 << 20)
        reader.feed(content)
        (read,) = reader.result().choices  # what the gateway would read of an upstream's answer
        assert (read.text, read.tool_calls) == (choice.text, choice.tool_calls)
        usage = reader.result().usage
        assert usage is None or (usage.prompt_tokens, usage.answer_tokens) == (70, 3)
        return httpx.Response(200, content=content, headers={"content-type": content_type})

    return OpenAI(api_key="k", http_client=httpx.Client(transport=httpx.MockTransport(reply)), max_retries=0)


MESSAGES: Any = [{"role": "user", "content": "hello"}]
FORMAT: Any = {"type": "json_schema", "json_schema": {"name": "order", "schema": SCHEMA, "strict": True}}


def test_a_label() -> None:
    client = client_of(own("billing"), signature("label"))
    whole = client.chat.completions.create(model="gpt-6-luna", messages=MESSAGES)
    assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == ("billing", "stop")
    assert whole.usage and (whole.model, whole.usage.total_tokens) == ("gpt-6-luna", 73)
    with client.chat.completions.stream(model="gpt-6-luna", messages=MESSAGES) as stream:
        assert stream.get_final_completion().choices[0].message.content == "billing"


def test_a_record_in_the_clients_schema_and_order() -> None:
    client = client_of(own('{"total":3.5,"city":"Oslo"}'), signature("record"))
    whole = client.chat.completions.create(model="gpt-6-luna", messages=MESSAGES, response_format=FORMAT)
    assert whole.choices[0].message.content == '{"total":3.5,"city":"Oslo"}'
    plain = client.chat.completions.create(model="gpt-6-luna", messages=MESSAGES)
    assert plain.choices[0].message.content == '{"total":3.5,"city":"Oslo"}'


def test_a_label_in_a_record() -> None:
    client = client_of(own("billing"), signature("label", key="team"))
    schema = {"type": "object", "properties": {"team": {"enum": ["billing", "other"]}}, "required": ["team"]}
    form: Any = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    whole = client.chat.completions.create(model="m", messages=MESSAGES, response_format=form)
    assert json.loads(whole.choices[0].message.content or "") == {"team": "billing"}
    schema["properties"]["team"]["enum"] = ["other"]
    with pytest.raises(CantReplace):
        choice_of(own("billing"), signature("label", key="team"), {"response_format": form})


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_call(stream: bool) -> None:
    client = client_of(own('{"total":3.5,"city":"Oslo"}'), signature("record", "book"))
    tools: Any = [{"type": "function", "function": TOOL}]
    if stream:
        with client.chat.completions.stream(model="m", messages=MESSAGES, tools=tools) as events:
            final: Any = events.get_final_completion()
    else:
        final = client.chat.completions.create(model="m", messages=MESSAGES, tools=tools)
    (call,) = final.choices[0].message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("book", {"total": 3.5, "city": "Oslo"})
    assert final.choices[0].finish_reason == "tool_calls"


def test_a_response_of_the_responses_api() -> None:
    client = client_of(own("billing"), signature("label", kind="responses"))
    whole = client.responses.create(model="gpt-6-luna", input="hello")
    assert (whole.output_text, whole.status) == ("billing", "completed")
    assert whole.usage and whole.usage.output_tokens == 3
    assert is_own_response(whole.id)
    with client.responses.stream(model="gpt-6-luna", input="hello") as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_response().output_text == "billing"
    assert kinds[0] == "response.created"
    assert "response.output_text.delta" in kinds


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_call_of_the_responses_api(stream: bool) -> None:
    client = client_of(own('{"total":3.5,"city":null}'), signature("record", "book", "responses"))
    tools: Any = [{"type": "function", **TOOL, "strict": True}]
    if stream:
        with client.responses.stream(model="m", input="hello", tools=tools) as events:
            final: Any = events.get_final_response()
    else:
        final = client.responses.create(model="m", input="hello", tools=tools)
    (item,) = final.output
    assert (item.type, item.name, json.loads(item.arguments)) == ("function_call", "book", {"total": 3.5, "city": None})


def test_a_completion() -> None:
    client = client_of(own("billing"), signature("label", kind="completions"))
    assert client.completions.create(model="m", prompt="hello").choices[0].text == "billing"
    stream = client.completions.create(model="m", prompt="hello", stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == "billing"


@pytest.mark.parametrize(
    ("answer", "request_fields"),
    [
        (own('{"total":"many","city":"Oslo"}'), {"response_format": FORMAT}),
        (own('{"total":1}'), {"response_format": FORMAT}),
        (own("no JSON"), {"response_format": FORMAT}),
        (own('{"a":1}'), {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "oblong"}}}}),
        (own('{"a":1}', is_cut=True), {}),
        (own('{"a":1}'), {"max_tokens": 2}),
        (own('{"a":1}'), {"max_completion_tokens": 2}),
        (own('{"a":1}'), {"max_output_tokens": 1}),
    ],
)
def test_what_does_not_fit_is_left_to_the_api(answer: OwnAnswer, request_fields: dict[str, Any]) -> None:
    with pytest.raises(CantReplace):
        choice_of(answer, signature("record"), request_fields)


def test_a_schema_of_a_client_can_neither_fetch_nor_hang() -> None:
    evil = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}, "required": ["a"]}
    form: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "x", "schema": evil}}
    with pytest.raises(CantReplace):
        choice_of(own(json.dumps({"a": "a" * 40 + "!"})), signature("record"), {"response_format": form})
    away = {"type": "object", "$ref": "http://127.0.0.1:9/schema"}
    with pytest.raises(CantReplace):
        choice_of(
            own("{}"),
            signature("record"),
            {"response_format": {"type": "json_schema", "json_schema": {"schema": away}}},
        )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, False),
        ({"n": 1, "logprobs": False, "logit_bias": {}}, False),
        ({"n": 2}, True),
        ({"logprobs": True}, True),
        ({"logprobs": 0}, True),  # of completions: the chosen tokens' alone
        ({"previous_response_id": "resp_1"}, True),
        ({"background": True}, True),
        ({"store": True}, True),
        ({"store": False}, False),
        ({"store": None}, False),
        ({"functions": [{"name": "book"}]}, True),
        ({"function_call": "none"}, True),
        ({"echo": True, "best_of": 1}, True),
        ({"suffix": "end"}, True),
        ({"best_of": 3}, True),
        ({"echo": False, "suffix": None, "best_of": 1}, False),
        ({"include": ["message.output_text.logprobs"]}, True),
        ({"include": ["reasoning.encrypted_content"]}, False),
    ],
)
def test_some_requests_ask_for_what_only_the_api_has(more: dict[str, Any], expected: bool) -> None:
    assert asks_for_more({"model": "m", **more}) is expected


BOOKED = '{"name":"book","arguments":{"total":3,"city":"Oslo"}}'


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_or_a_text_of_a_job_of_tools(stream: bool) -> None:
    tools: Any = [{"type": "function", "function": TOOL}, {"type": "function", "function": {"name": "now"}}]
    asked: Any = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}], "tools": tools}

    def replied(answer: str) -> Any:
        client = client_of(own(answer), signature("call"))
        if not stream:
            return client.chat.completions.create(**asked).choices[0]
        with client.chat.completions.stream(**asked) as events:
            return events.get_final_completion().choices[0]

    booked = replied(BOOKED)
    assert booked.finish_reason == "tool_calls"
    (call,) = booked.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("book", {"city": "Oslo", "total": 3})
    (call,) = replied('{"name":"now","arguments":{}}').message.tool_calls
    assert (call.function.name, call.function.arguments) == ("now", "{}")
    text = replied('{"text":"Where to?"}')
    assert (text.message.content, text.message.tool_calls, text.finish_reason) == ("Where to?", None, "stop")


@pytest.mark.parametrize(
    "request_",
    [
        {"tools": [{"type": "function", "function": {"name": "now"}}]},
        {},
        {"tools": [{"type": "function", "function": TOOL}], "tool_choice": "required"},
        {"tools": [{"type": "function", "function": {**TOOL, "parameters": {**SCHEMA, "required": ["day"]}}}]},
    ],
)
def test_a_call_that_the_client_does_not_expect_is_left_to_the_api(request_: dict[str, Any]) -> None:
    with pytest.raises(CantReplace):
        choice_of(own(BOOKED), signature("call"), request_)


@pytest.mark.parametrize(
    ("chosen", "is_left"),
    [
        ("auto", False),
        ("required", False),
        ({"type": "function", "function": {"name": "book"}}, False),
        ({"type": "function", "name": "book"}, False),
        ("none", True),
        ({"type": "function", "function": {"name": "now"}}, True),
        ({"type": "allowed_tools", "mode": "auto", "tools": []}, True),
    ],
)
def test_of_one_tool_the_clients_choice_counts_too(chosen: Any, is_left: bool) -> None:
    tools = [{"type": "function", "function": TOOL}, {"type": "function", "function": {"name": "now"}}]
    asked = {"tools": tools, "tool_choice": chosen}
    with pytest.raises(CantReplace) if is_left else nullcontext():
        choice_of(own('{"city": "Oslo", "total": 3}'), signature("record", "book"), asked)
