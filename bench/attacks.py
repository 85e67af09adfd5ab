"""The attackers of `bench/soak.py --hostile`: so many of each kind, each at a fixed pace, on this machine alone.

    echo KEY | python bench/attacks.py PORT MODEL SECONDS     # says when it begins, and prints as JSON what came of it

An attacker sends a request, waits for what comes, and begins the next one when its time has come, so that it has one
under way at most. Bodies are made before the first is sent: sending them is nearly all that this process does.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1]))
from tests.documents import hostile

PATIENCE = 150.0
"""Seconds that an attacker waits for an answer; a server gives one 120."""
PIECE = 64 << 10
"""Bytes that are sent at a time."""
RATE = 4e6
"""Bytes a second that an attacker sends at most."""
GOLDEN = 0.618
"""Of its pace each attack begins so much later than the one before, so that they are spread evenly."""
CHAT, PLAIN = "/v1/chat/completions", "/v1/generate"


@dataclass(frozen=True)
class Target:
    port: int
    key: str
    """A good one: strangers are refused before anything of theirs is read."""


class Line:
    """A connection to the server; `async with` it."""

    def __init__(self, target: Target, buffer: int | None = None):
        self._target, self._buffer = target, buffer

    async def __aenter__(self) -> Line:
        connected = socket.socket()
        if self._buffer:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._buffer)
        connected.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(connected, ("127.0.0.1", self._target.port))
        except OSError:
            connected.close()
            raise
        self.reader, self._writer = await asyncio.open_connection(sock=connected, limit=self._buffer or PIECE)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def send(self, content: bytes) -> None:
        for start in range(0, len(content), PIECE):
            if start:
                await asyncio.sleep(PIECE / RATE)
            self._writer.write(content[start : start + PIECE])
            await self._writer.drain()

    async def status(self) -> str:
        """The answer's, once it is whole; it says so where there is none."""
        line = await self.reader.readline()
        while await self.reader.read(PIECE):
            pass
        words = line.decode("latin-1").split()
        return words[1] if len(words) > 1 else "ended"


def head(path: str, key: str, length: int | None, *more: str, method: str = "POST") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: a", f"Authorization: Bearer {key}", "Content-Type: application/json"]
    if length is not None:
        lines.append(f"Content-Length: {length}")
    return "".join(f"{line}\r\n" for line in (*lines, *more, "")).encode()


async def whole(target: Target, path: str, body: bytes, key: str | None = None) -> str:
    """Send a request at once. Returns the answer's status."""
    async with Line(target) as line:
        with suppress(ConnectionError):  # who is refused in the middle of a body may find the reason told
            await line.send(head(path, target.key if key is None else key, len(body), "Connection: close"))
            await line.send(body)
        return await line.status()


async def silent(target: Target) -> str:
    """Connect, and say nothing."""
    async with Line(target) as line:
        return await line.status()


async def dripped(target: Target, first: bytes, drop: bytes, every: float) -> str:
    """Send without an end, little at a time."""
    async with Line(target) as line:
        await line.send(first)
        answer = asyncio.create_task(line.status())
        try:
            while not answer.done():
                with suppress(ConnectionError):  # the answer says why
                    await line.send(drop)
                await asyncio.wait([answer], timeout=every)
            return answer.result()
        finally:
            answer.cancel()


async def slow_reader(target: Target) -> str:
    """Ask much at once, and read a hundred bytes a second of the answers. That the server has given up shows only when
    all that the kernel holds is read, so that it is usually the reader who gives up."""
    asked = head("/openapi.json", target.key, None, method="GET")
    async with Line(target, buffer=4096) as line:
        await line.send(asked * 50)
        while await line.reader.read(100):
            await asyncio.sleep(1)
        return "ended"


async def leaver(target: Target, body: bytes) -> str:
    """Go when the first word of an answer has come."""
    async with Line(target) as line:
        await line.send(head(CHAT, target.key, len(body)) + body)
        while data := await line.reader.readline():
            if data.startswith(b"HTTP/1.1 ") and b" 200 " not in data:
                return data.split()[1].decode()
            if data.startswith(b"data: ") and b'"content": "' in data and b'"content": ""' not in data:
                return "left"
        return "ended"


@dataclass(frozen=True)
class Attack:
    kind: str
    """Those of a kind are told of together."""
    name: str
    every: float
    """Seconds from the beginning of one to that of the next, or to the next connection where the last one held longer.
    """
    act: Callable[[Target], Awaitable[str]]
    size: int = 0
    """Bytes that are sent each time."""
    attackers: int = 1
    steady: float = 0.0
    """Bytes a second that each sends as long as its connection stands."""

    @property
    def bytes_a_second(self) -> float:
        return self.attackers * (self.size / self.every + self.steady)

    def told(self) -> str:
        often = f"{self.attackers} x every {self.every:g} s"
        return f"{self.kind}: {self.name}, {often}, {self.bytes_a_second / 1e3:,.1f} kB/s"


def sent(kind: str, name: str, every: float, path: str, body: bytes, key: str | None = None) -> Attack:
    return Attack(kind, name, every, partial(whole, path=path, body=body, key=key), len(body))


def document(name: str, file: str, content: bytes, every: float) -> Attack:
    said = {"document": {"name": file, "content": base64.b64encode(content).decode()}}
    return sent("document", name, every, PLAIN, json.dumps(said).encode())


def chat(model: str, **more: Any) -> bytes:
    said = {"model": model, "messages": [{"role": "user", "content": "Where is it?"}], **more}
    return json.dumps(said).encode()


def response_format(model: str, name: str, schema: Any, every: float) -> Attack:
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    return sent("response_format", name, every, CHAT, chat(model, response_format=wanted))


def attacks(model: str) -> list[Attack]:
    """All of them, and their paces, against a server of a model that generates."""
    confined = partial(response_format, model)
    itself = {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}
    slow_head, key = head(PLAIN, "KEY", None)[:-2], "tw-" + "x" * 43
    endless = head(PLAIN, "KEY", None, "Transfer-Encoding: chunked")
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"

    def dripping(name: str, count: int, first: bytes, drop: bytes, every: float) -> Attack:
        async def act(target: Target) -> str:
            return await dripped(target, first.replace(b"KEY", target.key.encode()), drop, every)

        return Attack("slow or silent", name, 5, act, len(first), count, len(drop) / every)

    return [
        document("PDF of nested forms", "a.pdf", hostile.nested_forms(), 60),
        document("PDF of packed texts", "a.pdf", hostile.flate_bomb(), 60),
        document("mail, subject of 100,000 encoded words", "a.eml", hostile.encoded_words(), 60),
        document("mail of 900 parts within each other", "a.eml", hostile.nested_parts(), 60),
        document("hOCR within hOCR", "a.hocr", hostile.nested_hocr(), 60),
        document("CRLF heads x 40", "a", b"Field: value\r\n" * 40, 10),
        confined("minLength 1,000,000", {"type": "string", "minLength": 1_000_000}, 5),
        confined("minItems 1,000,000", {"type": "array", "items": {"type": "integer"}, "minItems": 10**6}, 5),
        confined("$ref to itself", {"$ref": "#/$defs/a", "$defs": {"a": itself}}, 5),
        confined("const of 1 MB", {"const": "x" * 1_000_000}, 10),
        sent("JSON", "stop text of 1 MB", 10, CHAT, chat(model, stop="x" * 1_000_000)),
        sent("JSON", "lone surrogate", 5, PLAIN, b'{"text": "\\ud800"}'),
        sent("JSON", "NaN", 5, PLAIN, b'{"text": "a", "max_tokens": NaN}'),
        sent("JSON", "100,000 levels", 5, PLAIN, b'{"text": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        sent("body", "40 MiB", 30, PLAIN, bytes(40 << 20)),
        sent("body", "text of 20 MiB", 30, PLAIN, json.dumps({"text": "word " * (4 << 20)}).encode()),
        sent("body", "20 MiB of empty lists", 60, PLAIN, b'{"text": [' + b"[]," * ((20 << 20) // 3) + b"0]}"),
        sent("key", "wrong", 1, PLAIN, b'{"text": "a"}', key),
        sent("key", "none, and 20 MiB", 30, PLAIN, bytes(20 << 20), ""),
        Attack("slow or silent", "silent sockets", 5, silent, attackers=300),
        dripping("heads without an end", 50, slow_head, b"X-Slow: 1\r\n", 2),
        dripping("bodies a byte a second", 20, head(PLAIN, "KEY", 1000) + b'{"text": "', b"a", 1),
        dripping("bodies without an end", 4, endless, chunk, 0.25),
        Attack("slow or silent", "readers of 100 bytes a second", 5, slow_reader, 10_000, 10),
        Attack("leaving", "in the middle of an answer", 1, partial(leaver, body=chat(model, stream=True)), 200, 2),
    ]


@dataclass
class Came:
    """What came of an attack."""

    outcomes: Counter[str] = field(default_factory=Counter)
    most: float = 0.0
    """Seconds that the longest one took."""
    begun: list[float] = field(default_factory=list)
    """When each was begun, in seconds, of those that come less than once a second."""


async def attacker(attack: Attack, wait: float, target: Target, came: Came) -> None:
    """One of them, until it is cancelled.

    Args:
        wait: seconds before the first.
    """
    started = time.monotonic()
    outcomes = came.outcomes
    await asyncio.sleep(wait)
    while True:
        began = time.monotonic()
        if attack.attackers == 1 and attack.every > 1:
            came.begun.append(round(began - started, 1))
        try:
            async with asyncio.timeout(PATIENCE):
                outcomes[await attack.act(target)] += 1
        except TimeoutError:
            outcomes[f"given up after {PATIENCE:g} s"] += 1
        except OSError as error:
            outcomes["ended" if isinstance(error, ConnectionError) else type(error).__name__] += 1
        came.most = max(came.most, time.monotonic() - began)
        await asyncio.sleep(max(attack.every / 10, began + attack.every - time.monotonic()))


async def main(target: Target, model: str, seconds: float) -> None:
    planned = attacks(model)
    print("ready", flush=True)
    found = {f"{attack.kind}: {attack.name}": Came() for attack in planned}
    tasks = []
    for number, (attack, came) in enumerate(zip(planned, found.values(), strict=True)):
        for one in range(attack.attackers):
            part = (one / attack.attackers + number * GOLDEN) % 1
            tasks.append(asyncio.create_task(attacker(attack, part * attack.every, target, came)))
    await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    failures = [each for each in await asyncio.gather(*tasks, return_exceptions=True) if isinstance(each, Exception)]
    if failures:
        raise failures[0]
    told = {
        name: {"outcomes": came.outcomes, "most_s": came.most, "begun_s": came.begun} for name, came in found.items()
    }
    print(json.dumps({"outcomes": told, "cpu_seconds": time.process_time()}))


if __name__ == "__main__":
    asyncio.run(main(Target(int(sys.argv[1]), sys.stdin.readline().strip()), sys.argv[2], float(sys.argv[3])))
