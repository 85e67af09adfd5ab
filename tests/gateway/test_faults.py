"""What a client sees when something fails on the way, and what the gateway tries again."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import time_machine
import trustme
from aiohttp import web
from openai import APIConnectionError, APIStatusError, APITimeoutError, AuthenticationError, OpenAI, RateLimitError

from tests.gateway.conftest import Running, Start
from tests.gateway.test_pass_through import CHAT, KEY, client_of
from tests.gateway.upstream import Handler, Upstream, half_an_event, hang_up, refused, upstream
from tunewright.auth.keys import add_key
from tunewright.core.limits import READERS_PER_PLACE
from tunewright.gateway import body
from tunewright.gateway.body import Body, BodyMemory
from tunewright.gateway.config import UpstreamSpec
from tunewright.gateway.own_responses import own_response

FAR = 30.0


def until(condition: Any) -> None:
    end = time.monotonic() + FAR
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def chat(gateway: Running, **more: Any) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v1/chat/completions", json={**CHAT, **more}, timeout=FAR)


def little_memory(gateway: Running, size: int) -> None:
    """Give a gateway so many bytes for bodies."""
    assert httpx.get(f"{gateway.url}/health").status_code == 200  # it has begun
    gateway.gateway._now._forward._memory = BodyMemory(size)


def unpriced(gateway: Running) -> float:
    """Answers that the upstream `openai` may bill and whose price nobody knows."""
    name = 'tunewright_gateway_unpriced_total{kind="chat",upstream="openai"} '
    lines = httpx.get(f"{gateway.url}/metrics").text.splitlines()
    return sum(float(line.removeprefix(name)) for line in lines if line.startswith(name))


def opened(gateway: Running) -> http.client.HTTPConnection:
    parts = urlsplit(gateway.url)
    assert parts.hostname
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=FAR)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://127.0.0.1:9/v1", "no connection to 127.0.0.1:9 ("),
        ("http://no-such-host.invalid/v1", "no connection to no-such-host.invalid:80 ("),
    ],
)
def test_an_upstream_that_is_gone_is_a_502(start: Start, url: str, reason: str) -> None:
    gateway = start({"openai": url})
    answer = chat(gateway)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["type"]) == (502, "upstream_unreachable", "server_error")
    assert error["message"].startswith(f"The upstream 'openai' can't be asked: {reason}")
    assert answer.headers["retry-after"] == "1"
    assert [each.status for each in gateway.exchanges()] == [502]
    assert unpriced(gateway) == 0


@pytest.mark.slow
def test_a_certificate_that_nobody_vouches_for_is_a_502(start: Start) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(tls)
    with upstream(str.upper, tls) as played:
        answer = chat(start({"openai": played.url}))
    assert answer.status_code == 502
    assert "certificate verify failed" in answer.json()["error"]["message"]
    assert played.asked == []


def test_a_certificate_that_the_machine_trusts_is_enough(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, tls = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with upstream(str.upper, tls) as played:
        assert chat(start({"openai": played.url})).status_code == 200


def test_a_wrong_key_is_what_the_upstream_says(gateway: Running, paid: Upstream) -> None:
    paid.faults = [refused(401, "invalid_api_key")]
    with pytest.raises(AuthenticationError, match="It is invalid_api_key"):
        client_of(gateway).chat.completions.create(**CHAT)


def test_a_storm_of_429_is_the_clients_to_wait_out(gateway: Running, paid: Upstream) -> None:
    paid.faults = [refused(429, "rate_limit_exceeded", **{"retry-after-ms": "10"}) for _ in range(4)]
    client = OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=2)
    with pytest.raises(RateLimitError):
        client.chat.completions.create(**CHAT)
    assert len(paid.asked) == 3
    assert client.chat.completions.create(**CHAT).choices
    assert [each.status for each in gateway.exchanges()] == [429] * 4 + [200]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("faults", "retries", "status", "asked"),
    [
        ([refused(429, "a"), refused(503, "b")], 2, 200, 3),
        ([refused(429, "a"), refused(503, "b")], 1, 503, 2),
        ([refused(429, "a", **{"Retry-After": "30"})], 2, 429, 1),
        ([refused(500, "a", **{"x-should-retry": "false"})], 2, 500, 1),
        ([refused(400, "a")], 2, 400, 1),
        ([refused(400, "a", **{"x-should-retry": "true", "retry-after-ms": "1"})], 2, 200, 2),
        ([refused(503, "a", **{"retry-after": "Thu, 31 Dec 2099 23:59:59 GMT"})], 2, 503, 1),
        ([refused(503, "a", **{"retry-after": "Thu, 31 Dec 2020 23:59:59 GMT"})], 2, 200, 2),
    ],
)
def test_retries_are_those_of_the_settings_and_the_upstream(
    start: Start, paid: Upstream, faults: list[Handler], retries: int, status: int, asked: int
) -> None:
    gateway = start({"openai": UpstreamSpec(url=paid.url, retries=retries)})
    paid.faults = list(faults)
    assert chat(gateway).status_code == status
    assert len(paid.asked) == asked
    assert [each.status for each in gateway.exchanges()] == [status]


@pytest.mark.slow
def test_a_request_without_an_answer_is_not_sent_twice(gateway: Running, paid: Upstream) -> None:
    paid.faults = [hang_up, hang_up]
    answer = chat(gateway)
    assert answer.status_code == 502
    assert "closed the connection without an answer" in answer.json()["error"]["message"]
    assert len(paid.asked) == 1
    assert unpriced(gateway) == 1


@pytest.mark.slow
def test_a_connection_that_was_closed_while_idle_costs_nothing(gateway: Running, paid: Upstream) -> None:
    assert chat(gateway).status_code == 200
    paid.faults = [hang_up]  # what a server does that closes an idle connection when the next request is on its way
    assert chat(gateway).status_code == 200
    assert len(paid.connections) == 2


@pytest.mark.slow
def test_half_an_event_ends_the_clients_stream_too(gateway: Running, paid: Upstream) -> None:
    paid.faults = [half_an_event]
    got = b""
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json={**CHAT, "stream": True}) as answer,
    ):
        for piece in answer.iter_raw():
            got += piece
    assert got == b'data: {"choices":[{"index":0,"delta":{"content":"half"}}]}\n\ndata: {"choi'
    until(gateway.exchanges)
    (exchange,) = gateway.exchanges()
    assert (exchange.status, exchange.ending, exchange.choices[0].text) == (200, "broken", "half")
    assert chat(gateway).status_code == 200


def test_a_client_that_leaves_ends_the_upstreams_work(gateway: Running, paid: Upstream) -> None:
    paid.between = 0.2
    with (
        OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY) as client,
        client.chat.completions.create(**CHAT, stream=True) as stream,
    ):
        next(iter(stream))
    until(lambda: paid.left == 1)
    until(gateway.exchanges)
    (exchange,) = gateway.exchanges()
    assert (exchange.status, exchange.ending) == (200, "left")


@pytest.mark.slow
def test_an_answer_that_outlasts_the_gateway_is_noted(start: Start, paid: Upstream) -> None:
    gateway = start({"openai": paid.url}, drain=1)
    paid.between = 60
    with (
        pytest.raises(httpx.RemoteProtocolError),
        httpx.stream("POST", f"{gateway.url}/v1/chat/completions", json={**CHAT, "stream": True}) as answer,
    ):
        for _ in answer.iter_raw():
            gateway.server.should_exit = True
    until(lambda: paid.left == 1)
    until(gateway.exchanges)
    (exchange,) = gateway.exchanges()
    assert (exchange.status, exchange.ending) == (200, "broken")
    assert b'tunewright_gateway_unpriced_total{kind="chat",upstream="openai"} 1.0' in gateway.gateway.metrics.text()


@pytest.mark.slow
def test_a_client_that_leaves_before_the_answer_ends_it_too(gateway: Running, paid: Upstream) -> None:
    paid.seconds = 60
    with pytest.raises(APITimeoutError):
        client_of(gateway).chat.completions.create(**CHAT, timeout=0.3)
    until(lambda: paid.left == 1)
    until(gateway.exchanges)
    (exchange,) = gateway.exchanges()
    assert (exchange.status, exchange.ending) == (499, "left")
    assert unpriced(gateway) == 1, "the API may bill it"


@pytest.mark.slow
def test_an_upstream_that_is_late_is_a_504(start: Start, paid: Upstream) -> None:
    gateway = start({"openai": UpstreamSpec(url=paid.url, timeout=0.2)})
    paid.seconds = 60
    answer = chat(gateway)
    assert answer.status_code == 504
    assert answer.json()["error"]["message"] == "The upstream 'openai' sent nothing within 0.2 s."
    until(lambda: paid.left == 1)
    assert unpriced(gateway) == 1, "the API may bill it"


@pytest.mark.slow
def test_waiting_for_a_connection_ends(start: Start, paid: Upstream) -> None:
    gateway = start({"openai": UpstreamSpec(url=paid.url, connections=1, connect_seconds=0.2)})
    paid.seconds = 1
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda _: chat(gateway), range(2)))
    assert sorted(each.status_code for each in answers) == [200, 504]
    (late,) = [each for each in answers if each.status_code == 504]
    assert "took no connection within 0.2 s" in late.json()["error"]["message"]
    assert unpriced(gateway) == 0, "it never got the request"


@pytest.mark.slow
def test_more_requests_than_allowed_are_refused_at_once(start: Start, paid: Upstream) -> None:
    gateway = start({"openai": paid.url}, limit_concurrency=2)
    paid.seconds = 1
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: chat(gateway), range(4)))
    assert sorted(each.status_code for each in answers) == [200, 200, 429, 429]
    assert httpx.get(f"{gateway.url}/health").status_code == 200


@pytest.mark.slow
def test_a_body_of_100_mb_passes_unread(gateway: Running, paid: Upstream) -> None:
    size = 100 << 20

    async def swallowed(request: web.Request) -> web.Response:
        return web.json_response({"size": len(await request.read())})

    paid.faults = [swallowed]
    content = (b"x" * (1 << 20) for _ in range(100))
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", content=content, timeout=FAR)
    assert answer.json() == {"size": size}
    (exchange,) = gateway.exchanges()
    assert (exchange.request, exchange.request_bytes, exchange.model) == (None, size, None)


def test_a_body_of_100_mb_is_refused_where_its_model_decides(start: Start, paid: Upstream) -> None:
    gateway = start({"openai": paid.url, "other": paid.url})
    connection = opened(gateway)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Content-Length", str(100 << 20))
    connection.endheaders()
    for _ in range(33):
        connection.send(b"x" * (1 << 20))
    answer = connection.getresponse()
    assert answer.status == 413
    assert "reads only 32 MiB" in json.loads(answer.read())["error"]["message"]
    connection.close()
    assert paid.asked == []


@pytest.mark.slow
@pytest.mark.parametrize("is_confined", [False, True])
def test_large_bodies_never_block_small_ones(
    start: Start, paid: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_confined: bool
) -> None:
    """A body must be read where its model decides what its key may do, or which upstream gets it."""
    monkeypatch.setenv("PAID_KEY", "sk-upstream")
    keys = tmp_path / "keys.json"
    key = add_key(keys, "shop", models=[CHAT["model"]] if is_confined else None)
    spec = UpstreamSpec(url=paid.url, key="PAID_KEY")
    gateway = start({"openai": spec} if is_confined else {"openai": spec, "other": spec}, keys=keys)
    little_memory(gateway, 1 << 20)
    go_on = threading.Event()

    async def slow(_request: web.Request) -> web.Response:
        while not go_on.is_set():
            await asyncio.sleep(0.01)
        return web.json_response({})

    def asked(letters: int) -> httpx.Response:
        body = {**CHAT, "user": "x" * letters}
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=FAR)

    paid.faults = [slow]
    with ThreadPoolExecutor(1) as pool:
        try:
            first = pool.submit(asked, 1_000_000)
            until(lambda: len(paid.asked) == 1)
            small, large = asked(60_000), asked(300_000)
        finally:
            go_on.set()
        assert first.result().status_code == 200
    assert small.status_code == 200
    assert (large.status_code, large.json()["error"]["code"], large.headers["retry-after"]) == (429, "overloaded", "1")
    until(lambda: asked(300_000).status_code == 200)


@pytest.mark.slow
def test_a_body_without_memory_passes_unread_where_nothing_depends_on_it(gateway: Running) -> None:
    little_memory(gateway, 1000)
    assert chat(gateway, user="x" * 300_000).status_code == 200
    assert chat(gateway, user="x" * 10_000).status_code == 200
    assert [each.model for each in gateway.exchanges()] == [None, CHAT["model"]]
    assert gateway.gateway._now._forward._memory.free == 1000


@pytest.mark.slow
def test_a_slow_body_is_ended(gateway: Running, paid: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_SECONDS", 0.2)
    for path in ("/v1/chat/completions", "/v1/files"):
        connection = opened(gateway)
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", "1000000")
        connection.endheaders()
        connection.send(b"x" * 1000)
        assert connection.getresponse().status == 408
        connection.close()
    assert paid.asked == []


def silent(gateway: Running) -> http.client.HTTPConnection:
    """A connection with a request whose body does not come."""
    connection = opened(gateway)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("Content-Length", "1000")
    connection.endheaders()
    return connection


def test_bodies_that_do_not_come_take_no_places(start: Start, paid: Upstream) -> None:
    gateway = start({"openai": paid.url}, limit_concurrency=2)
    waiting = [silent(gateway) for _ in range(2)]
    until(lambda: gateway.gateway._now._under_way == 2)
    assert chat(gateway).status_code == 200
    for each in waiting:
        each.close()
    until(lambda: gateway.gateway._now._under_way == 0)


def test_of_too_many_bodies_that_arrive_the_oldest_is_given_up(start: Start) -> None:
    gateway = start({"openai": "http://127.0.0.1:9/v1"}, limit_concurrency=1)
    first = silent(gateway)
    until(lambda: gateway.gateway._now._under_way == 1)
    others = [silent(gateway) for _ in range(READERS_PER_PLACE)]
    assert first.getresponse().status == 408
    until(lambda: gateway.gateway._now._under_way == READERS_PER_PLACE)
    for each in (first, *others):
        each.close()


def test_the_time_in_which_the_upstream_takes_nothing_is_not_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body, "BODY_SECONDS", 0.2)
    pieces = [b"a", b"b", b"c"]

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def passed_on() -> bytes:
        taken = b""
        async for piece in Body(receive, BodyMemory()).pieces():
            taken += piece
            await asyncio.sleep(0.3)  # the upstream's connection is full
        return taken

    assert asyncio.run(passed_on()) == b"abc"


@pytest.mark.slow
def test_a_clock_that_jumps_changes_no_duration(gateway: Running, paid: Upstream) -> None:
    paid.seconds = 0.2

    def jump() -> None:
        time.sleep(0.1)
        with time_machine.travel("2001-01-01", tick=True):
            time.sleep(0.5)

    thread = threading.Thread(target=jump)
    thread.start()
    assert chat(gateway).status_code == 200
    thread.join()
    (exchange,) = gateway.exchanges()
    assert 0.2 <= exchange.seconds < 10


@pytest.mark.slow
def test_two_gateways_on_one_folder_write_files_of_their_own(start: Start, paid: Upstream) -> None:
    both = [start({"openai": paid.url}) for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda number: chat(both[number % 2]), range(60)))
    assert {each.status_code for each in answers} == {200}
    assert len(list(both[0].captures.iterdir())) == 2
    assert len(both[0].exchanges()) == 60


@pytest.mark.slow
def test_an_upstream_that_comes_back_is_asked_again(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    gateway = start({"openai": f"http://127.0.0.1:{port}/v1"})
    assert chat(gateway).status_code == 502
    with upstream(str.upper, port=port):
        assert chat(gateway).status_code == 200


@pytest.mark.slow
def test_a_restart_of_the_upstream_within_half_a_second_is_not_seen(start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    gateway = start({"openai": f"http://127.0.0.1:{port}/v1"})
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(chat, gateway)
        time.sleep(0.05)
        with upstream(str.upper, port=port):
            assert asked.result().status_code == 200


@pytest.mark.slow
def test_a_client_can_tell_a_refusal_from_a_failure(start: Start) -> None:
    gateway = start({"openai": "http://127.0.0.1:9/v1"})
    with pytest.raises(APIStatusError) as caught:
        client_of(gateway).chat.completions.create(**CHAT)
    assert not isinstance(caught.value, APIConnectionError)
    assert caught.value.code == "upstream_unreachable"


class SlowToFind:
    """Jobs that are looked for in a long request until another request has been answered, 5 seconds at most."""

    def __init__(self) -> None:
        self.looks, self.other_answered = threading.Event(), threading.Event()
        self.waited_in_vain = False

    def find(self, _kind: str, request: dict[str, Any]) -> None:
        if request["messages"] != CHAT["messages"]:
            self.looks.set()
            self.waited_in_vain = not self.other_answered.wait(5)

    async def close(self) -> None: ...


def test_a_long_request_whose_job_is_looked_for_keeps_nobody_waiting(gateway: Running) -> None:
    jobs: Any = SlowToFind()
    assert chat(gateway).status_code == 200
    gateway.gateway._now._forward._jobs = jobs
    with ThreadPoolExecutor(1) as others:
        long = others.submit(chat, gateway, messages=[{"role": "user", "content": "a " * 20_000}])
        assert jobs.looks.wait(FAR)
        assert chat(gateway).status_code == 200
        jobs.other_answered.set()
        assert long.result().status_code == 200
    assert not jobs.waited_in_vain


def test_a_conversation_cant_go_on_from_an_own_answer(gateway: Running, paid: Upstream) -> None:
    def go_on(previous: str) -> httpx.Response:
        body = {"model": "gpt-6-luna", "input": "and now?", "previous_response_id": previous}
        return httpx.post(f"{gateway.url}/v1/responses", json=body, timeout=FAR)

    refused = go_on(f"resp_{own_response('0a' * 16)}")
    error = refused.json()["error"]
    assert (refused.status_code, error["code"]) == (400, "previous_response_not_found")
    assert "An own model gave the previous response" in error["message"]
    assert paid.asked == []
    assert go_on(f"resp_{'0a' * 16}").status_code == 200
