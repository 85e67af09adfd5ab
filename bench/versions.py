"""This server beside that of an earlier commit, with the same bundle, in turn.

    python bench/versions.py BUNDLE FILE COMMIT [seconds]     # FILE: texts as of `tunewright batch`; 60 s by default

Both are up, and one at a time is asked: 60 texts by one client, then 120 by 16, on connections of their own that are
kept. Figures are medians over the turns. The clients write bytes and read them, because an HTTP library would take as
much of the two cores as the server. Starts: the median of seven, in turn.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import cycle
from pathlib import Path
from statistics import median

from footprint import started
from kernels import CLIENTS, package

import tunewright
from tunewright.core.artifacts import read_jsonl
from tunewright.inference.bundle import read_info
from tunewright.serving.child import running_server

ALONE, TOGETHER, STARTS = 60, 120, 7
HERE = "here"
_COMPILE = "src/tunewright/inference/runtimes/vnni/compile.py"


Figures = tuple[float, float]
"""(milliseconds of one client, answers a second to all)."""


class Client:
    """A connection to a server that is kept.

    Args:
        kind: of the task, which is the name of its route.
    """

    def __init__(self, kind: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._kind, self._reader, self._writer = kind, reader, writer

    async def ask(self, text: str) -> None:
        body = json.dumps({"text": text}).encode()
        head = f"POST /v1/{self._kind} HTTP/1.1\r\nhost: here\r\ncontent-type: application/json"
        head += f"\r\ncontent-length: {len(body)}"
        self._writer.write(f"{head}\r\n\r\n".encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        if not answer.startswith(b"HTTP/1.1 200"):
            raise SystemExit(answer.decode())
        await self._reader.readexactly(int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))


async def connected(kind: str, address: str, count: int) -> list[Client]:
    host, _, port = address.removeprefix("http://").partition(":")
    return [Client(kind, *await asyncio.open_connection(host, int(port))) for _ in range(count)]


async def turn(clients: list[Client], texts: Iterator[str]) -> Figures:
    times = []
    for _ in range(ALONE):
        began = time.perf_counter()
        await clients[0].ask(next(texts))
        times.append(1000 * (time.perf_counter() - began))
    asked = iter([next(texts) for _ in range(TOGETHER)])

    async def keep_asking(client: Client) -> None:
        for text in asked:
            await client.ask(text)

    began = time.perf_counter()
    await asyncio.gather(*map(keep_asking, clients))
    return median(times), TOGETHER / (time.perf_counter() - began)


async def compare(kind: str, servers: dict[str, str], texts: Iterator[str], seconds: float) -> dict[str, list[Figures]]:
    """The figures of every turn of each server."""
    clients = {name: await connected(kind, address, CLIENTS) for name, address in servers.items()}
    for each in clients.values():
        for _ in range(3):
            await turn(each, texts)
    turns: dict[str, list[Figures]] = {name: [] for name in servers}
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        for name, each in clients.items():
            turns[name].append(await turn(each, texts))
    return turns


def main(bundle: Path, file: Path, commit: str, seconds: float) -> None:
    texts = cycle([row["text"] for row in read_jsonl(file)])
    here = Path(tunewright.__file__).parents[1]
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        then = Path(scratch) / commit
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", then, commit], cwd=here, check=True)
        stack.callback(subprocess.run, ["git", "worktree", "remove", "--force", then], cwd=here, check=True)
        subprocess.run([sys.executable, then / _COMPILE], check=True)
        homes = {HERE: here, commit: then / "src"}
        starts: dict[str, list[float]] = {name: [] for name in homes}
        servers = {}
        for number in range(STARTS + 1):
            for name, home in homes.items():
                with package(home):
                    took, _ = started(Path(sys.executable), bundle)
                starts[name] += [took] if number else []
        for name, home in homes.items():
            with package(home):
                servers[name] = stack.enter_context(running_server(bundle))
        turns = asyncio.run(compare(read_info(bundle).task.kind, servers, texts, seconds))
    print(f"| | one client | {CLIENTS} clients | ready after |")
    for name, figures in turns.items():
        alone, many = (median(each) for each in zip(*figures, strict=True))
        print(f"| {name} | {alone:.2f} ms | {many:.0f} a second | {median(starts[name]):.2f} s |")


if __name__ == "__main__":
    os.environ.pop("OMP_NUM_THREADS", None)
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], float(sys.argv[4]) if len(sys.argv) > 4 else 60)
