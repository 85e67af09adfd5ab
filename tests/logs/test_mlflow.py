"""MLflow's traces in all the ways in which they leave MLflow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.logs.reading import CLAUDE_ASKED, CLAUDE_CALLS, check_claude, claude_said, read_sample, rows_in
from tunewright.data.readers import Fault, read
from tunewright.data.readers.forms import form_of
from tunewright.logs import LoggedCall, TokenCounts
from tunewright.logs.mlflow import trace_calls
from tunewright.tasks import Example

ALL = sorted(each.name for each in (Path(__file__).parent / "samples").glob("mlflow_*"))


@pytest.mark.parametrize("name", ALL)
def test_every_export_gives_its_calls(name: str) -> None:
    found = read_sample(name)
    first = found[0]
    assert [message["role"] for message in first.messages] == ["system", "user"]
    assert first.messages[1]["content"] == "The box came open and one pedal is bent."
    assert first.answer and first.answer.text == "damage"
    assert first.usage and (first.usage.prompt_tokens, first.usage.answer_tokens) == (58, 10)
    assert (first.model, first.answered_model) == ("gpt-5-mini", "gpt-5-mini-2025-08-07")
    assert first.time and first.time.year == 2026


def by(found: list[LoggedCall], finish: str) -> list[LoggedCall]:
    return [call for call in found if call.answer and call.answer.finish_reason == finish]


def test_a_whole_trace_tells_time_price_and_tools() -> None:
    found = read_sample("mlflow_trace_v3.jsonl")
    assert found[0].usd == pytest.approx(3.45e-05)
    assert found[0].seconds == pytest.approx(0.9, abs=1e-3)
    called = by(found, "tool_calls")[0]
    assert called.answer
    (call,) = called.answer.tool_calls
    assert call["name"] == "find_parcel"
    assert json.loads(call["arguments"])
    assert called.request["tools"]
    assert [call.fault[0] for call in found if call.fault] == ["failed"]
    assert by(found, "length")[0].answer
    assert any(call.kind == "responses" for call in found)


def test_an_agents_trace_has_the_calls_in_it_and_not_itself() -> None:
    turns = [call for call in read_sample("mlflow_trace_v3.jsonl") if len(call.messages) == 4]
    (last,) = turns
    assert [message["role"] for message in last.messages] == ["system", "user", "assistant", "tool"]
    assert last.answer and last.answer.text.startswith("Your parcel is on its way")


def test_tool_calls_of_a_stream_are_put_together_from_its_pieces() -> None:
    """MLflow itself keeps only the texts of a stream."""
    (streamed,) = (call for call in read_sample("mlflow_trace_v3.jsonl") if call.is_streamed)
    assert streamed.answer
    assert [call["name"] for call in streamed.answer.tool_calls] == ["find_parcel"]
    assert json.loads(streamed.answer.tool_calls[0]["arguments"])


def test_they_are_training_data(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    rows = rows_in("mlflow_trace_v3.jsonl")
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    assert {form_of(row) for row in rows} == {"mlflow"}
    read_items = list(read(file))
    examples = [each for each in read_items if isinstance(each, Example)]
    assert examples[0].answer == "damage"
    call = examples[0].meta.extra["call"]
    assert call["usage"] == {"prompt_tokens": 58, "answer_tokens": 10}
    assert call["model"] == "gpt-5-mini"
    assert {each.code for each in read_items if isinstance(each, Fault)} == {"call-failed", "call-cut-answer"}
    ids = [example.meta.id for example in examples]
    assert len(set(ids)) == len(ids)


def traced(asked: Any, answered: Any, **others: Any) -> LoggedCall:
    attributes = {"mlflow.spanType": "CHAT_MODEL", "mlflow.spanInputs": asked, "mlflow.spanOutputs": answered, **others}
    span = {"span_id": "s", "attributes": {name: json.dumps(value) for name, value in attributes.items()}}
    (call,) = trace_calls({"info": {}, "data": {"spans": [span]}})
    return call


def test_an_answer_that_is_a_record_as_text_stays_as_it_is() -> None:
    answer = traced({"messages": [{"role": "user", "content": "Read this."}]}, '{"total": 5}').answer
    assert answer and answer.text == '{"total": 5}'


@pytest.mark.parametrize("record", [{"total": 5}, {"vendor": "Acme", "content": "Boxes", "weight": 3}])
def test_an_answer_that_is_a_record_is_its_json(record: dict[str, Any]) -> None:
    """As clients give it that parse an answer by a schema."""
    call = traced({"messages": [{"role": "user", "content": "Read this."}]}, record)
    assert call.fault is None
    assert call.answer and call.answer.text == json.dumps(record)


def test_anthropics_bodies() -> None:
    check_claude(lambda response: traced(CLAUDE_ASKED, response))
    assert traced(CLAUDE_ASKED, claude_said("Cologne.")).usage == TokenCounts(60, 7, 50)


@pytest.mark.parametrize("read", [10, 60])
def test_input_tokens_without_those_of_the_cache(read: int) -> None:
    """MLflow's older traces of Claude Code have Anthropic's counts, newer ones those of the whole prompt."""
    usage = {"input_tokens": read, "output_tokens": 7, "cache_read_input_tokens": 30, "cache_creation_input_tokens": 20}
    said = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "Cologne."}]}
    call = traced(CLAUDE_ASKED, said, **{"mlflow.chat.tokenUsage": usage})
    assert call.usage == TokenCounts(60, 7, 30, 20)


def test_langchains_answers_say_how_they_ended_and_what_they_call() -> None:
    def told(message: dict[str, Any], **beside: Any) -> LoggedCall:
        generation = {"text": "", "message": {"type": "ai", **message}, **beside}
        return traced({"messages": [[{"type": "human", "content": "Where is A-1?"}]]}, {"generations": [[generation]]})

    half = "The first half of"
    for cut in (
        told({"content": half, "response_metadata": {"finish_reason": "length"}}),
        told({"content": half}, generation_info={"finish_reason": "length"}),
        told({"content": [{"type": "text", "text": half}], "response_metadata": {"stop_reason": "max_tokens"}}),
    ):
        assert cut.answer and cut.answer.text == half
        assert cut.answer.fault and cut.answer.fault[0] == "cut-answer"
    call = {"name": "track", "args": {"id": "A-1"}, "id": "t1", "type": "tool_call"}
    for content in ("", [{"type": "text", "text": ""}], [CLAUDE_CALLS]):
        called = told({"content": content, "tool_calls": [call]})
        assert called.answer and called.answer.fault is None
        assert called.answer.tool_calls == [{"id": "t1", "name": "track", "arguments": '{"id": "A-1"}'}]
