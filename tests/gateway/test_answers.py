"""Which answers of an API show what it would have answered: those that it has finished."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tunewright.gateway.answers import AnswerChoice, AnswerReader, ReadAnswer
from tunewright.gateway.routes import Kind


def events(*given: dict[str, Any] | str) -> bytes:
    lines = [each if isinstance(each, str) else json.dumps(each) for each in given]
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def piece(text: str | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """An event of a stream of chat completions."""
    delta = {"content": text} | more
    return {"model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def message(finish: str | None, **more: Any) -> bytes:
    """A chat completion in one piece."""
    choice = {"index": 0, "message": {"content": "yes"} | more, "finish_reason": finish}
    return json.dumps({"choices": [choice]}).encode()


def response(status: str, part: dict[str, Any] | None = None) -> dict[str, Any]:
    part = part or {"type": "output_text", "text": "yes"}
    return {"object": "response", "status": status, "output": [{"type": "message", "content": [part]}]}


def last(status: str) -> dict[str, Any]:
    """The last event of a stream of the Responses API."""
    return {"type": f"response.{status}", "response": response(status)}


def delta(part: str, text: str) -> dict[str, Any]:
    """An event of a stream of the Responses API with a part of the answer."""
    return {"type": f"response.{part}.delta", "output_index": 1, "delta": text}


def read(kind: Kind, body: bytes, largest: int = 1 << 16) -> ReadAnswer:
    content_type = "text/event-stream" if body.startswith(b"data:") else "application/json"
    reader = AnswerReader(kind, content_type, "", largest)
    reader.feed(body)
    return reader.result()


TOOL: dict[str, Any] = {"tool_calls": [{"index": 0, "function": {"name": "route", "arguments": "{}"}}]}
ERROR = {"error": {"message": "The server had an error.", "type": "server_error"}}


OLD = {"name": "route", "arguments": '{"team": 1}'}


@pytest.mark.parametrize(
    "body",
    [
        message("function_call", content=None, function_call=OLD),
        events(
            piece(None, function_call={"name": "route", "arguments": ""}),
            piece(None, function_call={"arguments": '{"team":'}),
            piece(None, function_call={"arguments": " 1}"}),
            piece(None, "function_call"),
            "[DONE]",
        ),
    ],
)
def test_a_call_in_the_form_before_tools_is_read_too(body: bytes) -> None:
    (choice,) = read("chat", body).choices
    assert (choice.text, choice.tool_calls) == ("", [OLD])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("chat", message("stop")),
        ("chat", message("tool_calls", **TOOL)),
        ("chat", message("function_call")),
        ("chat", events(piece("yes"), piece(None, "stop"), "[DONE]")),
        ("chat", events(piece("yes") | {"error": None}, piece(None, "stop"), "[DONE]")),
        ("chat", events(piece(None, **TOOL), piece(None, "tool_calls"), "[DONE]")),
        ("completions", b'{"choices": [{"text": "yes", "finish_reason": "stop"}]}'),
        ("responses", json.dumps(response("completed")).encode()),
        ("responses", events(last("completed"))),
    ],
)
def test_a_finished_answer_is_one_to_compare_with(kind: Kind, body: bytes) -> None:
    assert read(kind, body).finished == read(kind, body).choices[0]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("chat", message("length")),
        ("chat", message("content_filter")),
        ("chat", message("stop", refusal="I can't help with that.")),
        ("chat", message(None)),
        ("chat", json.dumps(ERROR).encode()),
        ("chat", events(piece("ye"), piece(None, "length"), "[DONE]")),
        ("chat", events(piece("ye"))),
        ("chat", events(piece("ye"), ERROR, "[DONE]")),
        ("chat", events(piece("yes"), piece(None, "stop"), ERROR)),
        ("chat", events(piece("", refusal="I can't"), piece(None, "stop"), "[DONE]")),
        ("completions", b'{"choices": [{"text": "ye", "finish_reason": "length"}]}'),
        ("responses", json.dumps(response("failed")).encode()),
        ("responses", json.dumps(response("incomplete")).encode()),
        ("responses", json.dumps(response("completed", {"type": "refusal", "refusal": "I can't"})).encode()),
        ("responses", events(last("failed"))),
        ("responses", events(last("incomplete"))),
        ("responses", events({"type": "error", "code": "server_error"}, last("completed"))),
    ],
)
def test_what_the_api_has_not_finished_is_none(kind: Kind, body: bytes) -> None:
    assert read(kind, body).finished is None


BEGUN = {"type": "response.created", "response": {"model": "gpt-6-luna", "status": "in_progress", "output": []}}
CALLED = {"type": "function_call", "name": "route", "arguments": ""}
ADDED = {"type": "response.output_item.added", "output_index": 1, "item": CALLED}


@pytest.mark.parametrize(
    ("came", "choice"),
    [
        ([delta("output_text", "ye"), delta("output_text", "s, bu")], AnswerChoice("yes, bu")),
        ([delta("refusal", "I can")], AnswerChoice(refusal="I can")),
        (
            [ADDED, delta("function_call_arguments", '{"team":')],
            AnswerChoice(tool_calls=[{"name": "route", "arguments": '{"team":'}]),
        ),
    ],
)
def test_a_response_whose_client_left_has_what_came_of_it(came: list[dict[str, Any]], choice: AnswerChoice) -> None:
    answer = read("responses", events(BEGUN, *came))
    assert (answer.choices, answer.letters, answer.model) == ([choice], choice.letters, "gpt-6-luna")
    assert answer.finished is None


@pytest.mark.parametrize(("largest", "kept"), [(1 << 16, ["yes"]), (2, [])])
def test_the_last_event_of_a_response_repeats_what_came_before(largest: int, kept: list[str]) -> None:
    answer = read("responses", events(BEGUN, delta("output_text", "yes"), last("completed")), largest)
    assert (answer.letters, answer.is_whole) == (3, bool(kept))
    assert [choice.text for choice in answer.choices] == kept


FLEX = {"service_tier": "flex"}
COUNTED = {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}


@pytest.mark.parametrize(
    ("kind", "body", "tier"),
    [
        ("chat", json.dumps(json.loads(message("stop")) | FLEX).encode(), "flex"),
        ("chat", message("stop", service_tier="flex"), None),
        ("chat", json.dumps({"choices": ["service_tier", "x" * 9999], **COUNTED, **FLEX}).encode(), "flex"),
        ("chat", json.dumps({"choices": ["x" * 9999, '"service_tier": "flex"'], **COUNTED}).encode(), None),
        ("chat", events(piece("yes") | FLEX, piece(None, "stop") | {"service_tier": None}, "[DONE]"), "flex"),
        ("responses", json.dumps(response("completed") | FLEX).encode(), "flex"),
        (
            "responses",
            events(
                {"type": "response.created", "response": {"service_tier": "auto"}},
                {"type": "response.completed", "response": response("completed") | FLEX},
            ),
            "flex",
        ),
    ],
)
def test_an_answer_names_the_tier_that_is_billed(kind: Kind, body: bytes, tier: str | None) -> None:
    assert read(kind, body, largest=64).service_tier == tier


CHOICES = [{"choices": [{"index": index, "delta": {"content": "", "tool_calls": []}}]} for index in range(5000)]
CALLS = [piece(None, tool_calls=[{"index": index, "function": {"name": ""}}]) for index in range(5000)]
ITEMS: list[dict[str, Any]] = [{**ADDED, "output_index": index} for index in range(5000)]


@pytest.mark.parametrize(
    ("kind", "came", "letters"), [("chat", CHOICES, 3), ("chat", CALLS, 3), ("responses", ITEMS, 5000 * len("route"))]
)
def test_a_stream_of_many_parts_is_counted_and_not_kept(kind: Kind, came: list[dict[str, Any]], letters: int) -> None:
    end: list[dict[str, Any]] = [last("completed") | {"response": response("completed") | COUNTED}]
    ends = end if kind == "responses" else [piece("yes", "stop") | COUNTED]
    answer = read(kind, events(*came, *ends, "[DONE]"))
    assert (answer.choices, answer.is_whole, answer.finished, answer.letters) == ([], False, None, letters)
    assert answer.usage and answer.usage.answer_tokens == 1


def test_what_a_stream_keeps_is_bounded_also_where_it_says_nothing() -> None:
    reader = AnswerReader("chat", "text/event-stream", "", 1 << 16)
    reader.feed(events(*[piece("")] * 5000, piece("yes", "x" * 100_000)))
    (parts,) = reader._body._choices.values()
    assert parts.texts == ["yes"]
    assert parts.finish_reason == "x" * 100
