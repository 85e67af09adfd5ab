"""Whether a server withstands: mixed load with kill -9, slow clients, broken and giant bodies, for half an hour.

    python bench/soak.py ADAPTERS [--minutes 30]   # a folder of adapters that classify
    python bench/soak.py --hostile [BUNDLE]        # one that generates; by default a tiny one, which it makes

Each adapter and the base are first asked alone; under load every answer must be that one, to the last bit of its
confidence. Besides whole and streamed requests there are clients that leave in the middle, that send or read slowly,
that send nonsense, 40 MB, or a wrong key, and more of them than the server takes. It is killed at times, or told to
end, and started again; so is who collects what it keeps. In the end: no wrong answer to anyone, no status that was
not to be expected, every answer and feedback that was acknowledged as captured lies in the journals and in the store
once, and memory does not grow within a life.

With --hostile, honest clients ask a server at a fixed pace, first alone for some minutes, then while `attacks.py` sends
it all that may harm it; see `siege.py`.

It exits with 1 where one of these fails.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from soak_server import Server

from tunewright.serving.adapters import AdapterStore
from tunewright.serving.captures import Feedback, read_captures

TEXTS = 24
"""Different requests."""
CLIENTS = 12
LIFE = (120, 200)
"""Seconds that a server lives, but for the last one, which lives longer."""
LAST = 600
SETTLED = 60
"""Seconds after which a server has all the memory it needs."""
GROWTH = 0.05
"""By which memory may differ between then and the end of a life."""
SPEC = """
name: soak
task: {kind: classify, instruction: "Which?\\n{labels}", labels: [a, b]}
data: {train: train.jsonl}
"""
"""Of a project whose servers keep their captures beside it."""
COLLECT = [sys.executable, "-m", "tunewright", "monitor", "collect"]
WORDS = [
    "card",
    "transfer",
    "pending",
    "refund",
    "cash",
    "top-up",
    "fee",
    "abroad",
    "PIN",
    "lost",
    "stolen",
    "exchange",
    "rate",
    "arrived",
    "identity",
    "declined",
]


class Soak:
    def __init__(self, server: Server, names: list[str], base: str):
        self.server, self.names, self.base = server, names, base
        rng = random.Random(0)
        self.texts = [" ".join(rng.choices(WORDS, k=rng.choice((4, 12, 40, 160)))) for _ in range(TEXTS)]
        self.known: dict[tuple[str, str], Any] = {}
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.acknowledged: set[str] = set()
        self.fed_back: Counter[str] = Counter()
        self.up = True
        self.over = False

    def body(self, model: str, text: str, *, stream: bool = False) -> dict[str, Any]:
        return {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 12, "stream": stream}

    async def learn(self, client: httpx.AsyncClient) -> None:
        """What each is told alone."""
        for text in self.texts:
            for name in self.names:
                self.known[name, text] = self.told(
                    await client.post("/v1/classify", json={"model": name, "text": text})
                )
            reply = await client.post("/v1/chat/completions", json=self.body(self.base, text))
            self.known[self.base, text] = reply.json()["choices"][0]["message"]["content"]

    def told(self, reply: httpx.Response) -> Any:
        said = reply.json()
        if said.get("captured"):
            self.acknowledged.add(said["id"])
        return said["label"], said["confidence"]

    def check(self, model: str, text: str, found: Any) -> None:
        self.counts["answers"] += 1
        if found != self.known[model, text]:
            self.wrong.append(f"{model}: {text[:40]!r} -> {found}, alone {self.known[model, text]}")

    def expect(self, reply: httpx.Response, *statuses: int) -> bool:
        """Whether it is an answer; what it may be besides is counted."""
        self.counts[str(reply.status_code)] += 1
        if reply.status_code not in (200, 429, *statuses):
            self.wrong.append(f"status {reply.status_code}: {reply.text[:200]}")
        return reply.status_code == 200

    async def classify(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        name, text = rng.choice(self.names), rng.choice(self.texts)
        reply = await client.post("/v1/classify", json={"model": name, "text": text})
        if self.expect(reply):
            self.check(name, text, self.told(reply))
            if rng.random() < 0.2:
                identity = reply.json()["id"]
                said = await client.post("/v1/feedback", json={"id": identity, "model": name, "right": True})
                if self.expect(said):
                    self.fed_back[identity] += 1

    async def stream(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        """Some leave in the middle, some read slowly."""
        text, leaves, slow = rng.choice(self.texts), rng.random() < 0.3, rng.random() < 0.2
        pieces = []
        async with client.stream("POST", "/v1/chat/completions", json=self.body(self.base, text, stream=True)) as reply:
            if reply.status_code != 200:
                await reply.aread()
                self.expect(reply)
                return
            async for line in reply.aiter_lines():
                if line.startswith("data: {"):
                    said = json.loads(line.removeprefix("data: "))
                    if "error" in said:
                        self.wrong.append(f"in a stream: {said}")
                        return
                    pieces += [choice["delta"].get("content") or "" for choice in said["choices"]]
                    if leaves and len(pieces) > 3:
                        self.counts["left"] += 1
                        return
                    if slow:
                        await asyncio.sleep(0.3)
                elif line == "data: [DONE]":
                    self.counts["200"] += 1
                    self.check(self.base, text, "".join(pieces))
                    return
        raise httpx.ReadError("a stream that ended early")

    async def leave(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        """Go before the answer."""
        body = {"model": rng.choice(self.names), "text": rng.choice(self.texts)}
        try:
            await client.post("/v1/classify", json=body, timeout=rng.uniform(0.005, 0.2))
        except httpx.TimeoutException:
            self.counts["left"] += 1

    async def nonsense(self, client: httpx.AsyncClient, rng: random.Random) -> None:
        match rng.randrange(6):
            case 0:
                self.expect(await client.post("/v1/classify", content=rng.randbytes(200)), 400)
            case 1:
                self.expect(await client.post("/v1/classify", json={"model": "none", "text": "a"}), 404)
            case 2:
                self.expect(
                    await client.post("/v1/classify", json={"model": self.names[0], "text": "word " * 9000}), 400
                )
            case 3:
                try:  # the server may close before all is sent
                    self.expect(await client.post("/v1/classify", content=bytes(40 << 20)), 413)
                except (httpx.WriteError, httpx.ReadError):
                    self.counts["closed"] += 1
                    if not self.server.runs:
                        raise
            case 4:
                headers = {"Authorization": "Bearer tw-wrong"}
                self.expect(await client.post("/v1/classify", json={"text": "a"}, headers=headers), 401)
            case 5:
                said = self.body(self.names[0], "a") | {"messages": [{"role": "assistant", "content": "a"}]}
                self.expect(await client.post("/v1/chat/completions", json=said), 400)

    async def slow_sender(self, rng: random.Random) -> None:
        """A request that comes byte by byte, and may stop."""
        text, name = rng.choice(self.texts[:4]), self.names[0]
        body = json.dumps({"model": name, "text": text}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        try:
            head = "".join(f"{key}: {value}\r\n" for key, value in self.server.headers.items())
            writer.write(f"POST /v1/classify HTTP/1.1\r\nHost: a\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode())
            stops = rng.random() < 0.5
            for number in range(0, len(body), 16):
                if stops and number > 32:
                    self.counts["stopped sending"] += 1
                    return
                writer.write(body[number : number + 16])
                await writer.drain()
                await asyncio.sleep(0.05)
            head_line = await reader.readline()
            if b" 200 " in head_line:
                self.counts["slow senders answered"] += 1
        finally:
            writer.close()

    async def client(self, number: int) -> None:
        rng = random.Random(number)
        while not self.over:
            if not self.up:
                await asyncio.sleep(0.1)
                continue
            life = self.server.began
            try:
                async with httpx.AsyncClient(
                    base_url=self.server.address, headers=self.server.headers, timeout=120
                ) as client:
                    for _ in range(rng.randint(1, 20)):
                        kind = rng.choices(
                            (self.classify, self.stream, self.leave, self.nonsense, None), (10, 3, 2, 2, 0.5)
                        )[0]
                        await (kind(client, rng) if kind else self.slow_sender(rng))
                        await asyncio.sleep(rng.uniform(0, 0.2))
            except (httpx.TransportError, OSError) as error:
                self.counts["broken off"] += 1
                if self.up and life == self.server.began and self.server.runs:
                    await asyncio.sleep(0.5)  # it may be just being killed
                    if self.up and life == self.server.began:
                        self.wrong.append(f"broken off without a kill: {error!r}")

    async def lives(self, minutes: float) -> None:
        """Kill the server and start it again until the time is over."""
        deadline = time.monotonic() + 60 * minutes
        rng = random.Random(1)
        while (left := deadline - time.monotonic()) > 0:
            last = left < LAST + LIFE[1]
            until = time.monotonic() + (left if last else rng.uniform(*LIFE))
            while time.monotonic() < until:
                self.server.measure()
                await asyncio.sleep(2)
            if last:
                break
            self.up = False
            how = rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM))
            self.counts[how.name] += 1
            await asyncio.to_thread(self.server.end, how)
            await self.server.start()
            self.up = True
        self.over = True

    async def collecting(self, project: Path) -> None:
        """Collect into the store, killed at any moment."""
        rng = random.Random(2)
        while not self.over:
            process = subprocess.Popen([*COLLECT, str(project)], stdout=subprocess.DEVNULL)
            await asyncio.sleep(rng.uniform(1, 8))
            if process.poll() is None:
                self.counts["collectors killed"] += 1
            process.kill()
            process.wait()
            await asyncio.sleep(10)

    def stored(self, project: Path) -> list[str]:
        """Collect what is left. What is wrong with the store then: acknowledged and not there, or counted twice."""
        subprocess.run([*COLLECT, str(project)], check=True)
        with sqlite3.connect(project / "monitor.db") as database:
            captures = {identity for (identity,) in database.execute("SELECT id FROM captures")}
            said = Counter(identity for (identity,) in database.execute("SELECT capture_id FROM reviews"))
            (counted,) = database.execute("SELECT sum(captured) FROM tallies").fetchone()
        lost = sorted(self.acknowledged - captures)
        lost += [each for each, count in self.fed_back.items() if said[each] != count]
        if counted != len(captures):
            lost.append(f"the tallies count {counted} of {len(captures)} captures")
        print(f"{len(captures)} captures and {said.total()} feedbacks in the store, {len(lost)} lost or doubled")
        return lost

    def verdict(self, project: Path) -> bool:
        kept: Counter[str] = Counter()
        feedback: Counter[str] = Counter()
        for entry in read_captures(self.server.captures):
            (feedback if isinstance(entry, Feedback) else kept)[entry.id] += 1
        lost = [each for each in self.acknowledged if kept[each] != 1]
        lost += [each for each, count in self.fed_back.items() if feedback[each] != count]
        lost += self.stored(project)
        print(f"{self.counts['answers']} answers, {len(self.wrong)} wrong; {dict(self.counts)}")
        print(
            f"{len(self.acknowledged)} answers and {self.fed_back.total()} feedbacks acknowledged as captured, "
            f"{len(lost)} lost or doubled ({kept.total()} and {feedback.total()} kept)"
        )
        grown = []
        for life in self.server.lives:
            seconds, megabytes, *_ = np.array(life).T
            settled = megabytes[seconds > SETTLED]
            if len(settled) > 20:
                tenth = max(5, len(settled) // 10)
                grown.append(np.median(settled[-tenth:]) / np.median(settled[:tenth]) - 1)
                print(
                    f"a life of {seconds[-1]:.0f} s: {np.median(settled[:tenth]):.0f} MB after {SETTLED} s, "
                    f"{np.median(settled[-tenth:]):.0f} MB at its end, {megabytes.max():.0f} at most"
                )
        self.server.log.seek(0)
        traces = self.server.log.read().count("Traceback")
        print(f"{traces} errors in the log")
        for each in self.wrong[:10]:
            print("WRONG", each)
        return not (self.wrong or lost or traces or max(grown) > GROWTH)


async def run(folder: Path, minutes: float) -> bool:
    store = AdapterStore(folder)
    with tempfile.TemporaryDirectory() as scratch:
        server = Server(folder, Path(scratch), "--limit-concurrency", "8")
        await server.start()
        try:
            assert store.base, "the folder has adapters"
            soak = Soak(server, store.names(), store.base.name)
            async with httpx.AsyncClient(base_url=server.address, headers=server.headers, timeout=120) as client:
                await soak.learn(client)
            print(f"{len(soak.known)} requests answered alone", flush=True)
            project = Path(scratch)
            (project / "tunewright.yaml").write_text(SPEC, "utf-8")
            clients = (soak.client(number) for number in range(CLIENTS))
            await asyncio.gather(soak.lives(minutes), soak.collecting(project), *clients)
            return soak.verdict(project)
        finally:
            server.end(signal.SIGKILL)


def main() -> bool:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", metavar="ADAPTERS or BUNDLE")
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--quiet", type=float, default=5, help="minutes without attackers, before --hostile ones")
    options = parser.parse_args()
    if options.hostile:
        from siege import besieged

        return asyncio.run(besieged(options.folder, options.minutes, options.quiet))
    if options.folder is None:
        parser.error("a folder of adapters is needed")
    return asyncio.run(run(options.folder, options.minutes))


if __name__ == "__main__":
    sys.exit(not main())
