"""Tool calls from a log to the running server, on a tiny random model: whatever it answers is a call or a text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import unalike, whole_run
from tests.fixtures.tiny import TINY
from tunewright.config import load_spec
from tunewright.core.artifacts import read_jsonl
from tunewright.data.guess.spec import guess_spec
from tunewright.serving.child import running_server
from tunewright.tasks import task_of

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

NAME = "assistant"
PARAMETERS = {
    "type": "object",
    "properties": {"number": {"$ref": "#/$defs/number"}, "fast": {"type": "boolean"}},
    "required": ["number"],
    "$defs": {"number": {"type": "integer", "minimum": 1, "maximum": 999}},
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "track", "description": "Find a parcel.", "parameters": PARAMETERS}},
    {"type": "function", "function": {"name": "hours", "description": "When the shop is open."}},
]
ASKED: list[Any] = [{"role": "user", "content": "Where is parcel 7?"}]


def row(number: int) -> dict[str, Any]:
    kind = number % 3
    text = (f"Parcel {number}: where?", "When are you open?", "Thank you")[kind]
    answer: dict[str, Any] = {"role": "assistant", "content": "You are welcome." if kind == 2 else None}
    if kind < 2:
        call = {"name": ("track", "hours")[kind], "arguments": json.dumps({"number": number} if kind == 0 else {})}
        answer["tool_calls"] = [{"id": f"c{number}", "type": "function", "function": call}]
    return {"messages": [{"role": "user", "content": f"{text} {unalike(str(number))}"}, answer], "tools": TOOLS}


@pytest.fixture(scope="module")
def done(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Any]]:
    """(the folder `runs/latest` of a whole run, its report). The spec is the one that `init` writes."""
    folder = tmp_path_factory.mktemp("tools") / NAME
    folder.mkdir()
    data = folder / f"{NAME}.jsonl"
    data.write_text("".join(json.dumps(row(number)) + "\n" for number in range(1, 121)), "utf-8")
    (folder / "tunewright.yaml").write_text(guess_spec(data, folder).text, "utf-8")
    return whole_run(
        folder,
        f"model={make_tiny_model('llama3')[1]}",
        *(change for change in TINY if not change.startswith("train.max_length")),
        "train.max_length=300",
        "export.runtime=onnxruntime",
    )


@pytest.fixture(scope="module")
def client(done: tuple[Path, dict[str, Any]]) -> Iterator[openai.OpenAI]:
    with running_server(done[0] / "bundle") as address:
        yield openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)


def test_every_candidate_is_measured_by_its_calls(done: tuple[Path, dict[str, Any]]) -> None:
    comparison = done[1]["comparison"]
    assert comparison["primary_metric"] == "call accuracy"
    assert {"nearest", "few_shot", "adapter", "exported", "served"} <= comparison["candidates"].keys()
    assert "patterns" not in comparison["candidates"]
    others = comparison["candidates"]["nearest"]["scores"]["test"]["others"]
    assert set(others) == {"macro-F1", "tool accuracy", "argument F1", "irrelevance detection"}
    assert others["tool accuracy"]["value"] > 0.9


def test_all_that_models_write_are_calls_or_texts(done: tuple[Path, dict[str, Any]]) -> None:
    latest = done[0]
    task = task_of(load_spec(latest.parents[1]).task)
    for name in ("few_shot", "adapter", "exported"):
        for each in read_jsonl(latest / "evaluate" / "answers" / f"{name}.jsonl"):
            assert task.canonical(each["answer"]) == each["answer"]


def fits(call: Any) -> bool:
    arguments = json.loads(call.arguments)
    return (call.name == "hours" and arguments == {}) or 1 <= arguments["number"] <= 999


def test_a_named_tool_is_called(client: openai.OpenAI) -> None:
    for name in ("track", "hours"):
        choice: Any = {"type": "function", "function": {"name": name}}
        reply = client.chat.completions.create(model=NAME, messages=ASKED, tools=TOOLS, tool_choice=choice)
        assert reply.choices[0].finish_reason == "tool_calls"
        assert reply.choices[0].message.content is None
        (call,) = reply.choices[0].message.tool_calls or ()
        assert call.type == "function"
        assert call.id.startswith("call_")
        assert call.function.name == name
        assert fits(call.function)
        assert reply.usage
        assert reply.usage.completion_tokens > 0


def test_a_call_is_streamed(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(model=NAME, messages=ASKED, tools=TOOLS, tool_choice="required") as stream:
        final = stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls or ()
    assert final.choices[0].finish_reason == "tool_calls"
    assert fits(call.function)
    plain = client.chat.completions.create(model=NAME, messages=ASKED, tools=TOOLS, tool_choice="required")
    (same,) = plain.choices[0].message.tool_calls or ()
    assert same.type == "function"
    assert (same.function.name, same.function.arguments) == (call.function.name, call.function.arguments)


def test_no_tool_is_called_where_the_client_wants_none(client: openai.OpenAI) -> None:
    asked: Any = {"model": NAME, "messages": ASKED, "tools": TOOLS, "tool_choice": "none"}
    whole = client.chat.completions.create(**asked).choices[0]
    chunks = [chunk.choices[0] for chunk in client.chat.completions.create(**asked, stream=True)]
    assert whole.message.tool_calls is None
    assert not any(chunk.delta.tool_calls for chunk in chunks)
    assert "".join(chunk.delta.content or "" for chunk in chunks) == whole.message.content
    assert whole.finish_reason == chunks[-1].finish_reason in ("stop", "length")


def test_the_responses_api_calls_too(client: openai.OpenAI) -> None:
    flat: Any = [{"type": "function", **tool["function"]} for tool in TOOLS]
    choice: Any = {"type": "function", "name": "track"}
    reply = client.responses.create(model=NAME, input="Where is 7?", tools=flat, tool_choice=choice)
    (item,) = reply.output
    assert item.type == "function_call"
    assert fits(item)
    assert reply.tools
    with client.responses.stream(model=NAME, input="Where is 7?", tools=flat, tool_choice=choice) as stream:
        (same,) = stream.get_final_response().output
    assert same.type == "function_call"
    assert same.arguments == item.arguments
    text = client.responses.create(model=NAME, input="Where is 7?", tools=flat, tool_choice="none")
    assert text.output[0].type == "message"


def test_a_model_answers_the_same_without_being_sent_its_tools(client: openai.OpenAI) -> None:
    sent: list[dict[str, Any]] = [{}, {"tools": TOOLS, "tool_choice": "auto", "parallel_tool_calls": True}]
    bare, full = (client.chat.completions.create(model=NAME, messages=ASKED, **tools).choices[0] for tools in sent)
    assert bare.message.content == full.message.content
    assert bare.finish_reason == full.finish_reason
    calls = [[call.to_dict()["function"] for call in each.message.tool_calls or ()] for each in (bare, full)]
    assert calls[0] == calls[1]


def changed(**parameters: Any) -> list[Any]:
    return [{"type": "function", "function": {**TOOLS[0]["function"], "parameters": parameters}}, TOOLS[1]]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ({"tools": TOOLS[:1]}, "was trained to call hours, track; send these tools, or none"),
        ({"tools": [{"type": "web_search"}]}, "only functions can be called"),
        ({"tools": changed(**PARAMETERS | {"required": []})}, "The arguments of track are others"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "refund"}}}, "no tool 'refund'"),
        ({"tool_choice": "any"}, "tool_choice is none, auto, required, or one function"),
        ({"functions": [TOOLS[1]["function"]]}, "Send the functions as tools"),
        ({"response_format": {"type": "json_object"}}, "leave response_format away"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_other_tools_are_refused(sent: dict[str, Any], reason: str, stream: bool, client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match=reason):
        client.chat.completions.create(model=NAME, messages=ASKED, stream=stream, **sent)


def test_descriptions_may_differ(client: openai.OpenAI) -> None:
    tools: Any = [{"type": "function", "function": {**tool["function"], "description": "?"}} for tool in TOOLS]
    assert client.chat.completions.create(model=NAME, messages=ASKED, tools=tools[::-1]).choices


def test_the_plain_route(client: openai.OpenAI) -> None:
    url = str(client.base_url)
    reply = httpx.post(f"{url}call", json={"text": "Where is 7?"}, timeout=60).raise_for_status().json()
    assert (reply["call"] is None) != (reply["text"] is None)
    assert 0 <= reply["confidence"] <= 1
    wrong = httpx.post(f"{url}extract", json={"text": "Where is 7?"})
    assert "/v1/call" in wrong.json()["error"]["message"]
