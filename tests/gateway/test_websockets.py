"""WebSockets (the Realtime API, the Responses API's WebSocket mode) pass as they are."""

from __future__ import annotations

import asyncio
import http.client
import re
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from aiohttp import WSMsgType, web

from tests.gateway.conftest import Running, Start
from tests.gateway.test_faults import until
from tests.gateway.upstream import Upstream, refused
from tunewright.auth.keys import add_key
from tunewright.gateway.config import UpstreamSpec

KEY = {"authorization": "Bearer sk-of-the-client"}
HANDSHAKE = "GET /v1/realtime HTTP/1.1\r\nHost: gateway\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + (
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
Talk = Callable[[aiohttp.ClientWebSocketResponse], Awaitable[None]]


def talk(gateway: Running, what: Talk, path: str = "/v1/responses", **settings: Any) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            url = f"{gateway.url}{path}"
            async with session.ws_connect(url, **{"headers": KEY, "max_msg_size": 0, **settings}) as opened:
                await what(opened)

    asyncio.run(asyncio.wait_for(run(), 60))


def metrics(gateway: Running) -> str:
    return httpx.get(f"{gateway.url}/metrics").text


def test_events_pass_both_ways_with_the_clients_key_and_query(gateway: Running, paid: Upstream) -> None:
    async def ask(opened: aiohttp.ClientWebSocketResponse) -> None:
        assert opened.protocol == "realtime"
        for number, text in enumerate(("my card is lost", "hello", "größer")):
            await opened.send_json({"type": "response.create", "input": text, "stream_id": number})
            assert (await opened.receive_json())["delta"] == text.upper()
            assert await opened.receive_json() == {"type": "response.completed", "stream_id": number}

    talk(gateway, ask, "/v1/realtime?model=gpt-realtime", protocols=("realtime", "other"))
    (asked,) = paid.asked
    assert asked.target == "/v1/realtime?model=gpt-realtime"
    assert asked.headers["authorization"] == KEY["authorization"]
    assert asked.headers["sec-websocket-protocol"] == "realtime,other"


def test_compressed_frames_and_megabytes_pass_whole(gateway: Running) -> None:
    sent = bytes(range(256)) * 4096 * 16

    async def ask(opened: aiohttp.ClientWebSocketResponse) -> None:
        assert opened.compress == 15
        for piece in (sent, b"x", sent):
            await opened.send_bytes(piece)
        for piece in (sent, b"x", sent):
            assert await opened.receive_bytes() == piece[::-1]

    talk(gateway, ask, compress=15)


def test_the_upstreams_close_arrives_with_its_code(gateway: Running) -> None:
    async def ask(opened: aiohttp.ClientWebSocketResponse) -> None:
        await opened.send_str("bye")
        last = await opened.receive()
        assert (last.type, last.data, last.extra) == (WSMsgType.CLOSE, 4001, "as asked")

    talk(gateway, ask)
    counted = r'tunewright_gateway_requests_total\{kind="other",status="101",upstream="openai"\} 1.0'
    until(lambda: re.search(counted, metrics(gateway)) is not None)


def test_a_refused_handshake_is_the_upstreams_answer(gateway: Running, paid: Upstream) -> None:
    paid.faults.append(refused(401, "invalid_api_key"))
    with pytest.raises(aiohttp.WSServerHandshakeError) as told:
        talk(gateway, lambda _: asyncio.sleep(0))
    assert told.value.status == 401


def test_many_at_a_time_leave_nothing_behind(gateway: Running, paid: Upstream) -> None:
    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            opened = [await session.ws_connect(f"{gateway.url}/v1/responses") for _ in range(50)]
            for number, each in enumerate(opened):
                await each.send_json({"input": str(number)})
            for number, each in enumerate(opened):
                assert (await each.receive_json())["delta"] == str(number)
            assert "tunewright_gateway_under_way 50.0" in metrics(gateway)
            for each in opened[:25]:
                await each.close()

    asyncio.run(asyncio.wait_for(run(), 60))  # the other half breaks off
    until(lambda: "tunewright_gateway_under_way 0.0" in metrics(gateway))
    assert len(paid.asked) == 50


def test_the_gateways_keys_are_asked_for_and_replaced(
    start: Start, paid: Upstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAID_KEY", "sk-upstream")
    keys = tmp_path / "keys.json"
    given = {"authorization": f"Bearer {add_key(keys, 'shop')}"}
    running = start({"openai": UpstreamSpec(url=paid.url, key="PAID_KEY")}, keys=keys)
    with pytest.raises(aiohttp.WSServerHandshakeError) as told:
        talk(running, lambda _: asyncio.sleep(0))
    assert (told.value.status, paid.asked) == (401, [])

    async def ask(opened: aiohttp.ClientWebSocketResponse) -> None:
        await opened.send_json({"input": "hello"})
        assert (await opened.receive_json())["delta"] == "HELLO"

    talk(running, ask, headers=given)
    assert paid.asked[0].headers["authorization"] == "Bearer sk-upstream"


def raw(gateway: Running, sent: bytes) -> socket.socket:
    opened = socket.create_connection(("127.0.0.1", int(gateway.url.rpartition(":")[2])), timeout=20)
    opened.sendall(sent)
    return opened


def test_frames_that_come_with_the_handshake_are_not_lost(gateway: Running) -> None:
    frame = b"\x82\x83\0\0\0\0abc"  # binary, masked by zeros
    with raw(gateway, HANDSHAKE.encode() + frame) as opened:
        got = b""
        while not got.endswith(b"\x82\x03cba"):
            got += opened.recv(4096)
    head = got.partition(b"\r\n\r\n")[0].lower()
    assert head.startswith(b"http/1.1 101 ")
    assert b"\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in head
    assert b"\r\nx-request-id: req_1f8e" in head


def test_other_protocols_are_not_switched_to(gateway: Running, paid: Upstream) -> None:
    asked = HANDSHAKE.replace("Upgrade: websocket", "Upgrade: h2c").replace("realtime", "models")
    with raw(gateway, asked.encode()) as opened:
        answer = http.client.HTTPResponse(opened)
        answer.begin()
        assert answer.status == 200
    assert "upgrade" not in paid.asked[0].headers


def test_a_switch_that_nobody_asked_for_is_a_fault(gateway: Running, paid: Upstream) -> None:
    async def switched(request: web.Request) -> web.StreamResponse:
        assert request.transport
        request.transport.write(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        request.transport.close()
        return web.Response()

    paid.faults.append(switched)
    answer = httpx.get(f"{gateway.url}/v1/models")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_broke_off")


def test_an_upstream_that_is_gone_is_a_502(start: Start) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as told:
        talk(start({"openai": "http://127.0.0.1:9/v1"}), lambda _: asyncio.sleep(0))
    assert told.value.status == 502
