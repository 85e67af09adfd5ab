"""Whether the gateway's memory stays flat while streams break off: 50 clients for an hour.

    python bench/gateway_soak.py                 # --minutes 60 --rate 60 --json bench/runs/gateway_soak.json

A process of its own plays the upstream: whole answers and streams of a second, some slow, some broken off in the middle
of an event, 1 % 429 and 0.5 % 500. The gateway before it is the real one. It captures, and has one job in cascade mode
(BANKING77, the linear model of `bench/gateway.py`). The clients ask at a gentle pace. Some leave a stream in the
middle, leave before the first byte, break an upload off, or read slowly. Those that leave ask for answers that would
take ten minutes. So a request that the gateway forgets to cancel is still under way at the upstream in the end.

Every ten seconds the gateway's memory, descriptors and threads go to the JSON file, which a killed run leaves behind.
Trends are Theil-Sen slopes with their 95 % interval, over the time after the first sixth. It exits with 1 if

- memory (all of it, or its anonymous part), descriptors or threads grow: the interval lies above 0, and the slope is
  more than 3 % an hour. Runs of a few minutes may fail here, because their slopes are those of the warm-up;
- an honest client got anything but its whole answer, or a refusal by the upstream;
- after all clients have left, requests are under way at the upstream or at the gateway, or connections are open;
- a whole answer is not captured, once and with its text;
- the gateway logged an error, or took the job back.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
from aiohttp import web
from scipy.stats import theilslopes

from gateway import HEAD, HOME, asked_of, connects, make_job, rows
from tunewright.core.processes import free_port
from tunewright.gateway.exchanges import read_exchanges
from tunewright.serving.forms import ChatForm, Form, ResponseForm

CLIENTS = 50
SAMPLE_SECONDS = 10.0
REST_SECONDS = 70.0
"""After the last client: the gateway keeps idle connections for 30 seconds, and looks for them as often."""
SPARE = 4
"""Descriptors that the gateway may have at rest beyond those before the first request, such as the store's."""
GROWTH = 0.03
"""The growth in an hour above which something is not flat."""
BUSY, BROKEN = 0.01, 0.005
"""The shares of requests that the upstream refuses with 429 and with 500."""
PLAYED = "played by the bench"
"""In every refusal of the upstream, so that the gateway's own are told from them."""
ANSWER_SECONDS = {"slow": 2.0, "silent": 600.0}
"""Before the first byte; else `USUAL_SECONDS`."""
USUAL_SECONDS = 0.08
EVENT_SECONDS = 0.03
ENDLESS_EVENTS = 20_000
WORDS = 30
"""Of an answer; each is an event of a stream."""
LARGE = 40_000
"""Words of a large answer: half a megabyte, more than the system's buffers hold for a slow reader."""
READ_BYTES, READ_SECONDS = 16 << 10, 0.04
"""A slow reader takes so much at a time, and waits so long between."""
KINDS = {
    "whole": 26,
    "stream": 22,
    "job": 16,
    "the upstream breaks off": 4,
    "leaves a stream": 16,
    "leaves before the first byte": 8,
    "breaks an upload off": 5,
    "reads slowly": 3,
}
"""What a client does, and how often."""
TRENDS = {"rss_mb": "MB", "anonymous_mb": "anonymous MB", "descriptors": "descriptors", "threads": "threads"}


class Sample(NamedTuple):
    """The gateway at a moment."""

    minutes: float
    requests: int
    """That clients began so far."""
    rss_mb: float
    anonymous_mb: float
    descriptors: int
    threads: int
    under_way: int
    """Requests that the upstream believes to be under way."""


# The upstream


def words_of(identity: str, count: int = WORDS) -> list[str]:
    """The answer to a request that is not the job's."""
    return [f"{identity} " if number == 0 else f"word{number:05} " for number in range(count)]


class PlayedApi:
    """The upstream. A request's metadata says how it is answered."""

    def __init__(self) -> None:
        self._truth = {row["text"]: row["label"] for row in rows("test")}
        self._chance = random.Random(0)
        self._under_way = 0

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/under-way":
            return web.json_response(self._under_way)
        self._under_way += 1
        try:
            return await self._answer(request)
        finally:
            self._under_way -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        drawn = self._chance.random()
        if drawn < BUSY + BROKEN:
            return web.json_response({"error": {"message": PLAYED}}, status=429 if drawn < BUSY else 500)
        play = asked["metadata"]["play"]
        await asyncio.sleep(ANSWER_SECONDS.get(play, USUAL_SECONDS * self._chance.uniform(0.5, 1.5)))
        form, pieces = self._form(request.path, asked), self._pieces(asked)
        usage = len(json.dumps(asked)) // 4, len(pieces)
        if not asked.get("stream"):
            return web.json_response(form.whole("".join(pieces), "stop", usage))
        return await self._stream(request, form, pieces, usage, play)

    def _form(self, path: str, asked: dict[str, Any]) -> Form:
        identity, model = asked["metadata"]["id"], asked["model"]
        if path.endswith("/responses"):
            return ResponseForm(identity, model, asked)
        return ChatForm(identity, model, with_usage="stream_options" in asked)

    def _pieces(self, asked: dict[str, Any]) -> list[str]:
        label = self._truth.get(asked["messages"][-1]["content"]) if "messages" in asked else None
        if label:
            return [label]
        return words_of(asked["metadata"]["id"], LARGE if asked["metadata"]["play"] == "large" else WORDS)

    async def _stream(
        self, request: web.Request, form: Form, pieces: Sequence[str], usage: tuple[int, int], play: str
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        with suppress(ConnectionResetError):  # whoever asked has left
            await response.prepare(request)
            async for event in _events(form, pieces, usage, play):
                await response.write(event.encode())
            if play == "break" and request.transport:
                request.transport.close()
        return response


async def _events(form: Form, pieces: Sequence[str], usage: tuple[int, int], play: str) -> AsyncIterator[str]:
    for event in form.begin():
        yield event
    repeated = pieces * (ENDLESS_EVENTS // len(pieces)) if play == "endless" else pieces
    for piece in repeated[: len(pieces) // 2] if play == "break" else repeated:
        yield form.piece(piece)
        await asyncio.sleep(EVENT_SECONDS)
    if play == "break":
        yield form.piece("half")[:20]
        return
    for event in form.end("stop", usage, {}):
        yield event


def serve_upstream(port: int) -> None:
    """Be the upstream until killed."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", PlayedApi())
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, handler_cancellation=True)


# The clients


class Asked(NamedTuple):
    id: str
    path: str
    body: dict[str, Any]


class Clients:
    """The clients, and what became of their requests.

    Args:
        rate: requests a second of all clients together.
    """

    def __init__(self, port: int, rate: float):
        self._port, self._pace = port, CLIENTS / rate
        self._texts = [row["text"] for row in rows("test")]
        self._trust = ssl.create_default_context()  # once, because each takes milliseconds
        self.over = False
        self.begun = 0
        self.counts: Counter[str] = Counter()
        self.unexpected: list[str] = []
        self.got: dict[str, int | None] = {}
        """The whole answers, by their requests' ids: a check sum of the text; None: it is too large for captures."""

    async def run(self) -> None:
        """Ask until it is over."""
        await asyncio.gather(*map(self._client, range(CLIENTS)))

    async def _client(self, number: int) -> None:
        chance = random.Random(number)
        due = time.monotonic() + chance.uniform(0, self._pace)
        address = f"http://127.0.0.1:{self._port}"
        async with httpx.AsyncClient(base_url=address, headers=HEAD, timeout=60, verify=self._trust) as http:
            while not self.over:
                await asyncio.sleep(due - time.monotonic())
                (kind,) = chance.choices(list(KINDS), list(KINDS.values()))
                self.begun += 1
                try:
                    await self._ask(kind, http, chance)
                except (httpx.TransportError, OSError) as error:
                    self.unexpected.append(f"{kind}: {error!r}")
                due = max(due + self._pace * chance.uniform(0.5, 1.5), time.monotonic())

    async def _ask(self, kind: str, http: httpx.AsyncClient, chance: random.Random) -> None:
        match kind:
            case "whole":
                await self._whole(http, self._request(chance, "slow" if chance.random() < 0.05 else "usual"))
            case "stream":
                await self._stream(http, self._request(chance, "usual", stream=True))
            case "job":
                await self._job(http, chance)
            case "the upstream breaks off":
                await self._broken_stream(http, self._request(chance, "break", stream=True))
            case "leaves a stream":
                asked = self._request(chance, "endless", stream=True)
                await self._stream(http, asked, leave_after=chance.randint(1, WORDS))
            case "leaves before the first byte":
                await self._leave(http, self._request(chance, "silent"), chance.uniform(0.01, 0.5))
            case "breaks an upload off":
                await self._break_upload(chance)
            case "reads slowly":
                await self._read_slowly(self._request(chance, "large"))

    def _request(self, chance: random.Random, how: str, *, stream: bool = False) -> Asked:
        """A request that belongs to no job.

        Args:
            how: the upstream answers; see `PlayedApi`.
        """
        identity = str(self.begun)
        more: dict[str, Any] = {"metadata": {"id": identity, "play": how}, "stream": stream}
        text = f"Tell me of number {identity}: {' '.join(chance.sample(self._texts, chance.randint(1, 30)))}"
        if chance.random() < 0.3:
            return Asked(identity, "/v1/responses", {"model": "gpt-6-luna", "input": text, **more})
        if stream and chance.random() < 0.5:
            more["stream_options"] = {"include_usage": True}
        messages = [{"role": "user", "content": text}]
        return Asked(identity, "/v1/chat/completions", {"model": "gpt-6-luna", "messages": messages, **more})

    async def _job(self, http: httpx.AsyncClient, chance: random.Random) -> None:
        """A request of the job. One in eight clients leaves while the own model thinks."""
        identity, stream = str(self.begun), chance.random() < 0.4
        body = asked_of(chance.choice(self._texts)) | {"metadata": {"id": identity, "play": "usual"}, "stream": stream}
        asked = Asked(identity, "/v1/chat/completions", body)
        if chance.random() < 0.125:
            await self._leave(http, asked, chance.uniform(0, 0.02))
        elif stream:
            await self._stream(http, asked)
        else:
            await self._whole(http, asked)

    async def _whole(self, http: httpx.AsyncClient, asked: Asked) -> None:
        reply = await http.post(asked.path, json=asked.body)
        if not self._is_answer(reply):
            return
        body = reply.json()
        chat = "choices" in body
        self._note(asked, body["choices"][0]["message"]["content"] if chat else body["output"][0]["content"][0]["text"])

    async def _stream(self, http: httpx.AsyncClient, asked: Asked, leave_after: int | None = None) -> None:
        pieces: list[str] = []
        async with http.stream("POST", asked.path, json=asked.body) as reply:
            if reply.status_code != 200:
                await reply.aread()
            if not self._is_answer(reply):
                return
            async for line in reply.aiter_lines():
                piece, has_ended = read_line(line)
                pieces += [piece] if piece else []
                if has_ended:
                    self._note(asked, "".join(pieces))
                    return
                if leave_after is not None and len(pieces) >= leave_after:
                    self.counts["left in a stream"] += 1
                    return
        self.unexpected.append(f"the stream {asked.id} ended without its end")

    async def _broken_stream(self, http: httpx.AsyncClient, asked: Asked) -> None:
        """A stream that the upstream breaks off: the gateway has to pass the break on."""
        try:
            await self._stream(http, asked)
        except (httpx.RemoteProtocolError, httpx.ReadError):
            self.counts["broken off by the upstream"] += 1

    async def _leave(self, http: httpx.AsyncClient, asked: Asked, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await http.post(asked.path, json=asked.body)
        except TimeoutError:
            self.counts["left before the first byte"] += 1

    async def _break_upload(self, chance: random.Random) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(head_of("/v1/chat/completions", 100_000) + b'{"model": "gpt-6-luna", ' + b" " * 50_000)
        await asyncio.sleep(chance.uniform(0, 0.1))
        if chance.random() < 0.5:
            writer.transport.abort()
        else:
            writer.close()
        self.counts["uploads broken off"] += 1

    async def _read_slowly(self, asked: Asked) -> None:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, READ_BYTES)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self._port))
        reader, writer = await asyncio.open_connection(sock=connection, limit=READ_BYTES)
        body = json.dumps(asked.body).encode()
        writer.write(head_of(asked.path, len(body)) + body)
        received = b""
        while piece := await reader.read(READ_BYTES):
            received += piece
            await asyncio.sleep(READ_SECONDS)
        writer.close()
        self._check_slow(asked, received)

    def _check_slow(self, asked: Asked, received: bytes) -> None:
        head, _, body = received.partition(b"\r\n\r\n")
        if PLAYED.encode() in body:
            self.counts["refused by the upstream"] += 1
        elif head.startswith(b"HTTP/1.1 200 ") and "".join(words_of(asked.id, LARGE)).encode() in body:
            self.counts["answers to slow readers"] += 1
            self.got[asked.id] = None
        else:
            self.unexpected.append(f"a slow reader got {len(body)} bytes after {head[:40]!r}")

    def _is_answer(self, reply: httpx.Response) -> bool:
        if reply.status_code == 200:
            self.counts["own answers"] += reply.headers.get("x-tunewright-answered-by") == "own"
            return True
        if reply.status_code in (429, 500) and PLAYED in reply.text:
            self.counts["refused by the upstream"] += 1
        else:
            self.unexpected.append(f"status {reply.status_code}: {reply.text[:200]}")
        return False

    def _note(self, asked: Asked, text: str) -> None:
        """Note a whole answer."""
        self.counts["whole answers"] += 1
        is_job = len(asked.body.get("messages", ())) == 2
        if not text if is_job else text != "".join(words_of(asked.id)):
            self.unexpected.append(f"the answer to {asked.id} is {text[:80]!r}")
        self.got[asked.id] = zlib.crc32(text.encode())


def head_of(path: str, length: int) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "host: a", "connection: close", f"content-length: {length}"]
    lines += [f"{name}: {value}" for name, value in HEAD.items()]
    return "\r\n".join([*lines, "", ""]).encode()


def read_line(line: str) -> tuple[str, bool]:
    """(the text in a line of a stream, whether the stream has ended)."""
    if not line.startswith("data: "):
        return "", False
    data = line.removeprefix("data: ")
    if data == "[DONE]":
        return "", True
    event = json.loads(data)
    if "type" in event:
        is_text, has_ended = (event["type"] == f"response.{name}" for name in ("output_text.delta", "completed"))
        return event["delta"] if is_text else "", has_ended
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"]), False


# What is measured


@contextmanager
def started(words: Sequence[str], port: int, folder: Path, log: Path) -> Iterator[int]:
    """A server's process id, once it takes connections."""
    with log.open("w") as file:
        process = subprocess.Popen([sys.executable, *words], cwd=folder, stdout=file, stderr=file)
    try:
        while not connects(port):
            if process.poll() is not None:
                sys.exit(log.read_text("utf-8")[-2000:])
            time.sleep(0.1)
        yield process.pid
    finally:
        process.terminate()
        process.wait(60)


def prepare(folder: Path, upstream: int) -> None:
    """Write the gateway's settings, and put the job's project beside them."""
    make_job()
    shutil.copytree(HOME / "project", folder / "bank", symlinks=True)
    (folder / "gateway.yaml").write_text(
        f"upstreams: {{openai: {{url: 'http://127.0.0.1:{upstream}/v1'}}}}\n"
        "capture: {folder: captures}\njobs: {bank: {project: bank, mode: cascade}}\n",
        "utf-8",
    )


def measure(pid: int, minutes: float, requests: int, under_way: int) -> Sample:
    own = Path(f"/proc/{pid}")
    status, memory = (own / "status").read_text("utf-8"), (own / "smaps_rollup").read_text("utf-8")

    def number(name: str, text: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+)", text, re.MULTILINE)
        assert found
        return int(found[1])

    resident, anonymous = number("VmRSS", status) / 1024, number("Anonymous", memory) / 1024
    descriptors = len(list((own / "fd").iterdir()))
    return Sample(minutes, requests, resident, anonymous, descriptors, number("Threads", status), under_way)


class Soak:
    """One run.

    Args:
        file: where samples are written.
    """

    def __init__(self, pid: int, clients: Clients, upstream: int, gateway: int, file: Path):
        self._pid, self._clients, self._file = pid, clients, file
        self._upstream, self._gateway = f"http://127.0.0.1:{upstream}", f"http://127.0.0.1:{gateway}"
        self._began = time.monotonic()
        self.samples: list[Sample] = []
        self.faults: list[str] = []

    async def run(self, minutes: float) -> None:
        """Let the clients ask for so long, and look once more when all have left."""
        async with httpx.AsyncClient(timeout=60) as http:
            before = await self._sample(http)
            asking = asyncio.create_task(self._clients.run())
            while time.monotonic() < self._began + 60 * minutes and not asking.done():
                await asyncio.sleep(SAMPLE_SECONDS)
                self.samples.append(await self._sample(http))
                self._write()
            self._clients.over = True
            await asking
            await asyncio.sleep(REST_SECONDS)
            await self._look_at_rest(http, before)

    async def _sample(self, http: httpx.AsyncClient) -> Sample:
        under_way = (await http.get(f"{self._upstream}/under-way")).json()
        return measure(self._pid, (time.monotonic() - self._began) / 60, self._clients.begun, under_way)

    def _write(self) -> None:
        clients = self._clients
        found = {"clients": CLIENTS, "counts": clients.counts, "unexpected": clients.unexpected[:100]}
        found["samples"] = [sample._asdict() for sample in self.samples]
        self._file.write_text(json.dumps(found, indent=1), "utf-8")

    async def _look_at_rest(self, http: httpx.AsyncClient, before: Sample) -> None:
        """Whether anything is held though nobody waits for it."""
        metrics = (await http.get(f"{self._gateway}/metrics", headers={"connection": "close"})).text
        (there,) = re.findall(r"^tunewright_gateway_under_way (\S+)", metrics, re.MULTILINE)
        rest = await self._sample(http)
        for name in ("rss_mb", "descriptors", "threads"):
            print(f"{name} at rest: {getattr(before, name):,.0f} before, {getattr(rest, name):,.0f} after")
        if rest.under_way or float(there):
            self.faults.append(f"under way after all have left: {rest.under_way} at the upstream, {there} here")
        if rest.descriptors > before.descriptors + SPARE:
            self.faults.append(f"{rest.descriptors} descriptors at rest, {before.descriptors} before")


# The verdict


def table(samples: Sequence[Sample]) -> None:
    """Print a twelfth of the run a line: five minutes of an hour."""
    print(f"{'minutes':>8}{'requests':>10}{'MB':>8}{'anonymous':>11}{'descriptors':>13}{'threads':>9}{'upstream':>10}")
    for number in np.unique(np.linspace(0, len(samples) - 1, 13).round().astype(int)):
        minutes, requests, resident, anonymous, descriptors, threads, under_way = samples[number]
        print(
            f"{minutes:8.1f}{requests:10,}{resident:8.1f}{anonymous:11.1f}{descriptors:13}{threads:9}{under_way:10}",
            flush=True,
        )


def growing(samples: Sequence[Sample]) -> list[str]:
    """Print the trends. What grows."""
    settled, found = samples[len(samples) // 6 :], []
    hours = [sample.minutes / 60 for sample in settled]
    for name, unit in TRENDS.items():
        values = [float(getattr(sample, name)) for sample in settled]
        slope, _, low, high = theilslopes(values, hours, 0.95)
        share = slope / float(np.median(values))
        line = f"{slope:+.2f} {unit} an hour ({low:+.2f} to {high:+.2f}), {share:+.1%} of {np.median(values):.1f}"
        print(line)
        if low > 0 and share > GROWTH:
            found.append(f"it grows: {line}")
    return found


def not_captured(captures: Path, got: dict[str, int | None]) -> list[str]:
    """The whole answers that are not captured, once and with the text that the client got."""
    kept: Counter[str] = Counter()
    for exchange in read_exchanges(captures):
        identity = ((exchange.request or {}).get("metadata") or {}).get("id")
        if identity in got and not exchange.is_audit and exchange.ending == "whole":
            expected = got[identity]
            kept[identity] += expected is None or expected == zlib.crc32(exchange.choices[0].text.encode())
    print(f"{len(got):,} whole answers, {sum(kept[each] == 1 for each in got):,} of them captured")
    return [f"captured {kept[each]} times: {each}" for each in got if kept[each] != 1]


def logged(log: Path) -> list[str]:
    lines = log.read_text("utf-8").splitlines()
    return [line for line in lines if re.search(r"Traceback|ERROR|Error|failed|taken back|can't", line)]


def main(minutes: float, rate: float, file: Path) -> bool:
    upstream, gateway = free_port(), free_port()
    file.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-soak-")))
        prepare(folder, upstream)
        played = [str(Path(__file__).resolve()), "--upstream", str(upstream)]
        stack.enter_context(started(played, upstream, folder, folder / "upstream.log"))
        words = ["-m", "tunewright", "gateway", "gateway.yaml", "--port", str(gateway)]
        pid = stack.enter_context(started(words, gateway, folder, folder / "gateway.log"))
        clients = Clients(gateway, rate)
        soak = Soak(pid, clients, upstream, gateway, file)
        asyncio.run(soak.run(minutes))
        table(soak.samples)
        faults = [*growing(soak.samples), *soak.faults, *not_captured(folder / "captures", clients.got)]
        faults += [*clients.unexpected, *logged(folder / "gateway.log")]
    print(", ".join(f"{count:,} {what}" for what, count in sorted(clients.counts.items())))
    if not clients.counts["own answers"]:
        faults.append("the own model answered nothing")
    print("\n".join([f"It does not hold, {len(faults)} faults:", *faults[:20]]) if faults else "All of it holds.")
    return not faults


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=float, default=60, help="requests a second of all clients together")
    parser.add_argument("--json", type=Path, default=HOME.parent / "gateway_soak.json")
    parser.add_argument("--upstream", type=int, help="only play the upstream, at this port")
    options = parser.parse_args()
    if options.upstream:
        serve_upstream(options.upstream)
    else:
        sys.exit(not main(options.minutes, options.rate, options.json))
