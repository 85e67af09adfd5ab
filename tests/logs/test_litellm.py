"""LiteLLM's spend logs and payloads in all the ways in which they leave LiteLLM."""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.logs.reading import SAMPLES, read_sample, rows_in
from tunewright.data.readers import Fault, read
from tunewright.data.readers.forms import form_of
from tunewright.logs import LOG_FORMS, LoggedCall
from tunewright.logs.litellm import is_litellm, litellm_calls
from tunewright.tasks import Example

SPEND, PAYLOAD = "litellm_spend_logs.jsonl", "litellm_standard_logging_payload.jsonl"
TEXTS = ["delivery", "", "refund", None, "cancel", '{"label":"refund","urgent":true}']
MARK = "... (litellm_truncated skipped 210 chars. Truncation is a DB storage safeguard.) ..."


def calls(row: dict[str, Any]) -> list[LoggedCall]:
    assert is_litellm(row)
    return list(litellm_calls(row))


def one(row: dict[str, Any]) -> LoggedCall:
    (call,) = calls(row)
    return call


def code(call: LoggedCall) -> str | None:
    return call.fault and call.fault[0]


@pytest.mark.parametrize("name", [SPEND, PAYLOAD])
def test_every_way_gives_its_calls(name: str) -> None:
    found = read_sample(name)
    assert [call.answer and call.answer.text for call in found[:6]] == TEXTS
    assert [len(call.messages) for call in found[:6]] == [2, 2, 4, 2, 2, 2]
    assert [call.usd for call in found[:6]] == [9.9e-06, 3.555e-05, 1.305e-05, None, 1.02e-05, 0.0001254]
    assert [code(call) for call in found] == [None, None, None, "failed", None, None, *_last(name)]
    plain, called, turns, failed, streamed, schema = found[:6]
    assert (plain.model, plain.answered_model) == ("support-fast", "gpt-4o-mini-2024-07-18")
    assert plain.time and plain.time.isoformat() == "2026-11-28T09:14:03.120000+00:00"
    assert plain.seconds == pytest.approx(0.741)
    assert plain.usage and (plain.usage.prompt_tokens, plain.usage.answer_tokens) == (58, 2)
    assert plain.id == "chatcmpl-195af6dd6e11e86fa747341023ad5"
    assert called.answer and called.answer.tool_calls[0]["name"] == "cancel_order"
    assert json.loads(called.answer.tool_calls[0]["arguments"]) == {"order_id": "A-10442", "reason": "mistake"}
    assert [tool["function"]["name"] for tool in called.request["tools"]] == ["cancel_order", "track_parcel"]
    assert [turn["role"] for turn in turns.messages] == ["system", "user", "assistant", "user"]
    assert failed.fault and "RateLimitError (429)" in failed.fault[1]
    assert failed.messages[1]["content"].startswith("I can't log in")
    assert (failed.usage, failed.answered_model) == (None, None)
    assert streamed.is_streamed
    assert streamed.first_seconds == pytest.approx(0.402, abs=1e-3)
    assert not plain.is_streamed
    assert plain.first_seconds is None
    assert schema.usage and schema.usage.cached_tokens == 1024
    assert schema.request["response_format"]["type"] == "json_schema"


def _last(name: str) -> list[str]:
    return ["cut-text", "redacted"] if name == SPEND else ["redacted", "cut-text"]


def test_texts_that_litellm_hid_are_not_in_the_call() -> None:
    for name in (SPEND, PAYLOAD):
        (hidden,) = (call for call in read_sample(name) if code(call) == "redacted")
        assert (hidden.messages, hidden.answer) == ([], None)
        assert hidden.usage and hidden.usage.prompt_tokens == 58


def test_columns_of_json_may_be_texts() -> None:
    first, second = (one(row) for row in rows_in("litellm_spend_logs_payload.jsonl"))
    assert first.answer and first.answer.text == "delivery"
    assert first.time and first.time.isoformat() == "2026-11-28T09:14:03.120000+00:00"
    assert second.answer and second.answer.tool_calls


def test_the_detail_of_a_row_has_no_price() -> None:
    found = read_sample("litellm_spend_logs_detail.jsonl")
    assert [call.answer and call.answer.text for call in found] == ["delivery", "", "refund", None]
    assert (found[0].usd, found[0].model, code(found[3])) == (None, "support-fast", "no-answer")


def test_a_log_without_texts_says_so() -> None:
    listed = json.loads((SAMPLES / "litellm_spend_logs_v2.json").read_text("utf-8"))["data"][0]
    unkept, kept = json.loads((SAMPLES / "litellm_spend_logs_api.json").read_text("utf-8"))
    for row, word in ((listed, "/spend/logs"), (unkept, "store_prompts_in_spend_logs")):
        call = one(row)
        assert call.fault and call.fault[0] == "not-kept"
        assert word in call.fault[1]
        assert call.usage and call.usage.prompt_tokens == 58
        assert (call.usd, call.answered_model) == (9.9e-06, "gpt-4o-mini")
    stored = {**unkept, "metadata": {"cold_storage_object_key": "logs/2026-11-28/time-09_chatcmpl-1.json"}}
    call = one(stored)
    assert call.fault and "logs/2026-11-28" in call.fault[1]
    assert code(one(kept)) is None
    prompts, failed = json.loads((SAMPLES / "litellm_standard_logging_payload.json").read_text("utf-8"))
    assert (code(one(prompts)), len(one(prompts).messages), code(one(failed))) == ("not-kept", 4, "failed")


def test_sums_and_encrypted_rows_say_what_to_do() -> None:
    assert code(one({"startTime": "2026-11-28", "spend": 0.4, "users": {}, "models": {}})) == "no-request"
    assert code(one({"__encrypted__": True, "payload": "gAAAA"})) == "not-kept"


def test_datadogs_wrap_is_opened() -> None:
    payload = rows_in(PAYLOAD)[0]
    wrap = {"ddsource": "litellm", "ddtags": "", "service": "x", "message": json.dumps(payload), "status": "info"}
    assert one(wrap) == one(payload)
    assert not is_litellm({**wrap, "message": "GET /health 200"})


def _put(row: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    row = copy.deepcopy(row)
    *path, last = place.split(".")
    inner: Any = row
    for key in path:
        inner = inner[int(key) if key.isdigit() else key]
    inner[int(last) if last.isdigit() else last] = value
    return row


@pytest.mark.parametrize(
    ("place", "value", "expected"),
    [
        ("proxy_server_request.messages.1.content", f"My parcel{MARK}has come.", "cut-text"),
        ("response.choices.0.message.content", f"deli{MARK}very", "cut-text"),
        ("proxy_server_request.messages.1.content", [{"type": "text", "text": f"a{MARK}b"}], "cut-text"),
        ("proxy_server_request.tools", [{"type": "function", "function": {"description": f"a{MARK}b"}}], "cut-text"),
        ("proxy_server_request.messages.0.content", "You sort m... (truncated 1200 chars)", "cut-text"),
        ("response.choices.0.message.content", "redacted-by-litellm", "redacted"),
        ("proxy_server_request.messages.1.content", "MaxDepthExceeded", "partial"),
        ("response.choices.0.message.reasoning_content", f"Hm{MARK}so", None),
        ("proxy_server_request.messages.1.content", "Why was it (truncated 3 chars)?", None),
        ("response.choices.0.message", None, "no-answer"),
        ("proxy_server_request", {}, "no-request"),
        ("response.error", {"message": "overloaded", "code": 529}, "failed"),
    ],
)
def test_what_litellm_cut_hid_or_lost_is_not_taught(place: str, value: Any, expected: str | None) -> None:
    assert code(one(_put(rows_in(SPEND)[0], place, value))) == expected


def test_rows_that_are_no_calls_give_nothing() -> None:
    row = rows_in(SPEND)[0]
    for name, value in (
        ("request_id", "batch_1_batch_cost"),
        ("request_id", "resp_1_background_cost"),
        ("request_id", "chatcmpl-1-attempt-2"),
        ("team_id", "litellm-internal-health-check"),
        ("request_tags", ["litellm-internal-health-check"]),
    ):
        assert calls({**row, name: value}) == []
    vectors = {"model": "text-embedding-3-small", "data": [{"embedding": [0.1]}], "object": "list"}
    asked = {"model": "vectors", "input": "My parcel"}
    assert calls({**row, "call_type": "aembedding", "response": vectors, "proxy_server_request": asked}) == []
    assert calls({**row, "call_type": "call_mcp_tool", "response": {}, "proxy_server_request": {}}) == []


def test_a_type_of_call_that_is_new_is_kept() -> None:
    assert one({**rows_in(SPEND)[0], "call_type": "acompletion_v2"}).answer


def test_an_answer_from_the_cache_costs_nothing() -> None:
    row = rows_in(SPEND)[0]
    assert one({**row, "spend": 0.0, "cache_hit": "True"}).usd == 0.0
    assert one({**row, "spend": 0.0, "cache_hit": "False"}).usd is None


def test_old_rows_have_their_request_in_messages() -> None:
    row = rows_in(SPEND)[0]
    asked = row.pop("proxy_server_request")
    row |= {"messages": asked["messages"], "status": None, "request_duration_ms": None}
    old = one(row)
    assert (len(old.messages), code(old), old.model) == (2, None, "support-fast")
    assert old.seconds == pytest.approx(0.741)
    assert code(one({**row, "metadata": {**row["metadata"], "status": "failure"}})) == "failed"


def test_a_fallbacks_row_names_the_model_that_was_asked_for() -> None:
    row = rows_in(SPEND)[0]
    fallen = {**row, "model_group": "support-large", "proxy_server_request": {"body": row["proxy_server_request"]}}
    assert one(fallen).model == "support-fast"
    assert len(one(fallen).messages) == 2
    unknown = _put(fallen, "proxy_server_request.body.model", "unknown-model")
    assert one(unknown).model == "support-fast"  # as metadata.original_model_group has it


def test_the_responses_api() -> None:
    payload = rows_in(PAYLOAD)[0]
    said = {"type": "message", "content": [{"type": "output_text", "text": "delivery"}]}
    row = {
        **payload,
        "call_type": "aresponses",
        "messages": "My parcel is late.",
        "model_parameters": {"instructions": "Sort."},
        "response": {"id": "resp_1", "model": "gpt-4o-mini-2024-07-18", "output": [said]},
    }
    call = one(row)
    assert call.kind == "responses"
    assert call.messages == [
        {"role": "system", "content": "Sort."},
        {"role": "user", "content": "My parcel is late."},
    ]
    assert call.answer and call.answer.text == "delivery"
    repeated = _put({**row, "model_parameters": {}}, "response.instructions", "Sort.")
    assert one(repeated).messages == call.messages


def test_anthropics_api() -> None:
    row = rows_in(SPEND)[0] | {"call_type": "anthropic_messages", "metadata": {}}
    row["proxy_server_request"] = {
        "model": "claude-haiku",
        "system": [{"type": "text", "text": "Use a tool where one fits."}],
        "messages": [
            {"role": "user", "content": "Where is A-1?"},
            {
                "role": "assistant",
                "content": [{"type": "tool_use", "id": "t1", "name": "track", "input": {"id": "A-1"}}],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": [{"type": "text", "text": "Cologne"}]},
                    {"type": "text", "text": "And A-2?"},
                ],
            },
        ],
        "tools": [{"name": "track", "description": "Where a parcel is.", "input_schema": {"type": "object"}}],
    }
    row["response"] = {
        "type": "message",
        "model": "claude-haiku-4-5",
        "content": [
            {"type": "thinking", "thinking": "Hm"},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "t2", "name": "track", "input": {"id": "A-2"}},
        ],
        "stop_reason": "tool_use",
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 50,
            "cache_creation_input_tokens": 5,
            "output_tokens": 7,
        },
    }
    call = one(row)
    assert [message["role"] for message in call.messages] == ["system", "user", "assistant", "tool", "user"]
    assert call.messages[3] == {"role": "tool", "tool_call_id": "t1", "content": "Cologne"}
    assert call.request["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert call.answer and call.answer.text == "I look."
    assert call.answer.tool_calls == [{"id": "t2", "name": "track", "arguments": '{"id": "A-2"}'}]
    assert call.usage
    assert (call.usage.prompt_tokens, call.usage.cached_tokens, call.usage.cache_write_tokens) == (65, 50, 5)
    cut = one(_put(row, "response.stop_reason", "model_context_window_exceeded"))
    assert cut.answer and cut.answer.fault and cut.answer.fault[0] == "cut-answer"
    refused = one(_put(_put(row, "response.stop_reason", "refusal"), "response.content", []))
    assert refused.answer and refused.answer.fault and refused.answer.fault[0] == "refusal"


def test_it_is_training_data_from_a_table() -> None:
    found = list(read(SAMPLES / "litellm_spend_logs.csv"))
    examples = [each for each in found if isinstance(each, Example)]
    assert examples[0].answer == "delivery"
    assert examples[1].tools
    call = examples[0].meta.extra["call"]
    assert (call["usd"], call["seconds"], call["model"]) == (9.9e-06, 0.741, "support-fast")
    assert [each.code for each in found if isinstance(each, Fault)] == ["call-failed"]


def test_no_row_is_taken_for_another_form() -> None:
    """Forms with common keys come after it."""
    for name in sorted(each.name for each in SAMPLES.glob("litellm_*.jsonl")):
        for row in rows_in(name):
            assert form_of(row) == "litellm"
            assert [other for other, form in LOG_FORMS.items() if form.fits(row) and not form.is_plain] == ["litellm"]
    for path in sorted(set(SAMPLES.glob("*.jsonl")) - set(SAMPLES.glob("litellm_*"))):
        assert not any(is_litellm(row) for row in rows_in(path.name)), path.name
    assert not is_litellm({"messages": [], "response": {}})


def test_a_row_nested_too_deep_says_so() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = {"a": deep}
    call = {"id": "c", "function": {"name": "track", "arguments": deep}}
    row = _put(rows_in(SPEND)[0], "response.choices.0.message.tool_calls", [call])
    assert code(one(row)) == "no-request"


@pytest.mark.parametrize("seed", range(4))
def test_no_row_breaks_it(seed: int) -> None:
    rows = [row for path in sorted(SAMPLES.glob("litellm_*.jsonl")) for row in rows_in(path.name)]
    begun = time.monotonic()
    for row in mutated(rows, random.Random(seed), 500):
        if is_litellm(row):
            for call in litellm_calls(row):
                assert isinstance(call.meta, dict)
                assert isinstance(call.messages, list)
    assert time.monotonic() - begun < 60


def mutated(rows: list[dict[str, Any]], chance: random.Random, number: int) -> Iterator[dict[str, Any]]:
    """Rows with some values left out, of another type, cut, huge or deep."""
    deep: Any = "x"
    for _ in range(900):
        deep = [deep] if chance.random() < 0.5 else {"content": deep}
    strange = [None, True, -1, 10**300, 1.5, "", "{", "[[[[", "'" * 2000, '{"a": ' * 3000, [], {}, [None, 1, "x"], deep]
    for _ in range(number):
        row = copy.deepcopy(chance.choice(rows))
        for _ in range(chance.randint(1, 4)):
            holder: Any = row
            while True:
                keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
                key = chance.choice(keys)
                inner = holder[key]
                if isinstance(inner, (dict, list)) and inner and inner is not deep and chance.random() < 0.8:
                    holder = inner
                    continue
                break
            way = chance.randrange(3)
            if way == 0 and len(holder) > 1:
                del holder[key]
            elif way == 1 and isinstance(inner, str):
                holder[key] = inner[: chance.randint(0, len(inner))]
            else:
                value = chance.choice(strange)
                holder[key] = value if value is deep else copy.copy(value)  # a row that holds itself is no JSON
            if not row:
                break
        yield row
