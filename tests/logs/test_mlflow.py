"""MLflow's traces in all the ways in which they leave MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.logs.reading import read_sample, rows_in
from tunewright.data.readers import Fault, read
from tunewright.data.readers.forms import form_of
from tunewright.logs import LoggedCall
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
