"""What passes is captured: texts, tokens, price and time, and never a key."""

from __future__ import annotations

import base64
import gzip
import json
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from openai import OpenAI

from tests.gateway.conftest import Running, Start
from tests.gateway.test_pass_through import CHAT, KEY, client_of
from tests.gateway.upstream import Upstream, refused
from tunewright.economics.prices import price_book
from tunewright.economics.usage import TokenUsage
from tunewright.gateway.answers import AnswerReader, ReadAnswer
from tunewright.gateway.config import CaptureSpec
from tunewright.gateway.exchanges import Exchange, read_exchanges, without_files
from tunewright.gateway.redaction import redact
from tunewright.serving import line_log

SECRETS = (KEY, "__cf_bm", "secret", "authorization", "cookie")


def only(gateway: Running) -> Exchange:
    (exchange,) = gateway.exchanges()
    return exchange


@pytest.mark.slow
def test_an_exchange_is_captured_with_tokens_price_and_time(gateway: Running, paid: Upstream) -> None:
    paid.seconds = 0.05
    client_of(gateway).chat.completions.create(**CHAT)
    exchange = only(gateway)
    assert exchange.request == CHAT
    assert (exchange.kind, exchange.model, exchange.upstream, exchange.status) == ("chat", "gpt-6-luna", "openai", 200)
    assert exchange.answered_model == "gpt-6-luna-2026-09-01"
    assert [choice.text for choice in exchange.choices] == ["MY CARD IS LOST"]
    assert exchange.choices[0].finish_reason == "stop"
    assert exchange.usage == TokenUsage(8, 4, 4)
    assert exchange.usd == pytest.approx(price_book().api("gpt-6-luna").usd(8, 4, 4))
    assert exchange.first_seconds is not None
    assert 0.05 < exchange.first_seconds <= exchange.seconds < 5
    assert (exchange.is_whole, exchange.ending, exchange.streamed, exchange.client) == (True, "whole", False, None)
    assert exchange.path == "/v1/chat/completions"


@pytest.mark.parametrize(
    ("tier", "factor"), [("default", 1), ("priority", 2), ("flex", 0.5), ("ultrafast", None), (None, 1)]
)
@pytest.mark.parametrize("streamed", [False, True])
def test_an_answer_costs_what_its_service_tier_does(
    gateway: Running, tier: str | None, factor: float | None, streamed: bool
) -> None:
    asked = CHAT | {"stream": streamed, "stream_options": {"include_usage": True}, "service_tier": tier}
    assert httpx.post(f"{gateway.url}/v1/chat/completions", json=asked).status_code == 200
    usual = price_book().api("gpt-6-luna").usd(8, 4, 4)
    assert only(gateway).usd == (None if factor is None else pytest.approx(factor * usual))
    assert (b"gateway_unpriced_total{" in gateway.gateway.metrics.text()) == (factor is None)


@pytest.mark.slow
def test_streams_are_put_together(gateway: Running) -> None:
    tools: Any = [{"type": "function", "function": {"name": "route", "parameters": {"type": "object"}}}]
    client = client_of(gateway)
    list(client.chat.completions.create(**CHAT, stream=True, stream_options={"include_usage": True}))
    list(client.chat.completions.create(**CHAT, stream=True))
    list(client.chat.completions.create(**CHAT, stream=True, tools=tools))
    list(client.responses.create(model="gpt-6-luna", input="hello you", stream=True))
    with_usage, without, called, response = gateway.exchanges()
    assert with_usage.streamed and with_usage.choices[0].text == "MY CARD IS LOST"
    assert with_usage.usage == TokenUsage(8, 4, 4)
    assert without.choices == with_usage.choices
    assert (without.usage, without.usd) == (None, None)
    (call,) = called.choices[0].tool_calls
    assert (call["name"], json.loads(call["arguments"])) == ("route", {"text": "MY CARD IS LOST"})
    assert called.choices[0].finish_reason == "tool_calls"
    assert (response.kind, response.choices[0].text) == ("responses", "HELLO YOU")
    assert response.usage == TokenUsage(3, 2, 1)


@pytest.mark.slow
def test_other_kinds_are_captured_too(gateway: Running) -> None:
    client = client_of(gateway)
    client.completions.create(model="gpt-6-luna", prompt="hello")
    client.embeddings.create(model="e", input="hello", encoding_format="float")
    client.responses.create(model="gpt-6-luna", input="a")
    client.models.list()
    completion, embedding, response = gateway.exchanges()
    assert completion.choices[0].text == "HELLO"
    assert (embedding.choices, embedding.usage) == ([], TokenUsage(3))
    assert (response.choices[0].text, response.usage) == ("A", TokenUsage(2, 1, 1))


@pytest.mark.slow
def test_a_refusal_is_captured_with_its_status(gateway: Running, paid: Upstream) -> None:
    paid.faults = [refused(429, "rate_limit_exceeded")]
    httpx.post(f"{gateway.url}/v1/chat/completions", json=CHAT)
    exchange = only(gateway)
    assert (exchange.status, exchange.choices, exchange.usage, exchange.usd) == (429, [], None, None)


@pytest.mark.slow
def test_no_key_and_no_cookie_is_written(gateway: Running) -> None:
    httpx.post(
        f"{gateway.url}/v1/chat/completions?api-key=secret",
        json=CHAT,
        headers={"Authorization": f"Bearer {KEY}", "Cookie": "session=secret", "api-key": KEY, "x-api-key": KEY},
    )
    assert only(gateway).status == 200
    (file,) = gateway.captures.iterdir()
    written = file.read_text("utf-8").lower()
    assert not [secret for secret in SECRETS if secret in written]


@pytest.mark.slow
def test_a_client_can_opt_out(gateway: Running, paid: Upstream) -> None:
    for value in ("no", "No"):
        httpx.post(f"{gateway.url}/v1/chat/completions", json=CHAT, headers={"x-tunewright-capture": value})
    httpx.post(f"{gateway.url}/v1/chat/completions", json=CHAT, headers={"x-tunewright-capture": "yes"})
    assert only(gateway).status == 200
    assert len(paid.asked) == 3


@pytest.mark.slow
def test_a_share_is_captured(start: Start, paid: Upstream, tmp_path: Path) -> None:
    gateway = start({"openai": paid.url}, capture=CaptureSpec(folder=tmp_path / "captures", share=0.3))
    with httpx.Client() as client:
        for _ in range(100):
            client.post(f"{gateway.url}/v1/chat/completions", json=CHAT)
    kept = gateway.exchanges()
    assert 10 < len(kept) < 55
    assert {each.share for each in kept} == {0.3}


@pytest.mark.slow
def test_personal_data_can_be_left_out(start: Start, paid: Upstream, tmp_path: Path) -> None:
    gateway = start({"openai": paid.url}, capture=CaptureSpec(folder=tmp_path / "captures", redact=True))
    paid.reply = lambda text: json.dumps({"mail": text.split()[-1]})
    asked = "write to ada@example.org"
    tools: Any = [{"type": "function", "function": {"name": "send", "parameters": {"type": "object"}}}]
    client = client_of(gateway)
    for more in ({}, {"tools": tools}):
        client.chat.completions.create(model="gpt-6-luna", messages=[{"role": "user", "content": asked}], **more)
    plain, called = gateway.exchanges()
    assert plain.request and plain.request["messages"] == [{"role": "user", "content": "write to [EMAIL]"}]
    assert json.loads(plain.choices[0].text) == {"mail": "[EMAIL]"}
    assert "ada@" not in called.choices[0].tool_calls[0]["arguments"]
    assert called.request and called.request["model"] == "gpt-6-luna"


def test_no_key_that_an_application_chooses_hides_personal_data() -> None:
    ada = "ada@example.org"
    given = {"model": "m", "prompt": {"id": "pmpt_1", "variables": {"name": ada, "id": "DE89370400440532013000"}}}
    found = redact({"choices": [], "request": {**given, "metadata": {"name": ada}, "input": f"I am {ada}"}})["request"]
    assert ada not in json.dumps(found)
    assert "DE89" not in json.dumps(found)
    assert (found["model"], found["prompt"]["id"]) == ("m", "pmpt_1")


def test_a_persons_name_in_a_message_is_left_out_and_a_tools_stays() -> None:
    ada = "ada@example.org"
    call = {"type": "function_call", "call_id": "c", "name": "Ada Lovelace", "arguments": "{}"}
    tool = {"type": "function", "function": {"name": "Ada Lovelace", "parameters": {}}}
    called = {"role": "assistant", "tool_calls": [tool]}
    given = {
        "messages": [
            {"role": "user", "name": ada, "content": "hello"},
            called,
            {"role": "tool", "name": "Ada Lovelace"},
        ],
        "input": [call],
        "tools": [tool],
        "response_format": {"type": "json_schema", "json_schema": {"name": "Ada Lovelace"}},
        "text": {"format": {"type": "json_schema", "name": "Ada Lovelace"}},
    }
    found = redact({"choices": [], "request": given})["request"]
    assert found == {**given, "messages": [{**given["messages"][0], "name": "[EMAIL]"}, *given["messages"][1:]]}


@pytest.mark.parametrize("name", ["Ada_Lovelace", "Ada-Lovelace", "ada.lovelace", "ADA_LOVELACE"])
@pytest.mark.parametrize("said", ["my card is lost", "I am Ada Lovelace, my card is lost"])
def test_a_person_is_left_out_where_the_name_is_a_users(name: str, said: str) -> None:
    messages = [{"role": "user", "name": name, "content": said}, {"role": "user", "content": f"ask {name} again"}]
    found = redact({"choices": [], "request": {"messages": messages, "user": "ticket-bot"}})["request"]
    assert "lovelace" not in json.dumps(found).lower()
    assert (found["messages"][0]["name"], found["user"]) == ("[PERSON]", "ticket-bot")


SOUND = base64.b64encode(b"the voice of Ada").decode()
LINES = base64.encodebytes(b"ada@example.org " * 20).decode()


@pytest.mark.parametrize(
    ("part", "left"),
    [
        ({"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}}, "16 bytes, sha256 "),
        ({"type": "file", "file": {"file_data": SOUND, "filename": "a.wav"}}, "16 bytes, sha256 "),
        ({"type": "file", "file": {"file_data": f"data:audio/wav;base64,{SOUND}"}}, "data:audio/wav;16 bytes, sha256 "),
        ({"type": "image_generation_call", "result": SOUND}, "16 bytes, sha256 "),
        (
            {"text": f"data:text/plain;charset=utf-8;base64,{SOUND} it is"},
            "data:text/plain;charset=utf-8;16 bytes, sha256 ",
        ),
        ({"text": f"data:;base64,{SOUND}"}, "data:;16 bytes, sha256 "),
        ({"text": f"DATA:text/plain;BASE64,{SOUND}"}, "data:text/plain;16 bytes, sha256 "),
        ({"text": f"data:text/plain;base64,{LINES}"}, "data:text/plain;320 bytes, sha256 "),
        ({"text": "data:text/plain;base64," + LINES.replace("\n", "\r\n")}, "data:text/plain;320 bytes, sha256 "),
    ],
)
def test_no_form_of_a_file_is_captured(part: dict[str, Any], left: str) -> None:
    kept = json.dumps(without_files(part))
    assert left in kept
    assert not [line for line in (SOUND, *LINES.splitlines()) if line in kept]


@pytest.mark.parametrize(
    "value",
    [
        "answer with data:image/png;base64,{picture}",
        {"data": "ada", "name": "x"},
        {"result": "yes"},
        {"data": {"a": "b"}},
    ],
)
def test_what_is_no_file_is_captured_as_it_is(value: Any) -> None:
    assert without_files(value) == value


@pytest.mark.parametrize("depth", [90, 600])
def test_a_deep_request_passes_and_all_captures_can_be_read(gateway: Running, depth: int) -> None:
    deep: Any = "deep"
    for _ in range(depth):
        deep = [deep]
    for more in ({"metadata": deep}, {}):
        answer = httpx.post(f"{gateway.url}/v1/chat/completions", json={**CHAT, **more})
        assert (answer.status_code, answer.json()["choices"][0]["message"]["content"]) == (200, "MY CARD IS LOST")
    requests = [each.request for each in gateway.exchanges()]
    assert requests == [{**CHAT, "metadata": deep} if depth < 100 else None, CHAT]


def test_files_are_captured_by_size_and_hash(gateway: Running) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 4000}}
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "what is it"}, picture]}]
    client_of(gateway).chat.completions.create(model="gpt-6-luna", messages=messages)
    request = only(gateway).request
    assert request
    assert request["messages"][0]["content"][1]["image_url"]["url"].startswith("data:image/png;3000 bytes, sha256 ")


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [True, False])
def test_large_texts_are_counted_but_not_kept(start: Start, paid: Upstream, tmp_path: Path, *, streamed: bool) -> None:
    gateway = start({"openai": paid.url}, capture=CaptureSpec(folder=tmp_path / "captures", largest_kib=16))
    more: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}} if streamed else {}
    text = "word " * 5000
    answer = OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY).chat.completions.create(
        model="gpt-6-luna",
        messages=[{"role": "user", "content": text}],
        **more,
    )
    if streamed:
        assert len("".join(part.choices[0].delta.content or "" for part in answer if part.choices)) == len(text)
    exchange = only(gateway)
    assert (exchange.request, exchange.choices, exchange.is_whole) == (None, [], False)
    assert exchange.request_bytes > len(text) and exchange.answer_bytes > len(text)
    assert exchange.usage and exchange.usage.answer_tokens == 5000
    assert exchange.usd


@pytest.mark.slow
@pytest.mark.parametrize(("encoding", "packed"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
def test_compressed_answers_pass_and_are_read(
    gateway: Running, paid: Upstream, encoding: str, packed: Callable[[bytes], bytes]
) -> None:
    sent = packed(json.dumps({"model": "m", "choices": [{"message": {"content": "hello"}}]}).encode())

    async def compressed(request: web.Request) -> web.Response:
        assert request.headers["accept-encoding"] == "gzip, deflate"
        return web.Response(body=sent, headers={"content-encoding": encoding, "content-type": "application/json"})

    paid.faults = [compressed]
    with httpx.stream(
        "POST", f"{gateway.url}/v1/chat/completions", json=CHAT, headers={"accept-encoding": "br, gzip, deflate, zstd"}
    ) as answer:
        assert b"".join(answer.iter_raw()) == sent
    assert only(gateway).choices[0].text == "hello"


def test_compressed_answers_are_counted_where_nothing_is_captured(start: Start, paid: Upstream) -> None:
    gateway = start({"openai": paid.url}, capture=None)
    usage = {"prompt_tokens": 7, "completion_tokens": 2}
    sent = gzip.compress(json.dumps({"model": "m", "choices": [], "usage": usage}).encode())

    async def compressed(_request: web.Request) -> web.Response:
        return web.Response(body=sent, headers={"content-encoding": "gzip", "content-type": "application/json"})

    paid.faults = [compressed]
    assert httpx.post(f"{gateway.url}/v1/chat/completions", json=CHAT).json()["usage"] == usage
    metrics = httpx.get(f"{gateway.url}/metrics").text
    assert 'tunewright_gateway_tokens_total{kind="chat",tokens="prompt",upstream="openai"} 7.0' in metrics


def test_an_answer_in_an_unknown_encoding_passes_and_is_not_called_whole(gateway: Running, paid: Upstream) -> None:
    async def packed(_request: web.Request) -> web.Response:
        return web.Response(body=b"\x28\xb5", headers={"content-encoding": "zstd", "content-type": "application/json"})

    paid.faults = [packed]
    with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=CHAT) as answer:
        assert b"".join(answer.iter_raw()) == b"\x28\xb5"
    assert not only(gateway).is_whole


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        b"no JSON",
        b"[" * 100_000,
        b'{"choices": 1, "usage": 2, "model": 3}',
        b'{"choices": [1, {"message": {"content": {}, "tool_calls": [null, {"function": 3}]}}]}',
        b'{"choices": [{}], "usage": {"prompt_tokens": "x", "completion_tokens": -3}}',
        b'{"choices": [{"message": {"content": "\\ud800"}}]}',
        b"null",
        b"\xff\xfe",
        b"",
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_odd_answers_pass_as_they_are(gateway: Running, paid: Upstream, body: bytes, kind: str) -> None:
    sent = b"data: " + body + b"\n\ndata:x\n:\n\n" if "event" in kind else body

    async def odd(_request: web.Request) -> web.Response:
        return web.Response(body=sent, headers={"content-type": kind})

    paid.faults = [odd, odd]
    for path, asked in (("chat/completions", CHAT), ("responses", {"input": "a"})):
        answer = httpx.post(f"{gateway.url}/v1/{path}", json=asked)
        assert (answer.status_code, answer.content) == (200, sent)
    assert [each.status for each in gateway.exchanges()] == [200, 200]


@pytest.mark.slow
def test_a_bomb_passes_and_is_not_unpacked(gateway: Running, paid: Upstream) -> None:
    bomb = gzip.compress(b"a" * (64 << 20))

    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=bomb, headers={"content-encoding": "gzip", "content-type": "application/json"})

    paid.faults = [handler]
    with httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json=CHAT) as answer:
        assert b"".join(answer.iter_raw()) == bomb
    assert not only(gateway).is_whole


@pytest.mark.slow
def test_a_full_disk_stops_captures_and_no_answer(gateway: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_file: int, _line: bytes) -> int:
        raise OSError(28, "No space left on device")

    client = client_of(gateway)
    with monkeypatch.context() as patch:
        patch.setattr(line_log.os, "write", full)
        assert client.chat.completions.create(**CHAT).choices[0].message.content == "MY CARD IS LOST"
    assert gateway.exchanges() == []
    metrics = httpx.get(f"{gateway.url}/metrics").text
    assert 'tunewright_gateway_captures_total{kept="false"} 1.0' in metrics
    client.chat.completions.create(**CHAT)
    assert only(gateway).status == 200


@pytest.mark.slow
@pytest.mark.parametrize("streamed", [True, False])
def test_what_a_client_has_whole_survives_a_kill(paid: Upstream, tmp_path: Path, *, streamed: bool) -> None:
    settings = tmp_path / "gateway.yaml"
    settings.write_text(f"upstreams:\n  openai: {{url: '{paid.url}'}}\ncapture: {{folder: kept}}\n", "utf-8")
    got = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-m", "tunewright", "gateway", "gateway.yaml", "--port", "0"],
            cwd=tmp_path,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr
        line = next(line for line in process.stderr if "is ready at" in line)
        address = line.partition("ready at ")[2].split()[0]
        for _ in range(3):
            with httpx.stream("POST", f"{address}/v1/chat/completions", json={**CHAT, "stream": streamed}) as answer:
                for text in answer.iter_text():
                    if "[DONE]" in text or (not streamed and text.endswith("}")):
                        break
                got += 1
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stderr.close()
    kept = list(read_exchanges(tmp_path / "kept"))
    assert len(kept) == got == 9
    assert {choice.text for each in kept for choice in each.choices} == {"MY CARD IS LOST"}


@pytest.mark.parametrize("largest", [0, 1 << 20])
def test_letters_are_counted_whether_or_not_texts_are_kept(largest: int) -> None:
    text = "word " * 4000

    def read(content_type: str, *pieces: str) -> ReadAnswer:
        reader = AnswerReader("chat", content_type, "", largest)
        for piece in pieces:
            reader.feed(piece.encode())
        return reader.result()

    whole = json.dumps({"choices": [{"message": {"content": text}}]})
    event = f"data: {json.dumps({'choices': [{'delta': {'content': 'word '}}]})}\n\n"
    for answer in (read("application/json", whole), read("text/event-stream", *[event] * 4000)):
        assert (answer.letters, answer.is_whole) == (len(text), bool(largest))
        assert [choice.text for choice in answer.choices] == ([text] if largest else [])
    assert read("text/event-stream", event, "data: no JSON\n\n").letters is None


def test_streams_without_token_counts_are_estimated_from_answers_with(gateway: Running) -> None:
    def ask(**more: Any) -> None:
        body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "my card is lost " * 10}], **more}
        httpx.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=30)

    ask(stream=True)
    for _ in range(20):
        ask()
    ask(stream=True)
    first, *known, last = gateway.exchanges()
    assert (first.usage, first.usd) == (None, None)
    counted = known[0].usage
    assert counted and last.usage and last.usage_is_estimated
    assert not known[0].usage_is_estimated
    assert last.usage.prompt_tokens == pytest.approx(counted.prompt_tokens, rel=0.1)
    assert last.usage.answer_tokens == pytest.approx(counted.answer_tokens, rel=0.1)
    assert last.usd == pytest.approx(known[0].usd, rel=0.1)
