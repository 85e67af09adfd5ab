"""Logs of OpenAI's and Azure's own: responses, batches, stored completions; and requests beside their answers."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.logs.reading import (
    CLAUDE_ASKED,
    CLAUDE_USAGE,
    SAMPLES,
    check_claude,
    claude_said,
    read_sample,
    rows_in,
)
from tunewright.data.readers import Fault, Note, read
from tunewright.data.readers.calls import read_calls
from tunewright.data.readers.forms import form_of
from tunewright.logs import LoggedAnswer, LoggedCall, TokenCounts, beside
from tunewright.logs.beside import RequestsBeside, rows_of
from tunewright.logs.gateway import exchange_calls
from tunewright.logs.openai import batch_output_calls, call_of, pair_calls, response_calls
from tunewright.logs.otlp import phoenix_calls
from tunewright.logs.values import moment
from tunewright.logs.vendors import openai_response
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


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled", "failed", "incomplete"])
def test_a_response_that_is_not_completed_is_no_answer(status: str) -> None:
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "The first half of"}]}
    response = {"object": "response", "status": status, "output": [item]}
    call = pair({"input": "Where is A-1?"}, response)
    fault = call.fault or (call.answer and call.answer.fault)
    assert fault and status in fault[1]
    items = pair({"input": "Where is A-1?"}, [{**item, "status": "in_progress"}])
    assert items.answer and items.answer.fault and items.answer.fault[0] == "cut-answer"


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


# What stands beside a request and its response


FAILED: list[dict[str, Any]] = [
    {"status_code": "500"},
    {"status_code": 500.0},
    {"status_code": "500.0"},
    {"statusCode": 429},
    {"status": "503 Service Unavailable"},
    {"status_code": None, "status": "Failed"},
    {"status": "timed out"},
    {"error": "Rate limit exceeded"},
    {"error": {"code": "429"}, "success": False, "status": "error"},
    {"error": True},
    {"error_message": "overloaded"},
    {"error_code": 7.0},
    {"success": "False"},
    {"ok": 0},
    {"is_error": "true"},
]
WENT_WELL: list[dict[str, Any]] = [
    {"status_code": "200", "status": "ok", "success": "True", "error": "", "is_error": False},
    {"status_code": 200.0, "status": "completed", "success": 1, "error": None, "error_code": 0},
    {"status": "", "success": "", "error": "None", "error_message": "nan", "error_code": "0.0"},
    {"status": 3, "error": {}, "success": None, "is_error": ""},
]


@pytest.mark.parametrize("beside", FAILED)
def test_a_call_that_failed_is_no_example(beside: dict[str, Any], tmp_path: Path) -> None:
    row = {"request": {"messages": ASKED}, "response": "Internal server error, please retry", **beside}
    (call,) = pair_calls(row)
    assert call.fault and call.fault[0] == "failed"
    file = tmp_path / "log.jsonl"
    file.write_text(json.dumps(row) + "\n", "utf-8")
    (fault,) = (each for each in read(file) if not isinstance(each, Note))
    assert isinstance(fault, Fault) and fault.code == "call-failed"


@pytest.mark.parametrize("beside", WENT_WELL)
def test_a_call_that_went_well_is_one(beside: dict[str, Any]) -> None:
    (call,) = pair_calls({"prompt": "Money back!", "response": "refund", **beside})
    assert (call.fault, call.answer) == (None, LoggedAnswer("refund"))


def test_a_failed_call_says_why() -> None:
    (call,) = pair_calls({"prompt": "Hi", "response": "x", "error": {"code": "429"}, "status": 429})
    assert call.fault == ("failed", "The call failed: 429.")
    (call,) = pair_calls({"prompt": "Hi", "response": "x", "status": "500"})
    assert call.fault == ("failed", "The call failed with status 500.")


def test_a_table_of_calls_has_their_tokens_and_times(tmp_path: Path) -> None:
    file = tmp_path / "log.csv"
    head = "prompt,response,model,prompt_tokens,completion_tokens,latency_ms,ttft_ms,cost,cost_usd,status_code"
    file.write_text(f"{head}\nHi,Hello,gpt-4o,90,7,820,,3,,200\nHo,Hey,gpt-4o,,,,,,0.002,200\nHa,no,gpt-4o,,,,,,,500\n")
    known, unknown, failed = (each for each in read_calls(file) if isinstance(each, LoggedCall))
    assert (known.usage, known.seconds, known.first_seconds, known.usd) == (TokenCounts(90, 7), 0.82, None, None)
    assert (unknown.usage, unknown.seconds, unknown.usd) == (None, None, 0.002)
    assert failed.fault == ("failed", "The call failed with status 500.")


@pytest.mark.parametrize(
    ("beside", "usage", "seconds"),
    [
        ({"input_tokens": 9, "output_tokens": 2.0, "duration_s": "1.5"}, TokenCounts(9, 2), 1.5),
        ({"promptTokens": 9, "completionTokens": 2, "latencyMs": 30}, TokenCounts(9, 2), 0.03),
        (
            {"input_tokens": 9, "output_tokens": 2, "cache_read_input_tokens": 50, "latency": 3},
            TokenCounts(59, 2, 50),
            None,
        ),
        ({"prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 5}, TokenCounts(9, 2, 5), None),
        ({"prompt_tokens": 9, "total_tokens": 11}, None, None),
        ({"prompt_tokens": 0, "completion_tokens": 0, "duration": 4}, None, None),
        ({"usage": USAGE, "prompt_tokens": 1, "completion_tokens": 1}, TokenCounts(9, 1, 4), None),
    ],
)
def test_columns_are_read_whose_names_say_what_they_count(
    beside: dict[str, Any], usage: TokenCounts | None, seconds: float | None
) -> None:
    (call,) = pair_calls({"prompt": "Money back!", "response": "refund", **beside})
    assert (call.usage, call.seconds) == (usage, seconds)


def test_the_column_of_an_answers_end_says_that_it_was_cut() -> None:
    (call,) = pair_calls({"prompt": "Tell me.", "response": "The first half of", "finish_reason": "length"})
    assert call.answer and call.answer.fault and call.answer.fault[0] == "cut-answer"


def test_a_time_that_is_none_gives_way_to_one_that_is() -> None:
    (call,) = pair_calls({"prompt": "Hi", "response": {**ANSWER, "created": 0}, "time": 0.82})
    assert call.time is None
    (call,) = pair_calls({"prompt": "Hi", "response": "Hello", "time": 0.82, "timestamp": "2026-11-30T08:00:00Z"})
    assert call.time and call.time.hour == 8


@pytest.mark.parametrize("value", [0, 1, "0", "0001-01-01T00:00:00Z", "1970-01-01", 1e9, -5, "2014-12-31T23:59:59Z"])
def test_a_time_before_there_were_such_calls_is_none(value: Any) -> None:
    assert moment(value) is None


@pytest.mark.parametrize("status", ["500", 500.0])
def test_the_status_of_a_batchs_answer_may_be_a_decimal(status: Any, tmp_path: Path) -> None:
    body = {"choices": [{"message": {"role": "assistant", "content": "Internal server error"}}]}
    row = {"custom_id": "1", "error": None, "response": {"status_code": status, "body": body}}
    (call,) = batch_output_calls(row, RequestsBeside(tmp_path))
    assert call.fault == ("failed", "The call failed with status 500.")


# Bodies of Anthropic's API


def pair(request: Any, response: Any, **beside: Any) -> LoggedCall:
    (call,) = pair_calls({"request": request, "response": response, **beside})
    return call


def test_pairs_with_anthropics_bodies() -> None:
    check_claude(lambda response: pair(CLAUDE_ASKED, response))
    check_claude(lambda response: pair(json.dumps(CLAUDE_ASKED), json.dumps(response)))
    assert pair(CLAUDE_ASKED, claude_said("Cologne.")).usage == TokenCounts(60, 7, 50)
    assert pair(CLAUDE_ASKED, "Cologne.", usage=CLAUDE_USAGE).usage == TokenCounts(60, 7, 50)


def test_a_system_prompt_beside_the_messages_belongs_to_the_request() -> None:
    beside = {"system": "Answer in one sentence.", "tools": CLAUDE_ASKED["tools"]}

    def read(response: dict[str, Any]) -> LoggedCall:
        (call,) = pair_calls({"messages": CLAUDE_ASKED["messages"], "response": response, **beside})
        return call

    check_claude(read)
    system = {"role": "system", "content": "Sort."}
    (call,) = pair_calls({"messages": [system, *ASKED], "system": "Sort.", "response": "refund"})
    assert call.messages == [system, *ASKED]


def test_an_answer_that_is_a_text_stays_as_it_is() -> None:
    request = {"messages": ASKED}
    assert call_of(request, '["late", "lost"]').answer == LoggedAnswer('["late", "lost"]')
    half = {"role": "assistant", "content": "The first half of", "stop_reason": "max_tokens"}
    cut = call_of(request, half).answer
    assert cut and cut.fault and cut.fault[0] == "cut-answer"


RECORDS = [
    {"vendor": "Acme", "total": 5},
    {"error": "E42", "severity": "high"},
    {"content": "Boxes", "weight": 3},
    {"choices": ["red", "blue"], "output": [{"watts": 40}]},
    {"id": 7, "question": "Which colour?", "choices": [{"text": "red"}, {"text": "blue"}]},
    {"choices": []},
    {"candidates": []},
    {"candidates": [{"name": "Ada"}], "place": "London"},
    {"statusCode": 500, "message": "Timeout", "service": "billing"},
    {"message": "Boxes", "weight": 3},
]


@pytest.mark.parametrize("record", RECORDS)
def test_a_text_that_is_a_record_is_the_answer(record: dict[str, Any], tmp_path: Path) -> None:
    written = json.dumps(record)
    pairs = [("prompt", "response"), ("input", "output"), ("prompt", "completion")]
    rows = [{asked: "Read this.", answered: written} for asked, answered in pairs]
    for number, row in enumerate([*rows, {"messages": ASKED, "response": written}]):
        file = tmp_path / f"{number}.jsonl"
        file.write_text(json.dumps(row) + "\n", "utf-8")
        (example,) = (each for each in read(file) if isinstance(each, Example))
        assert example.answer == written


@pytest.mark.parametrize(
    "record", [*RECORDS, {"title": "x y", "content": "order screen"}, [RECORDS[0]], ["late"], [], 3]
)
def test_a_record_or_a_list_is_the_answer_too(record: Any, tmp_path: Path) -> None:
    file = tmp_path / "log.jsonl"
    file.write_text(json.dumps({"input": "Invoice of ACME total 3", "output": record}) + "\n", "utf-8")
    (example,) = (each for each in read(file) if isinstance(each, Example))
    assert example.answer == json.dumps(record)


@pytest.mark.parametrize(
    "response",
    [
        {"content": "refund", "additional_kwargs": {}, "type": "ai", "response_metadata": {}},
        [{"role": "assistant", "content": "refund"}],
        [{"type": "text", "text": "refund"}],
        [{"type": "reasoning", "id": "r"}, {"type": "message", "content": [{"type": "output_text", "text": "refund"}]}],
    ],
)
def test_an_answer_in_a_form_of_its_own_is_taken_out_of_it(response: Any) -> None:
    for each in (response, json.dumps(response)):
        answer = pair({"messages": ASKED}, each).answer
        assert answer and answer.text == "refund"


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ({"error": "overloaded", "status": 503}, "failed"),
        ({"status": 503, "message": "Service Unavailable"}, "no-answer"),
        ({"detail": "Not Found"}, "no-answer"),
        ({"model": "llama", "message": {"role": "assistant", "content": "x"}, "done": True}, "no-answer"),
        ({"output": {"message": {"role": "assistant"}}, "usage": {"inputTokens": 3}}, "no-answer"),
        ([{"role": "assistant", "content": "a"}, {"role": "user", "content": "b"}], "no-answer"),
    ],
)
def test_a_response_of_another_form_is_no_record(response: Any, code: str) -> None:
    for each in (response, json.dumps(response)):
        call = pair({"messages": ASKED}, each)
        assert (call.answer, call.fault and call.fault[0]) == (None, code)


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ({"error": {"code": "rate_limit"}}, "failed"),
        ({"error": "overloaded"}, "failed"),
        ({}, "no-answer"),
        ({"object": "chat.completion", "choices": []}, "no-answer"),
    ],
)
def test_a_response_without_an_answer_is_none_also_as_text(response: dict[str, Any], code: str) -> None:
    for each in (response, json.dumps(response)):
        call = pair({"messages": ASKED}, each)
        assert (call.answer, call.fault and call.fault[0]) == (None, code)


COUNTED = {"promptTokenCount": 8, "totalTokenCount": 8}


@pytest.mark.parametrize(
    "response",
    [
        {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": COUNTED},
        [{"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": COUNTED}],
        {"prompt_feedback": {"block_reason": "SAFETY"}, "candidates": None},
        {"candidates": [], "usageMetadata": COUNTED, "modelVersion": "gemini-2.5-flash"},
        {"id": "a", "choices": [], "model": "m", "usage": {"prompt_tokens": 8, "completion_tokens": 0}},
        {"choices": [], "usage": {"prompt_tokens": 8, "completion_tokens": 0}},
        {"choices": [{"delta": {"content": "y"}, "index": 0}], "model": "m"},
        {"statusCode": 429, "message": "Rate limit is exceeded."},
        {"detail": "Not authorized.", "message": "Log in."},
        {"object": "error", "message": "Too long.", "type": "BadRequestError", "param": None, "code": 400},
    ],
)
def test_a_response_in_which_nothing_is_said_is_no_answer_also_as_text(response: Any) -> None:
    calls = [pair({"messages": ASKED}, each) for each in (response, json.dumps(response))]
    assert calls[0] == calls[1]
    assert calls[1].answer is None
    assert calls[1].fault and calls[1].fault[0] == "no-answer"


@pytest.mark.parametrize(
    "response",
    [
        {"choices": [{"text": " yes", "index": 0, "logprobs": None}], "model": "x"},
        {"id": "cmpl-1", "created": 1764500000, "choices": [{"text": " yes"}]},
        {"choices": [{"text": " yes", "index": 0}], "model": "x", "prompt_filter_results": []},
    ],
)
def test_a_completion_says_the_same_as_text(response: Any) -> None:
    calls = [pair({"prompt": "Is it late?"}, each) for each in (response, json.dumps(response))]
    assert calls[0] == calls[1]
    assert calls[1].answer and calls[1].answer.text == " yes"


def test_pairs_with_geminis_bodies() -> None:
    asked = {"contents": [{"role": "user", "parts": [{"text": "Money back!"}]}]}
    said = {"candidates": [{"content": {"parts": [{"text": "The first half of"}]}, "finishReason": "MAX_TOKENS"}]}
    cut = pair(asked, said)
    assert cut.messages == ASKED
    assert cut.answer and cut.answer.fault and cut.answer.fault[0] == "cut-answer"
    people = {"candidates": [{"name": "Ada"}]}
    assert openai_response(people) == people


def test_pairs_with_what_geminis_client_for_python_writes() -> None:
    """`model_dump_json` of google-genai spells all keys with underscores."""
    asked = {"model": "gemini-2.5-flash", "contents": [{"role": "user", "parts": [{"text": "Money back!"}]}]}
    said = {
        "candidates": [{"content": {"parts": [{"text": "The first half of"}]}, "finish_reason": "MAX_TOKENS"}],
        "usage_metadata": {
            "prompt_token_count": 100,
            "candidates_token_count": 20,
            "thoughts_token_count": 30,
            "cached_content_token_count": 60,
        },
        "model_version": "gemini-2.5-flash-001",
        "response_id": "r1",
    }
    for response in (said, [said]):
        cut = pair(asked, response) if isinstance(response, dict) else call_of(asked, response)
        assert cut.answer and cut.answer.fault and cut.answer.fault[0] == "cut-answer"
        assert cut.usage == TokenCounts(100, 50, 60, 0, 30)
        assert (cut.answered_model, cut.id) == ("gemini-2.5-flash-001", "r1")
    blocked = pair(asked, {"candidates": [{"content": None, "finish_reason": "SAFETY"}]})
    assert blocked.answer and blocked.answer.fault and blocked.answer.fault[0] == "cut-answer"


# Batches in one folder


def write_batch(folder: Path, name: str, text: str, answer: str) -> None:
    """A batch of two requests, whose ids are those of every batch."""
    asked, answered = [], []
    for number in range(2):
        messages = [{"role": "user", "content": f"{text} {number}"}]
        identity = f"request-{number}"
        asked.append({"custom_id": identity, "method": "POST", "url": "/v1/chat", "body": {"messages": messages}})
        choice = {"message": {"role": "assistant", "content": f"{answer} {number}"}, "finish_reason": "stop"}
        body = {"choices": [choice]}
        answered.append({"custom_id": identity, "error": None, "response": {"status_code": 200, "body": body}})
    folder.mkdir(exist_ok=True)
    (folder / f"{name}_in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked), "utf-8")
    (folder / f"{name}_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answered), "utf-8")


def test_ids_that_several_batches_of_a_folder_use_name_no_request(tmp_path: Path) -> None:
    write_batch(tmp_path, "january", "Snow", "winter")
    write_batch(tmp_path, "june", "Sun", "summer")
    found = list(read(tmp_path))
    assert not [each for each in found if isinstance(each, Example)]
    faults = [each for each in found if isinstance(each, Fault)]
    assert [each.code for each in faults] == ["call-no-request"] * 4
    assert all("Several batches in this folder" in each.reason for each in faults)
    assert all("give each batch a folder" in each.reason for each in faults)


def test_batches_in_folders_of_their_own_may_use_the_same_ids(tmp_path: Path) -> None:
    write_batch(tmp_path / "january", "january", "Snow", "winter")
    write_batch(tmp_path / "june", "june", "Sun", "summer")
    shutil.copy(tmp_path / "june" / "june_in.jsonl", tmp_path / "june" / "again.jsonl")
    taught = [(each.request, each.answer) for each in read(tmp_path) if isinstance(each, Example)]
    assert taught == [("Snow 0", "winter 0"), ("Snow 1", "winter 1"), ("Sun 0", "summer 0"), ("Sun 1", "summer 1")]


def test_of_a_damaged_file_beside_a_log_what_stands_before_the_damage_is_read(tmp_path: Path) -> None:
    line = json.dumps({"custom_id": "1", "url": "/v1/responses", "body": {"input": "Hi"}}) + "\n"
    packed = gzip.compress(line.encode())
    (tmp_path / "damaged.jsonl.gz").write_bytes(packed + packed[:10] + b"\xff" * 100)
    assert RequestsBeside(tmp_path).of_batch("1") == [{"input": "Hi"}]


def test_lines_that_are_too_long_are_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "BATCH_LINE_BYTES", 100)
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"a": "x" * size}) + "\n" for size in (5, 250, 90, 91, 6)))
    assert [len(row["a"]) for row in rows_of(tmp_path / "in.jsonl")] == [5, 90, 6]
    (tmp_path / "end.jsonl").write_text('{"a": 1}\n' + "x" * 300)
    assert list(rows_of(tmp_path / "end.jsonl")) == [{"a": 1}]


def test_a_page_in_one_line_may_be_longer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beside, "BATCH_LINE_BYTES", 100)
    (tmp_path / "page.json").write_text(json.dumps({"object": "list", "data": [{"a": number} for number in range(50)]}))
    assert len(list(rows_of(tmp_path / "page.json"))) == 50


@pytest.mark.parametrize("number", ["\u00b2", "\u2460", "\u0967"])
def test_an_id_that_ends_in_another_digit_is_read(number: str, tmp_path: Path) -> None:
    row = {"id": f"chatcmpl-a-{number}", "role": "user", "content": "Hi"}
    (tmp_path / "asked.jsonl").write_text(json.dumps({**row, "id": "chatcmpl-a-0"}) + "\n" + json.dumps(row))
    assert len(RequestsBeside(tmp_path).messages_of("chatcmpl-a")) == (2 if number.isdecimal() else 1)


def test_an_id_that_is_half_a_character_is_found(tmp_path: Path) -> None:
    lone = "\ud83d"
    request = {"custom_id": lone, "url": "/v1/chat/completions", "body": {"messages": []}}
    message = {"id": f"{lone}-0", "role": "user", "content": "Hi"}
    (tmp_path / "in.jsonl").write_text(json.dumps(request))
    (tmp_path / "messages.jsonl").write_text(json.dumps(message))
    requests = RequestsBeside(tmp_path)
    assert requests.of_batch(lone) == [{"messages": []}]
    assert requests.messages_of(lone) == [{"role": "user", "content": "Hi"}]


def test_the_requests_of_a_folder_are_read_once_for_all_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_batch(tmp_path, "january", "Snow", "winter")
    for number in range(9):
        shutil.copy(tmp_path / "january_out.jsonl", tmp_path / f"out_{number}.jsonl")
    opened: list[str] = []

    def counted(file: Path) -> Iterator[dict[str, Any]]:
        opened.append(file.name)
        return rows_of(file)

    monkeypatch.setattr(beside, "rows_of", counted)
    assert len([each for each in read(tmp_path) if isinstance(each, Example)]) == 20
    assert max(map(opened.count, opened)) <= 3  # twice for the index, and once to look for answers


# Conversations that the API keeps


SAID = {"output": [{"type": "message", "content": [{"type": "output_text", "text": "On Friday."}]}]}


@pytest.mark.parametrize("name", ["previous_response_id", "conversation"])
@pytest.mark.parametrize("value", ["conv_1", {"id": "conv_1"}])
def test_a_conversation_that_the_api_keeps_teaches_nothing(name: str, value: Any) -> None:
    asked = {"model": "gpt-5-mini", "input": "And when?", name: value}
    calls = [pair(asked, SAID), pair({"input": "And when?"}, {**SAID, name: value})]
    calls += response_calls({"object": "response", "input": "And when?", **SAID, name: value})
    captured = {"kind": "responses", "request": asked, "choices": [{"text": "On Friday."}], "status": 200}
    calls += exchange_calls(captured)
    whole = {"input.value": json.dumps(asked), "output.value": json.dumps(SAID)}
    numbered = {
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "And when?",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "On Friday.",
        "llm.invocation_parameters": json.dumps({name: value}),
    }
    for attributes in (whole, numbered):
        calls += phoenix_calls({"span_kind": "LLM", "attributes": attributes, "context": {"span_id": "s"}})
    assert len(calls) == 6
    for call in calls:
        assert call.fault and call.fault[0] == "partial"
        assert "earlier turns" in call.fault[1]
    nothing = pair({"input": "When?", name: None}, {**SAID, name: None})
    assert nothing.fault is None
    assert nothing.answer and nothing.answer.text == "On Friday."


def test_an_input_that_names_what_the_api_keeps_teaches_nothing() -> None:
    said = {"role": "user", "content": "And when?"}
    call = pair({"input": [{"type": "item_reference", "id": "msg_1"}, said]}, SAID)
    assert call.fault and call.fault[0] == "partial"
    failed = pair({"input": "And when?", "conversation": "c"}, {"error": {"code": "server_error"}})
    assert failed.fault and failed.fault[0] == "failed"


@pytest.mark.parametrize(
    ("said", "tier"),
    [
        ({"choices": [], "service_tier": "flex"}, "flex"),
        ({"choices": [], "service_tier": None}, None),
        ({"object": "response", "output": [], "service_tier": "priority"}, "priority"),
        ({"content": [], "stop_reason": "end_turn", "usage": {"service_tier": "batch"}}, "batch"),
        ({"content": [], "stop_reason": "end_turn", "usage": {"service_tier": "priority"}}, None),
        ({"content": [], "stop_reason": "end_turn", "usage": {"service_tier": "standard", "speed": "fast"}}, "fast"),
    ],
)
def test_the_tier_that_an_answer_was_billed_at(said: dict[str, Any], tier: str | None) -> None:
    asked = {"messages": [{"role": "user", "content": "hi"}]}
    assert call_of(asked, said).service_tier == tier


def test_a_batchs_answers_are_billed_as_a_batchs(tmp_path: Path) -> None:
    found = calls("openai_batch_input_chat.jsonl", "openai_batch_output_chat.jsonl", folder=tmp_path)
    assert {call.service_tier for call in found if call.answer} == {"batch"}


def test_a_request_that_names_a_prompt_kept_by_the_api_is_one_of_the_responses_api() -> None:
    asked = {"model": "gpt-6-luna", "prompt": {"id": "pmpt_1"}, "input": "hi"}
    call = call_of(asked, {"object": "response", "output": []})
    assert (call.kind, call.fault) == ("responses", None)
    assert call.messages == [{"role": "user", "content": "hi"}]
    filled = asked | {"prompt": {"id": "pmpt_1", "variables": {"city": "Bonn"}}}
    fault = call_of(filled, {"object": "response", "output": []}).fault
    assert fault and fault[0] == "partial"
    assert "fills in a prompt that the API keeps" in fault[1]
