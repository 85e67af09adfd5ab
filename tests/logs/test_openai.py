"""Logs of OpenAI's and Azure's own: responses, batches, stored completions; and requests beside their answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.logs.reading import SAMPLES, read_sample, rows_in
from tunewright.data.readers import Fault, Note, read
from tunewright.data.readers.calls import read_calls
from tunewright.data.readers.forms import form_of
from tunewright.logs import LoggedCall, TokenCounts
from tunewright.tasks import Example


def calls(*names: str, folder: Path) -> list[LoggedCall]:
    """The calls of samples that lie together in a folder."""
    for name in names:
        shutil.copy(SAMPLES / name, folder / name)
    return [each for each in read_calls(folder) if isinstance(each, LoggedCall)]


def test_a_batch_is_read_with_its_requests(tmp_path: Path) -> None:
    found = calls("openai_batch_input_chat.jsonl", "openai_batch_output_chat.jsonl", folder=tmp_path)
    taught = [call for call in found if call.fault is None]
    assert taught
    for call in taught:
        assert call.messages[-1]["role"] in ("user", "tool")
        assert call.answer
        assert call.usage and call.usage.prompt_tokens > 0
        assert call.time
    examples = [each for each in read(tmp_path) if isinstance(each, Example)]
    assert len(examples) == sum(call.answer is not None and call.answer.fault is None for call in taught)
    notes = [each.reason for each in read(tmp_path) if isinstance(each, Note)]
    assert "These are requests alone; they are read with their answers in a file beside." in notes
    assert any(each.answer and each.answer.tool_calls for each in taught)


@pytest.mark.parametrize("name", ["openai_batch_output_chat.jsonl", "azure_batch_output.jsonl"])
def test_an_answer_without_its_request_is_a_finding(name: str, tmp_path: Path) -> None:
    found = calls(name, folder=tmp_path)
    assert {call.fault[0] for call in found if call.fault} <= {"no-request", "failed"}
    assert all(call.fault for call in found)
    faults = [each for each in read(tmp_path) if isinstance(each, Fault)]
    assert any("put the batch's input file beside its output" in each.reason for each in faults)


def test_requests_alone_are_findings(tmp_path: Path) -> None:
    found = calls("openai_batch_input_responses.jsonl", folder=tmp_path)
    assert {call.fault and call.fault[0] for call in found} == {"no-answer"}
    assert all(call.messages for call in found)


def test_azures_lines_and_errors_are_a_batchs_too(tmp_path: Path) -> None:
    names = ("azure_batch_input.jsonl", "azure_batch_output.jsonl", "azure_batch_errors.jsonl")
    found = calls(*names, folder=tmp_path)
    assert any(call.fault is None for call in found)
    failed = [call.fault[1] for call in found if call.fault and call.fault[0] == "failed"]
    assert failed
    assert all(reason.startswith("The call failed") for reason in failed)


def test_failed_lines_of_a_batch_say_why(tmp_path: Path) -> None:
    names = ("openai_batch_input_chat.jsonl", "openai_batch_errors.jsonl")
    reasons = [call.fault[1] for call in calls(*names, folder=tmp_path) if call.fault]
    assert any("batch_expired" in reason for reason in reasons)


def test_stored_completions_find_their_messages(tmp_path: Path) -> None:
    found = calls("openai_stored_completions.jsonl", "openai_stored_messages.jsonl", folder=tmp_path)
    joined = [call for call in found if call.fault is None]
    assert joined
    assert all(call.messages and call.answer for call in joined)
    lone = calls("azure_stored_completions.jsonl", folder=tmp_path)
    reasons = [call.fault[1] for call in lone if call.fault and call.fault[0] == "no-request"]
    assert all("/messages beside it" in reason for reason in reasons)
    assert reasons


def test_a_response_without_its_input_teaches_nothing() -> None:
    for call in read_sample("openai_responses.jsonl"):
        assert call.fault


def test_requests_with_their_responses() -> None:
    found = read_sample("openai_responses_pairs.jsonl")
    good = [call for call in found if call.fault is None]
    assert good
    assert all(call.messages for call in good)
    assert any(call.messages[0]["role"] == "system" for call in good)
    assert any(call.usage and call.usage.reasoning_tokens is not None for call in good)


ANSWER = {"choices": [{"message": {"role": "assistant", "content": "refund"}, "finish_reason": "stop"}]}
USAGE = {"prompt_tokens": 9, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 4}}
ASKED = [{"role": "user", "content": "Money back!"}]


@pytest.mark.parametrize(
    "row",
    [
        {"request": {"model": "gpt-4o", "messages": ASKED}, "response": {**ANSWER, "usage": USAGE}},
        {
            "request": json.dumps({"model": "gpt-4o", "messages": ASKED}),
            "response": json.dumps(ANSWER | {"usage": USAGE}),
        },
        {"request_body": {"model": "gpt-4o", "messages": ASKED}, "response_body": {**ANSWER, "usage": USAGE}},
        {"messages": ASKED, "model": "gpt-4o", "response": "refund", "usage": USAGE},
        {"input": ASKED, "output": {"role": "assistant", "content": "refund"}, "model": "gpt-4o", "usage": USAGE},
        {"input": "Money back!", "output": "refund", "model": "gpt-4o", "usage": USAGE},
        {"prompt": "Money back!", "response": "refund", "model": "gpt-4o", "usage": USAGE},
    ],
)
def test_what_people_write_themselves(row: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(json.dumps(row | {"timestamp": "2026-11-30T08:00:00Z", "id": "r1"}) + "\n", "utf-8")
    assert form_of(row) in ("pairs", "stored")
    (example,) = (each for each in read(file) if isinstance(each, Example))
    assert (example.request, example.answer) == ("Money back!", "refund")
    if form_of(row) == "pairs":
        (call,) = read_calls(file)
        assert isinstance(call, LoggedCall)
        assert call.usage == TokenCounts(9, 1, 4)
        assert call.model == "gpt-4o"
        assert call.time and call.time.hour == 8


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"messages": [*ASKED, {"role": "assistant", "content": "refund"}], "response": "x"}, "chat"),
        ({"instruction": "Sort.", "input": "Money back!", "output": "refund"}, "alpaca"),
        ({"text": "Money back!", "label": "refund"}, "labelled"),
        ({"prompt": "Money back!", "completion": "refund"}, "prompt"),
        ({"messages": ASKED, **ANSWER}, "stored"),
    ],
)
def test_training_data_stays_training_data(row: dict[str, Any], form: str) -> None:
    assert form_of(row) == form


def test_an_answer_that_was_cut_or_refused_is_no_label(tmp_path: Path) -> None:
    def row(finish: str, **message: Any) -> dict[str, Any]:
        choice = {"message": {"role": "assistant", "content": "ref", **message}, "finish_reason": finish}
        return {"custom_id": "1", "error": None, "response": {"status_code": 200, "body": {"choices": [choice]}}}

    request = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": ASKED}}
    (tmp_path / "in.jsonl").write_text(json.dumps(request) + "\n", "utf-8")
    rows = [row("length"), row("stop", content=None, refusal="I can't."), row("stop", content=" ")]
    (tmp_path / "out.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
    codes = [each.code for each in read(tmp_path) if isinstance(each, Fault)]
    assert codes == ["call-cut-answer", "call-refusal", "call-empty-answer"]


def test_a_page_of_an_api_is_its_rows(tmp_path: Path) -> None:
    shutil.copy(SAMPLES / "openai_stored_completions.json", tmp_path)
    shutil.copy(SAMPLES / "openai_stored_messages.jsonl", tmp_path)
    found = list(read_calls(tmp_path / "openai_stored_completions.json"))
    assert len(found) == len(rows_in("openai_stored_completions.jsonl"))
