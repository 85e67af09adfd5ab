"""Helicone's rows in all the ways in which they leave Helicone."""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from tests.logs.reading import SAMPLES, read_sample, rows_in
from tests.logs.test_litellm import code, mutated
from tunewright.data.readers import Fault, read
from tunewright.data.readers.forms import form_of
from tunewright.logs import LOG_FORMS, LoggedCall
from tunewright.logs.helicone import helicone_calls, is_helicone
from tunewright.logs.helicone_python import from_python
from tunewright.tasks import Example

EXPORT, PAGE, PYTHON = "helicone_export.jsonl", "helicone_ui.jsonl", "helicone_export_python.csv"
TEXTS = ["delivery", "", "refund", None, "cancel", '{"label":"refund","urgent":true}']


def calls(row: dict[str, Any]) -> list[LoggedCall]:
    assert is_helicone(row)
    return list(helicone_calls(row))


def one(row: dict[str, Any]) -> LoggedCall:
    (call,) = calls(row)
    return call


def page_of(name: str) -> list[dict[str, Any]]:
    return list(json.loads((SAMPLES / name).read_text("utf-8"))["data"])


@pytest.mark.parametrize("name", [EXPORT, PAGE, PYTHON])
def test_every_way_gives_its_calls(name: str) -> None:
    found = read_sample(name)[:6]
    assert [call.answer and call.answer.text for call in found] == TEXTS
    assert [len(call.messages) for call in found] == [2, 2, 4, 2, 2, 2]
    assert [call.usd for call in found] == [9.9e-06, 3.555e-05, 1.305e-05, None, 1.02e-05, 0.0001254]
    assert [code(call) for call in found] == [None, None, None, "failed", None, None]
    plain, called, _, failed, streamed, schema = found
    assert (plain.model, plain.answered_model) == ("gpt-4o-mini", "gpt-4o-mini-2024-07-18")
    assert plain.time and plain.time.isoformat() == "2026-11-28T09:14:03.120000+00:00"
    assert (plain.seconds, plain.first_seconds, plain.is_streamed) == (0.741, None, False)
    assert plain.usage and (plain.usage.prompt_tokens, plain.usage.answer_tokens) == (58, 2)
    assert plain.id == "4e1128b8-c90f-4cf0-a575-bb56b8f68310"
    assert called.answer and called.answer.tool_calls[0]["name"] == "cancel_order"
    assert json.loads(called.answer.tool_calls[0]["arguments"]) == {"order_id": "A-10442", "reason": "mistake"}
    assert [tool["function"]["name"] for tool in called.request["tools"]] == ["cancel_order", "track_parcel"]
    assert failed.fault and "429, rate_limit_exceeded" in failed.fault[1]
    assert failed.messages[1]["content"].startswith("I can't log in")
    assert (failed.usage, failed.answered_model) == (None, None)
    assert (streamed.is_streamed, streamed.first_seconds) == (True, 0.402)
    # The row of the last one says 280 prompt tokens: cached ones are not among them.
    assert schema.usage and (schema.usage.prompt_tokens, schema.usage.cached_tokens) == (1304, 1024)
    assert schema.request["response_format"]["type"] == "json_schema"


def test_rows_count_prompt_tokens_without_cached_ones() -> None:
    row = rows_in(EXPORT)[5]
    del row["response_body"]["usage"]
    usage = one(row).usage
    assert usage
    assert (usage.prompt_tokens, usage.cached_tokens, usage.answer_tokens) == (1304, 1024, 11)
    minus = {**row, "prompt_tokens": "-1", "completion_tokens": "-1", "prompt_cache_read_tokens": "0"}
    assert one(minus).usage is None


def test_texts_that_are_not_there_say_why() -> None:
    omitted, preview = (one(row) for row in rows_in(EXPORT)[6:])
    assert omitted.fault and "Helicone-Omit" in omitted.fault[1]
    assert preview.fault and "--include-body" in preview.fault[1]
    noted = one(page_of("helicone_query.json")[0])
    assert noted.fault and "fetching body from signed_url" in noted.fault[1]
    listed = one(page_of("helicone_query_clickhouse.json")[0])
    for call in (omitted, preview, noted, listed):
        assert (code(call), call.messages, call.answer) == ("not-kept", [], None)
        assert call.usage and call.usage.prompt_tokens in (58, 79)
        assert call.seconds and call.usd
    row = rows_in(EXPORT)[0]
    aged = one({**row, "request_body": "", "response_body": ""})
    assert code(aged) == "not-kept"
    unanswered = one({**row, "response_body": {"model": "gpt-4o-mini"}})
    assert (code(unanswered), len(unanswered.messages), unanswered.answer) == ("not-kept", 2, None)


def test_postgresqls_rows_name_both_models() -> None:
    _, called, streamed = page_of("helicone_query.json")
    assert one(called).usd == 3.555e-05
    assert one(streamed).first_seconds == 0.402
    asked = {**called, "request_body": {"messages": called["request_body"]["messages"]}}
    assert (one(asked).model, one(asked).answered_model) == ("gpt-4o-mini", "gpt-4o-mini-2024-07-18")


def test_a_stream_has_its_end_from_its_pieces() -> None:
    (kept,) = (one(row) for row in rows_in("helicone_export_streamed_data.jsonl"))
    assert kept.answer and (kept.answer.text, kept.answer.finish_reason) == ("cancel", "stop")
    row = rows_in(EXPORT)[4]
    lost = one(row)
    assert lost.answer and lost.answer.finish_reason is None
    row["request_body"]["max_tokens"] = 80  # as many as the answer has
    row["response_body"]["usage"] = {"prompt_tokens": 60, "completion_tokens": 80}
    cut = one(row)
    assert cut.answer and cut.answer.fault and cut.answer.fault[0] == "cut-answer"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"response_status": -3}, "cut-answer"),
        ({"response_status": "-4"}, "failed"),
        ({"response_status": "503"}, "failed"),
        ({"response_status": 503.0}, "failed"),
        ({"response_status": "-4.0"}, "failed"),
        ({"response_body": {"error": "HTML response detected:", "html_response": "<p>"}}, "failed"),
        ({"response_body": {"helicone_error": "error parsing response", "body": "{"}}, "partial"),
        ({"response_body": {"streamed_data": [{"choices": [{"delta": {"content": "de"}}]}]}}, "partial"),
        ({"response_body": {"choices": [{"delta": {"content": "de"}}]}}, "partial"),
        ({"response_body": None, "response_status": 0}, "no-answer"),
        ({"response_body": {"helicone_message": "request body too large"}}, "not-kept"),
        ({"request_body": {"inputText": "My parcel", "textGenerationConfig": {}}}, "no-request"),
    ],
)
def test_what_went_wrong_is_not_taught(changed: dict[str, Any], expected: str) -> None:
    assert code(one({**rows_in(EXPORT)[0], **changed})) == expected


def test_calls_of_other_models_give_nothing() -> None:
    row = rows_in(EXPORT)[0]
    for changed in (
        {"target_url": "https://api.openai.com/v1/embeddings"},
        {"request_body": {"_type": "tool", "toolName": "track", "input": {}}},
        {"request_body": {"_type": "vector_db", "operation": "search"}},
        {"request_body": {"model": "m", "input": "My parcel"}, "response_body": {"object": "list", "data": []}},
    ):
        assert calls({**row, **changed}) == []
    assert calls({**rows_in(PAGE)[0], "_type": "openai-embedding"}) == []


def test_an_answer_from_the_cache_costs_nothing() -> None:
    row = {**rows_in(EXPORT)[0], "cost": 0}
    assert one(row).usd is None
    assert one({**row, "cache_reference_id": "1cee19e1-7c2e-4492-a466-30b333f84f08"}).usd == 0.0


def test_geminis_api() -> None:
    row = rows_in(EXPORT)[0]
    row["target_url"] = "https://generativelanguage.googleapis.com/v1beta/models/gemini-x:streamGenerateContent"
    row["request_body"] = {
        "systemInstruction": {"parts": [{"text": "Use a tool."}]},
        "contents": [
            {"role": "user", "parts": [{"text": "Where is "}, {"text": "A-1?"}]},
            {"role": "model", "parts": [{"functionCall": {"name": "track", "args": {"id": "A-1"}}}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "track", "response": {"at": "Cologne"}}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "track", "parameters": {"type": "object"}}, {"name": "cancel"}]}],
        "generationConfig": {"temperature": 0, "maxOutputTokens": 20},
    }
    pieces = [
        {"candidates": [{"content": {"parts": [{"text": "Hm", "thought": True}, {"text": "It is in "}]}}]},
        {
            "candidates": [{"content": {"parts": [{"text": "Cologne."}]}, "finishReason": "STOP"}],
            "usageMetadata": {
                "promptTokenCount": 60,
                "candidatesTokenCount": 5,
                "thoughtsTokenCount": 9,
                "cachedContentTokenCount": 40,
            },
            "modelVersion": "gemini-x-001",
        },
    ]
    call = one({**row, "response_body": pieces})
    assert [message["role"] for message in call.messages] == ["system", "user", "assistant", "tool"]
    assert call.messages[1]["content"] == "Where is A-1?"
    assert [tool["function"]["name"] for tool in call.request["tools"]] == ["track", "cancel"]
    assert call.answer and (call.answer.text, call.answer.finish_reason) == ("It is in Cologne.", "STOP")
    assert call.usage
    assert vars(call.usage) == {
        "prompt_tokens": 60,
        "answer_tokens": 14,
        "cached_tokens": 40,
        "cache_write_tokens": 0,
        "reasoning_tokens": 9,
    }
    assert (call.answered_model, call.is_streamed, call.request["max_tokens"]) == ("gemini-x-001", True, 20)
    whole = one({**row, "response_body": pieces[1]})
    assert whole.answer and whole.answer.text == "Cologne."


def test_tables_have_questions_without_answers() -> None:
    """The export tool's own; its quotes are doubled twice."""
    found = read_sample("helicone_export.csv")
    assert [code(call) for call in found] == [*["no-answer"] * 3, "failed", *["no-answer"] * 2]
    assert [len(call.messages) for call in found] == [2, 2, 4, 2, 2, 2]
    assert found[1].request["tools"]
    assert found[0].seconds == pytest.approx(0.741)
    assert all(isinstance(each, Fault) for each in read(SAMPLES / "helicone_export.csv"))


@pytest.mark.parametrize("name", ["helicone_ui.csv", PYTHON])
def test_other_tables_are_training_data(name: str) -> None:
    examples = [each for each in read(SAMPLES / name) if isinstance(each, Example)]
    assert examples[0].answer == "delivery"
    assert examples[1].tools
    assert examples[0].meta.extra["call"]["usd"] == 9.9e-06


def test_a_body_at_another_row_has_nothing_of_that_row() -> None:
    mine, other = rows_in(EXPORT)[:2]
    known = {"model": mine["model"], "response_body": "", "request_body": ""}
    content = repr({"request": other["request_body"], "response": other["response_body"]})
    row = {**mine, **known, "signed_body_content": content}
    call = one(row)
    assert call.answer and call.answer.tool_calls
    assert call.usage and call.usage.prompt_tokens == 141
    assert (call.id, call.seconds, call.usd) == (other["response_body"]["id"], None, None)
    assert call.time and call.time.timestamp() == other["response_body"]["created"]
    right = repr({"request": mine["request_body"], "response": mine["response_body"]})
    assert one({**row, "signed_body_content": right}).usd == 9.9e-06


@pytest.mark.parametrize(
    "value",
    [
        {"a": ["it's", 'say "x"', "both ' and \"", "\n\\\u00e9\U0001f600"], "b": None, "c": [True, False, 1.5, -2]},
        [],
        [{}],
    ],
)
def test_pythons_form_is_read(value: Any) -> None:
    assert from_python(repr(value)) == value


@pytest.mark.parametrize("text", ["", "None", "{'a': ", "{'a", "[" * 9000, "{" + "'" * 40000, "{'\\N{x}'}", "{1: 2}"])
def test_what_is_not_pythons_form_is_nothing(text: str) -> None:
    begun = time.monotonic()
    assert from_python(text) is None
    assert time.monotonic() - begun < 5


def test_no_row_is_taken_for_another_form() -> None:
    """Forms with common keys come after it."""
    for name in sorted(each.name for each in SAMPLES.glob("helicone_*.jsonl")):
        for row in rows_in(name):
            assert form_of(row) == "helicone"
            assert [other for other, form in LOG_FORMS.items() if form.fits(row) and not form.is_plain] == ["helicone"]
    for path in sorted(set(SAMPLES.glob("*.jsonl")) - set(SAMPLES.glob("helicone_*"))):
        assert not any(is_helicone(row) for row in rows_in(path.name)), path.name
    assert not is_helicone({"request": {}, "response": {}, "request_id": "1"})


def test_a_row_nested_too_deep_says_so() -> None:
    deep: Any = "x"
    for _ in range(5000):
        deep = {"a": deep}
    row = rows_in(EXPORT)[0]
    row["response_body"]["choices"][0]["message"]["tool_calls"] = [{"function": {"name": "x", "arguments": deep}}]
    assert code(one(row)) == "no-request"


@pytest.mark.parametrize("seed", range(4))
def test_no_row_breaks_it(seed: int) -> None:
    rows = [row for path in sorted(SAMPLES.glob("helicone_*.jsonl")) for row in rows_in(path.name)]
    begun = time.monotonic()
    for row in mutated(rows, random.Random(seed), 500):
        if is_helicone(row):
            for call in helicone_calls(row):
                assert isinstance(call.meta, dict)
                assert isinstance(call.messages, list)
    assert time.monotonic() - begun < 60
