"""The gateway's own captures as a log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.traffic.test_grouping import chat
from tests.traffic.test_jobs import Traffic
from tunewright.data.readers import Fault, read
from tunewright.data.readers.calls import read_calls
from tunewright.gateway.answers import AnswerChoice
from tunewright.logs import LoggedCall, TokenCounts
from tunewright.logs.gateway import exchange_calls, is_exchange
from tunewright.tasks import Example


def test_captures_are_training_data(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path / "captures")
    body = chat(("system", "Which team?"), ("user", "My invoice is wrong"))
    traffic.add(lambda *_: body, 2, AnswerChoice("billing"), usd=0.002)
    traffic.close()
    examples = [each for each in read(tmp_path / "captures") if isinstance(each, Example)]
    assert [(each.request, each.answer) for each in examples] == [("My invoice is wrong", "billing")] * 2
    assert [message.role for message in examples[0].messages] == ["system", "user", "assistant"]
    assert examples[0].meta.extra["call"]["usd"] == 0.002


def test_what_an_own_model_answered_is_no_label(tmp_path: Path) -> None:
    traffic = Traffic(tmp_path / "captures")
    body = chat(("user", "My invoice is wrong"))
    traffic.add(lambda *_: body, 1, AnswerChoice("billing"), answered_by="own")
    traffic.add(lambda *_: body, 1, AnswerChoice("billing"), status=500)
    traffic.close()
    codes = [each.code for each in read(tmp_path / "captures") if isinstance(each, Fault)]
    assert codes == ["call-own-answer", "call-failed"]
    assert all(isinstance(each, LoggedCall) for each in read_calls(tmp_path / "captures"))


@pytest.mark.parametrize("status", ["incomplete", "failed", "cancelled"])
def test_a_response_that_was_not_completed_is_no_label(status: str, tmp_path: Path) -> None:
    traffic = Traffic(tmp_path / "captures")
    cut, whole = (AnswerChoice("Dear Ms Berg, your", finish_reason=reason) for reason in (status, "completed"))
    for answer in (cut, whole):
        traffic.add(lambda *_: {"input": "My invoice is wrong"}, 1, answer, kind="responses")
    traffic.close()
    refused, example = read(tmp_path / "captures")
    assert isinstance(refused, Fault)
    assert refused.code == "call-cut-answer"
    assert isinstance(example, Example)


EXCHANGE = {
    "upstream": "openai",
    "kind": "chat",
    "request_bytes": 9,
    "status": 200,
    "request": {"messages": [{"role": "user", "content": "Where is A-1?"}]},
}


def exchange(usage: Any = None, *calls: Any) -> LoggedCall:
    row = {**EXCHANGE, "usage": usage, "choices": [{"text": "", "tool_calls": list(calls)}]}
    assert is_exchange(row)
    (call,) = exchange_calls(row)
    return call


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 3, "answer_tokens": 2, "audio_tokens": 1}, TokenCounts(3, 2)),
        ({"prompt_tokens": "3", "answer_tokens": None, "cached_tokens": [1]}, TokenCounts(3)),
        ({"audio_tokens": 1}, None),
        ([3], None),
    ],
)
def test_only_known_counts_are_read(usage: Any, counts: TokenCounts | None) -> None:
    assert exchange(usage).usage == counts


@pytest.mark.parametrize("is_estimated", [True, "True", False, None])
def test_counts_that_the_gateway_estimated_are_not_called_the_apis(is_estimated: Any) -> None:
    counts = {"prompt_tokens": 3, "answer_tokens": 2}
    (call,) = exchange_calls({**EXCHANGE, "usage": counts, "choices": [], "usage_is_estimated": is_estimated})
    assert call.usage == TokenCounts(3, 2), "a bill counts them all the same"
    assert call.meta.get("usage") == (None if is_estimated else counts)


def test_only_calls_of_a_named_tool_are_read() -> None:
    track = {"id": "t1", "name": "track", "arguments": '{"id": "A-1"}'}
    call = exchange(
        None, {**track, "type": "function"}, {"arguments": "{}"}, {"name": ["x"]}, {"name": "stop"}, {**track, "id": 3}
    )
    assert call.answer
    assert call.answer.tool_calls == [
        track,
        {"id": "", "name": "stop", "arguments": "{}"},
        {"id": "", "name": "track", "arguments": '{"id": "A-1"}'},
    ]
    assert call.answer_message
    assert len(call.answer_message["tool_calls"]) == 3
