"""OpenAI's routes, asked by the official client."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai import BadRequestError, OpenAI
from starlette.testclient import TestClient

from tests.serving.test_app import Echo
from tunewright.serving.app import build_app
from tunewright.serving.hosts import OneModel


@pytest.fixture(params=["classify", "generate"])
def client(request: pytest.FixtureRequest) -> Iterator[OpenAI]:
    with TestClient(build_app(OneModel(Echo(request.param)))) as http:
        yield OpenAI(api_key="k", base_url="http://testserver/v1", http_client=http, max_retries=0)


def test_a_response(client: OpenAI) -> None:
    asked: Any = [{"role": "user", "content": [{"type": "input_text", "text": "my card is lost"}]}]
    for given in ("my card is lost", asked):
        found = client.responses.create(model="echo", input=given, instructions="Be brief.")
        assert (found.output_text, found.status, found.model) == ("my card is lost", "completed", "echo")
        assert found.instructions == "Be brief."
        assert found.usage
        assert (found.usage.input_tokens, found.usage.output_tokens) == (1, 1)
    assert found.model_extra is not None
    assert found.model_extra["escalate"] is True


def test_a_streamed_response(client: OpenAI) -> None:
    with client.responses.stream(model="echo", input="my card is lost") as stream:
        events = list(stream)
        final: Any = stream.get_final_response()
    assert final.output_text == "my card is lost"
    assert final.confidence == 1.0
    assert [event.sequence_number for event in events] == sorted(event.sequence_number for event in events)
    assert {"response.output_text.delta", "response.output_item.done"} <= {event.type for event in events}


def test_a_completion(client: OpenAI) -> None:
    whole = client.completions.create(model="echo", prompt="my card is lost")
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("my card is lost", "stop")
    options: Any = {"include_usage": True}
    chunks = list(client.completions.create(model="echo", prompt="lost", stream=True, stream_options=options))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == "lost"
    assert chunks[-1].usage


@pytest.mark.parametrize("setting", [{"echo": True}, {"suffix": "the end"}, {"logprobs": 0}])
def test_a_completion_refuses_what_would_change_its_answer(client: OpenAI, setting: dict[str, Any]) -> None:
    asked: Any = {"model": "echo", "prompt": "lost"}
    with pytest.raises(BadRequestError, match=next(iter(setting))):
        client.completions.create(**asked, **setting)
    assert client.completions.create(**asked, echo=False, suffix="", logprobs=None).choices[0].text == "lost"


@pytest.mark.parametrize("streamed", [None, True])
def test_null_is_the_default_of_a_setting(client: OpenAI, streamed: bool | None) -> None:
    asked: Any = {"model": "echo", "stream": streamed, "temperature": None, "top_p": None}
    plain: Any = {"n": None, "stop": None, "max_tokens": None, "logprobs": None, "seed": None}
    plain["stream_options"] = {"include_usage": None} if streamed else None
    messages: Any = [{"role": "user", "content": "lost"}]
    chat: Any = client.chat.completions.create(**asked, **plain, messages=messages, top_logprobs=None)
    completion: Any = client.completions.create(**asked, **plain, prompt="lost", echo=None, suffix=None)
    unset: Any = {"instructions": None, "max_output_tokens": None, "metadata": None, "parallel_tool_calls": None}
    response: Any = client.responses.create(**asked, **unset, input="lost", background=None, store=None)
    if streamed:
        assert "".join(each.choices[0].delta.content or "" for each in chat) == "lost"
        assert "".join(each.choices[0].text for each in completion) == "lost"
        response = list(response)[-1].response
    else:
        assert (chat.choices[0].message.content, chat.choices[0].logprobs) == ("lost", None)
        assert completion.choices[0].text == "lost"
    assert (response.output_text, response.temperature, response.parallel_tool_calls) == ("lost", 1.0, True)


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_text_is_refused(client: OpenAI, text: str) -> None:
    """The plain routes and batches refuse it too: a model would make something up."""
    messages: Any = [{"role": "user", "content": text}]
    for streamed in (False, True):
        with pytest.raises(BadRequestError, match="nothing in it to read"):
            client.chat.completions.create(model="echo", messages=messages, stream=streamed)
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": text}]}]
    with pytest.raises(BadRequestError, match="nothing in it to read"):
        client.chat.completions.create(model="echo", messages=parts)
    for prompt in (text, [text]):
        with pytest.raises(BadRequestError, match="nothing in it to read"):
            client.completions.create(model="echo", prompt=prompt)
    with pytest.raises(BadRequestError, match="nothing in it to read"):
        client.responses.create(model="echo", input=text)


def test_a_list_of_one_prompt_is_that_prompt(client: OpenAI) -> None:
    assert client.completions.create(model="echo", prompt=["lost"]).choices[0].text == "lost"
    for several in (["lost", "found"], [], [[1, 2]]):
        with pytest.raises(BadRequestError, match="prompt"):
            client.completions.create(model="echo", prompt=several)


@pytest.mark.parametrize(
    "given",
    [
        {"type": "text"},
        {
            "type": "json_schema",
            "name": "team",
            "description": "Who answers.",
            "schema": {"type": "object", "properties": {"team": {"enum": ["a", None], "default": None}}},
            "strict": True,
        },
    ],
)
def test_a_response_repeats_its_text_format(client: OpenAI, given: Any) -> None:
    whole = client.responses.create(model="echo", input="lost", text={"format": given})
    *_, last = client.responses.create(model="echo", input="lost", text={"format": given}, stream=True)
    assert last.type == "response.completed"
    for found in (whole, last.response):
        assert found.text and found.text.format
        assert found.text.format.to_dict() == given


@pytest.mark.parametrize(
    "body",
    [
        {"input": []},
        {"input": "x", "previous_response_id": "resp_1"},
        {"input": "x", "background": True},
        {"input": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        {"input": "x", "text": {"format": {"type": "json_schema", "name": "a", "schema": {"a": "b" * 70_000}}}},
        {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
    ],
)
def test_what_a_response_cant_be_is_refused(body: dict[str, Any], client: OpenAI) -> None:
    with pytest.raises(BadRequestError):
        client.responses.create(model="echo", **body)


TOOL: Any = {"type": "function", "function": {"name": "find_parcel", "parameters": {"type": "object"}}}


def test_tools_are_refused_because_no_call_would_ever_come(client: OpenAI) -> None:
    asked: Any = {"model": "echo", "messages": [{"role": "user", "content": "x"}]}
    for tools in ({"tools": [TOOL]}, {"functions": [TOOL["function"]]}):
        with pytest.raises(BadRequestError, match="calls no tools"):
            client.chat.completions.create(**asked, **tools)
    with pytest.raises(BadRequestError, match="calls no tools"):
        client.responses.create(model="echo", input="x", tools=[{"name": "find_parcel", "type": "function"}])
    assert client.chat.completions.create(**asked, tools=[TOOL], tool_choice="none").choices[0].message.content
    assert client.chat.completions.create(**asked, tools=[]).choices[0].message.content


def test_every_reply_has_an_id_that_a_client_may_choose(client: OpenAI) -> None:
    raw = client.responses.with_raw_response.create(model="echo", input="x")
    assert len(raw.headers["x-request-id"]) >= 20
    mine: Any = {"X-Request-Id": "order-7"}
    assert client.models.with_raw_response.list(extra_headers=mine).headers["x-request-id"] == "order-7"
    for evil in ("a b", "x" * 200):
        found = client.models.with_raw_response.list(extra_headers={"x-request-id": evil})
        assert found.headers["x-request-id"] not in (evil, "order-7")
