"""Hostile connections: silent ones, slow ones, and too many. Honest clients get their answers meanwhile."""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from pathlib import Path
from typing import IO, Any, cast

import httpx
import pytest
from starlette.testclient import TestClient

from tests.conftest import REPOSITORY, python
from tests.serving.test_app import Echo
from tests.serving.test_guard import TEXT, Waiting
from tunewright.core.limits import BODY_BYTES_AT_ONCE, HEAD_BYTES, LOGGED_SECONDS
from tunewright.core.processes import listener
from tunewright.serving import connections
from tunewright.serving.app import build_app
from tunewright.serving.connections import ClientConnection, Connections, HttpServer, LogThrottle, client_of
from tunewright.serving.hosts import OneModel

FAR = 60.0
"""Seconds after which a test that waits has failed."""
Start = Callable[..., str]


@dataclass
class Child:
    process: subprocess.Popen[str]
    log: Path
    address: str

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def peak(self) -> int:
        """The most bytes of memory that it had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text("ascii")
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


@contextmanager
def child(folder: Path, *arguments: str, descriptors: int = 300) -> Iterator[Child]:
    """A server in a child process, with a limit of file descriptors."""
    log = folder / "log"
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.serving.helpers", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=REPOSITORY,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors)),
        )
    try:
        port = cast(IO[str], process.stdout).readline().strip()
        assert port, log.read_text("utf-8")
        yield Child(process, log, f"http://127.0.0.1:{port}")
    finally:
        process.kill()
        process.communicate()


@contextmanager
def connected(port: int, count: int = 1, source: str = "127.0.0.1") -> Iterator[list[socket.socket]]:
    with ExitStack() as opened:
        yield [
            opened.enter_context(socket.create_connection(("127.0.0.1", port), FAR, (source, 0))) for _ in range(count)
        ]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["serve", "review"])
def test_silent_connections_keep_nobody_out_and_fill_no_log(kind: str, tmp_path: Path) -> None:
    with child(tmp_path, kind, str(tmp_path)) as server, connected(server.port, 330):
        for _ in range(3):
            if kind == "serve":
                answer = httpx.post(f"{server.address}/v1/classify", json=TEXT, timeout=FAR)
            else:
                answer = httpx.get(f"{server.address}/sign-in", timeout=FAR)
            assert answer.status_code == 200
            with connected(server.port, 100):
                assert httpx.get(f"{server.address}/static/look.css", timeout=FAR).status_code in (200, 404)
        assert server.log.stat().st_size < 10_000


@pytest.mark.slow
def test_the_server_survives_a_lack_of_file_descriptors(tmp_path: Path) -> None:
    with child(tmp_path, "serve", "hold") as server:
        into, output = cast(IO[str], server.process.stdin), cast(IO[str], server.process.stdout)
        assert httpx.get(f"{server.address}/health", timeout=FAR).status_code == 200, "it has loaded all that it needs"
        started = time.monotonic()
        print("hold", file=into, flush=True)
        assert output.readline() == "held\n"
        with connected(server.port, 20) as waiting:
            while "could not be taken" not in server.log.read_text("utf-8"):
                assert time.monotonic() - started < FAR
                time.sleep(0.05)
            for each in waiting:
                each.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            time.sleep(2)  # the server tries again meanwhile
            print("let go", file=into, flush=True)
            assert {received(each)[0] for each in waiting} == {200}
        lines = server.log.read_text("utf-8").splitlines()
        assert len(lines) <= 1 + (time.monotonic() - started) / LOGGED_SECONDS
        assert all("Too many open files" in line for line in lines)


@pytest.mark.slow
def test_many_large_bodies_at_once_stay_within_the_memory_limit(tmp_path: Path) -> None:
    """The clients send 1.2 GB, of bodies that never end."""
    large = b'{"text": "' + b"a" * (20 << 20)
    with child(tmp_path, "serve", descriptors=500) as server:
        assert httpx.post(f"{server.address}/v1/classify", json=TEXT, timeout=FAR).status_code == 200
        before = server.peak()
        with connected(server.port, 60) as sending:
            for each in sending:
                each.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 24000000\r\n\r\n" + large)
            answer = httpx.post(f"{server.address}/v1/classify", json=TEXT, timeout=FAR)
            assert answer.status_code == 200, "a small one"
            assert httpx.post(f"{server.address}/v1/classify", content=large, timeout=FAR).status_code == 429
        assert server.peak() - before < 1.5 * BODY_BYTES_AT_ONCE
        while (answer := httpx.post(f"{server.address}/v1/classify", content=large, timeout=FAR)).status_code == 429:
            time.sleep(0.1)  # until the server has noticed the disconnects
        assert answer.status_code == 400


@pytest.mark.slow
def test_the_descriptor_limit_is_raised_with_a_reserve_for_files() -> None:
    code = (
        "import resource as r; from tunewright.serving.connections import connections_allowed as allowed;"
        "r.setrlimit(r.RLIMIT_NOFILE, (100, 300)); print(allowed(), r.getrlimit(r.RLIMIT_NOFILE));"
        "r.setrlimit(r.RLIMIT_NOFILE, (60, 60)); print(allowed(), r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = python("-c", code)
    assert done.stdout == "172 (300, 300)\n30 (60, 60)\n", done.stderr


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a server for an application in this process, and returns its host and port."""
    running: list[tuple[HttpServer, threading.Thread]] = []

    def begin(app: Any, **more: Any) -> str:
        bound = listener("127.0.0.1", 0)
        bound.listen()
        server = HttpServer(app, **more)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        running.append((server, thread))
        return f"127.0.0.1:{bound.getsockname()[1]}"

    yield begin
    for server, thread in running:
        server.should_exit = server.force_exit = True
        thread.join(FAR)


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


async def answering(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


def received(connection: socket.socket) -> tuple[int, bytes]:
    """An answer's status and body."""
    answer = HTTPResponse(connection)
    answer.begin()
    return answer.status, answer.read()


def is_ended(connection: socket.socket) -> bool:
    """Whether the server ends a connection within a minute."""
    try:
        while connection.recv(1 << 16):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("before", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"], ids=["first", "second"])
@pytest.mark.parametrize("piece", [b"", b"GET / HTTP/1.1\r\n"], ids=["silent", "slow"])
def test_a_request_that_does_not_arrive_times_out(
    before: bytes, piece: bytes, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.3)
    if not piece:
        monkeypatch.setattr(connections, "KEEP_ALIVE_SECONDS", 0.3)
    address = start(answering)
    with connected(port_of(address)) as (connection,):
        connection.sendall(before)
        if before:
            assert received(connection) == (200, b"ok")
        connection.settimeout(0.02)
        until = time.monotonic() + FAR
        while time.monotonic() < until:
            try:
                connection.sendall(piece)
                piece = piece and b"X: y\r\n"
                assert connection.recv(100) == b""
                return
            except TimeoutError:
                pass
            except ConnectionError:
                return
        raise AssertionError("it is still waited for")


@pytest.mark.slow
def test_a_connection_is_kept_between_requests(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a request is lost that a client sends while the server closes: clients keep connections for 5 s and more."""
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 0.2)
    address = start(answering)
    with connected(port_of(address)) as (connection,):
        for _ in range(2):
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert received(connection) == (200, b"ok")
            time.sleep(1)


def test_a_large_head_is_refused(start: Start) -> None:
    address = start(answering)
    line = b"GET / HTTP/1.1\r\nHost: x\r\n"
    for head, statuses in (
        (line + b"X: " + b"y" * (HEAD_BYTES - 100) + b"\r\n\r\n", {200}),
        # 400 if the head comes in pieces and is not whole when the limit is reached.
        (line + b"X: " + b"y" * (HEAD_BYTES + 100) + b"\r\n\r\n", {400, 431}),
        (line + b"X: y\r\n" * 3000 + b"\r\n", {400, 431}),
        (b"GET /" + b"y" * HEAD_BYTES + b" HTTP/1.1\r\nHost: x\r\n\r\n", {400, 431}),
        (line + b"X: " + b"y" * 2 * HEAD_BYTES, {400}),
        (b"no HTTP at all\r\n\r\n", {400}),
    ):
        with connected(port_of(address)) as (connection,):
            connection.sendall(head)
            status, body = received(connection)
            assert status in statuses
            if status != 200:
                assert json.loads(body)["error"]["code"] in ("headers_too_large", "invalid_request")
                assert is_ended(connection)


class Streaming:
    """Sends without end, until the client disconnects."""

    def __init__(self) -> None:
        self.sent = 0
        self.ended = threading.Event()

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        await receive()
        gone = asyncio.create_task(receive())
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not gone.done():
            await send({"type": "http.response.body", "body": b"a" * 65536, "more_body": True})
            self.sent += 65536
            await asyncio.sleep(0)
        self.ended.set()


@pytest.mark.slow
def test_a_client_that_takes_no_answer_is_disconnected(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALLED_SECONDS", 0.3)
    app = Streaming()
    address = start(app)
    with connected(port_of(address)) as (connection,):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert app.ended.wait(FAR)
    assert app.sent < 64 << 20, "what the kernel takes"


@pytest.mark.slow
def test_a_whole_answer_that_is_not_taken_is_dropped(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALLED_SECONDS", 0.3)
    large = 64 << 20

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        head = [(b"content-length", str(large).encode()), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        await send({"type": "http.response.body", "body": bytes(large)})

    address = start(app)
    with connected(port_of(address)) as (connection,):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        threading.Event().wait(3)
        taken = 0
        with pytest.raises(ConnectionError):
            while part := connection.recv(1 << 20):
                taken += len(part)
            raise ConnectionError  # an end, too
        assert taken < large


@pytest.mark.slow
def test_a_slow_client_gets_the_whole_answer(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer than the time limits of a stalled and of an idle client."""
    monkeypatch.setattr(connections, "STALLED_SECONDS", 2.0)
    monkeypatch.setattr(connections, "REQUEST_SECONDS", 1.0)
    large = 32 << 20

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": bytes(large)})

    address = start(app)
    taken = 0
    with connected(port_of(address)) as (connection,):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        while taken < large:
            part = connection.recv(512 << 10)
            assert part
            taken += len(part)
            time.sleep(0.1)


@pytest.mark.slow
def test_one_client_has_half_of_the_connections_at_most(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "connections_allowed", lambda: 4)
    engine = Waiting()
    address = start(build_app(OneModel(engine)))
    body = json.dumps(TEXT).encode()
    request = b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
    with connected(port_of(address), 2) as busy:
        for each in busy:
            each.sendall(request % (len(body), body))
            assert engine.begun.acquire(timeout=FAR)
        with connected(port_of(address)) as (third,):
            status, body_of_third = received(third)
            assert (status, json.loads(body_of_third)["error"]["code"]) == (503, "overloaded")
        with connected(port_of(address), source="127.0.0.2") as (other,):
            other.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
            assert received(other)[0] == 200
        engine.go.set()
        assert [received(each)[0] for each in busy] == [200, 200]


def test_slow_senders_keep_nobody_out(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "connections_allowed", lambda: 4)
    address = start(build_app(OneModel(Echo("classify"))))
    with connected(port_of(address), 2) as slow:
        for each in slow:
            each.sendall(b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
        for _ in range(3):
            assert httpx.post(f"http://{address}/v1/classify", json=TEXT, timeout=FAR).status_code == 200


class Fake:
    """A connection, as `Connections` sees it."""

    def __init__(self, client_key: str):
        self.client_key = client_key
        self.ended = False
        self.transport = self

    def abort(self) -> None:
        self.ended = True


def fake(client_key: str) -> Any:
    return cast(ClientConnection, Fake(client_key))


def test_the_connection_that_has_waited_longest_is_ended() -> None:
    most = Connections(4)
    mine = [fake("a"), fake("a")]
    assert all(map(most.take, mine))
    most.note(mine[0], waits=False)
    third = fake("a")
    assert most.take(third)
    assert [each.ended for each in mine] == [False, True], "a busy one is left alone"
    most.note(third, waits=False)
    assert not most.take(fake("a")), "all of them are at work"
    others = [fake("b"), fake("c")]
    assert all(map(most.take, others))
    most.note(others[0], waits=False)
    most.note(others[0], waits=True)
    assert most.take(fake("d"))
    assert [each.ended for each in others] == [False, True], "the one that has waited longer"
    assert len(most) == 4
    for each in mine:
        most.leave(each)
    assert len(most) == 3


def test_an_ipv6_client_is_a_network() -> None:
    assert client_of("2001:db8:1:2:3::4") == client_of("2001:db8:1:2:ffff::") != client_of("2001:db8:1:3::4")
    assert client_of("::ffff:192.0.2.1") == client_of("192.0.2.1") == "192.0.2.1"
    assert client_of("fe80::1%eth0") == client_of("fe80::2")
    assert client_of("testclient") == "testclient"


@pytest.mark.slow
def test_invalid_requests_fill_no_log(start: Start, capfd: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    address = start(answering)
    for _ in range(200):
        with connected(port_of(address)) as (connection,):
            connection.sendall(b"nonsense\r\n\r\n")
            assert is_ended(connection)
    lines = capfd.readouterr().err.splitlines()
    assert 1 <= len(lines) <= 1 + (time.monotonic() - started) / LOGGED_SECONDS


def test_dropped_log_records_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(connections.time, "monotonic", lambda: now)
    throttle = LogThrottle()

    def logged(message: str) -> str | None:
        record = logging.LogRecord("x", logging.ERROR, "", 0, message, (), None)
        return record.getMessage() if throttle.filter(record) else None

    assert [logged("one"), logged("one"), logged("two"), logged("one")] == ["one", None, "two", None]
    now += LOGGED_SECONDS
    assert [logged("one"), logged("two")] == ["one (2 more like this before it)", "two"]


@pytest.mark.parametrize("proxies", [[], ["127.0.0.1"], ["10.0.0.0/8"]])
def test_only_named_proxies_are_trusted(proxies: list[str], start: Start) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        seen = f"{scope['client'][0]} {scope['scheme']}".encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": seen})

    address = start(app, proxies=proxies)
    headers = {"X-Forwarded-For": "192.0.2.7, 198.51.100.1", "X-Forwarded-Proto": "https"}
    seen = httpx.get(f"http://{address}/", headers=headers, timeout=FAR).text
    assert seen == ("198.51.100.1 https" if proxies == ["127.0.0.1"] else "127.0.0.1 http")


def test_there_is_an_openapi_document_and_no_page_with_foreign_scripts() -> None:
    with closing(TestClient(build_app(OneModel(Echo("classify"))))) as client:
        assert client.get("/docs").status_code == 404
        assert client.get("/openapi.json").status_code == 200
