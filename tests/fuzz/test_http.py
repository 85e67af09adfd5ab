"""Raw bytes to a real server: it goes on answering honest requests, and its log holds no trace."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from hypothesis import strategies as st

from tests.fuzz.linear import linear_bundle
from tests.fuzz.mutation import NASTY, mutated, names, seeds
from tests.fuzz.running import Input
from tunewright.core.processes import free_port

PATHS = (
    "/v1/classify",
    "/v1/models",
    "/health",
    "/metrics",
    "/openapi.json",
    "/v1/%63lassify",
    "//v1/classify",
    "/v1/../v1/models",
    "*",
    "http://[::1/",
    "/\xff",
    "/%ff%00",
    "/?" + "a=b&" * 500,
    "/" + "a" * 70_000,
)
FIELDS = (
    "Host: a",
    "Content-Type: application/json",
    "Authorization: Bearer \xff",
    "Connection: close",
    "Connection: keep-alive",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: identity",
    "Content-Length: 3",
    "Content-Length: 0",
    "Content-Length: 3, 4",
    "Content-Length: +3",
    "Expect: 100-continue",
    "Upgrade: websocket",
    "Upgrade: h2c",
    "Accept-Encoding: \0",
    "X-A: " + "b" * 20_000,
    "X B: c",
    ": d",
    "Host",
    " folded: e",
    "Content-Encoding: gzip",
    "Range: bytes=0-",
    "Sec-WebSocket-Key: a",
    "Sec-WebSocket-Version: 13",
)
BODIES = (
    b"",
    b'{"text": "a"}',
    b'd\r\n{"text": "a"}\r\n0\r\n\r\n',
    b"0\r\n\r\n",
    b"-1\r\n",
    b"ffffffffffffffffff\r\na",
    b"3;a=b\r\nabc\r\n",
    b"0\r\nX: y\r\n\r\n",
    b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n" * 3,
)
HEADS = st.tuples(
    st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "CONNECT", "PRI", "get", "", "A" * 300]),
    st.sampled_from(PATHS),
    st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", ""]),
    st.lists(st.sampled_from(FIELDS), max_size=5),
    st.sampled_from(["\r\n", "\r\n", "\n", "\r"]),
    st.sampled_from([*BODIES, *NASTY]),
)


@dataclass
class Server:
    port: int
    process: subprocess.Popen[bytes]
    log: Path
    honest: httpx.Client

    def check(self, name: str, content: bytes) -> None:
        """Bytes in one piece; `slow` ones in two; `gone` ones without the second."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as sent:
            try:
                half = len(content) // 2 if name in ("slow", "gone") else len(content)
                sent.sendall(content[:half])
                if name == "slow":
                    time.sleep(0.01)
                    sent.sendall(content[half:])
                if name != "gone":
                    sent.settimeout(0.05)
                    self._judge(sent.recv(1 << 16))
            except (TimeoutError, ConnectionError):
                pass
        reply = self.honest.post("/v1/classify", json={"text": "my parcel"})
        assert reply.status_code == 200, reply.text
        assert self.process.poll() is None
        assert b"Traceback" not in self.log.read_bytes(), self.log.read_text("utf-8", "replace")[-3000:]

    def _judge(self, said: bytes) -> None:
        if said:
            version, status = said.split(b" ", 2)[:2]
            assert version in (b"HTTP/1.1", b"HTTP/1.0") and int(status) < 500, said[:300]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    bundle, log, port = linear_bundle(folder / "bundle"), folder / "log", free_port()
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tunewright.serving.server",
                str(bundle),
                "--port",
                str(port),
                "--captures",
                str(folder / "kept"),
            ],
            stderr=stream,
            stdout=stream,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
    try:
        deadline = time.monotonic() + 240
        while b"is ready at" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=120) as honest:
            yield Server(port, process, log, honest)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("seed", seeds("http"), ids=names("http"))
def test_kept(seed: Input, server: Server, keep: Callable[..., None]) -> None:
    keep(server.check, seed)


def test_mutated_requests(server: Server, fuzz: Callable[..., None]) -> None:
    ways = st.sampled_from(["whole", "whole", "slow", "gone"])
    fuzz(server.check, st.tuples(ways, mutated("http")).map(lambda both: (both[0], both[1][1])), 40)


def test_heads_of_known_parts(server: Server, fuzz: Callable[..., None]) -> None:
    def written(parts: tuple[str, str, str, list[str], str, bytes]) -> Input:
        method, path, version, fields, end, body = parts
        return "whole", end.join([f"{method} {path} {version}", *fields, "", ""]).encode("latin-1") + body

    fuzz(server.check, HEADS.map(written), 40)
