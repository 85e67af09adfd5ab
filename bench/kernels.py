"""Our own kernels beside OpenVINO, behind the same server, with the same weights, in turn.

    python bench/kernels.py [seconds]              # of 16 clients in each round, 10 by default
    python bench/kernels.py seconds BUNDLE FILE    # another model that classifies; FILE: texts as of `tunewright batch`

BANKING77's 77 labels, a system prompt of 610 tokens that is prefilled once, tickets of 67 tokens, labels of one token,
SmolLM2-135M in int8, untuned, because tuning changes no time. OpenVINO's server is the same package without the
library. Both are up, and only one is asked at a time, so that both meet the same state of the machine. 16 clients warm
each up for the given time, until its memory has been used once. Then five times: 20 tickets by one client, then 16
clients for the given time. The clients share the machine's cores. Another model also answers the whole file in a batch
each time, the start of the command included.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from statistics import median

import httpx
import numpy as np
from breakdown import bundle, milliseconds
from footprint import started

import tunewright
from tunewright.core.artifacts import read_jsonl
from tunewright.inference.bundle import load_bundle
from tunewright.inference.runtimes.vnni.library import reason_against
from tunewright.serving.child import running_server

ROUNDS, ALONE, CLIENTS, STARTS = 5, 20, 16, 5
OURS, OPENVINO = "our own kernels", "OpenVINO"


@contextmanager
def package(folder: Path) -> Iterator[None]:
    """Processes that start meanwhile use this copy of the package."""
    os.environ["PYTHONPATH"] = str(folder)
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]


def ask(client: httpx.Client, texts: Iterator[str]) -> None:
    client.post("/v1/classify", json={"text": next(texts)}).raise_for_status()


async def together(address: str, texts: Iterator[str], seconds: float) -> float:
    """Answers a second to clients that each wait for an answer before the next question."""
    until, answered = time.perf_counter() + seconds, 0

    async def keep_asking(client: httpx.AsyncClient) -> None:
        nonlocal answered
        while time.perf_counter() < until:
            (await client.post("/v1/classify", json={"text": next(texts)})).raise_for_status()
            answered += 1

    async with httpx.AsyncClient(base_url=address, timeout=60) as client:
        began = time.perf_counter()
        await asyncio.gather(*(keep_asking(client) for _ in range(CLIENTS)))
    return answered / (time.perf_counter() - began)


def batch(model: Path, source: Path, lines: int, target: Path) -> float:
    """Answers a second of the command, its start included."""
    target.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tunewright", "batch", str(model), str(source), str(target)]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return lines / (time.perf_counter() - began)


def main(seconds: float, own: Sequence[Path]) -> None:
    if reason := reason_against():
        raise SystemExit(f"The kernels don't run here: {reason}.")
    here = Path(tunewright.__file__).parent
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as servers:
        if own:
            loaded, asked = load_bundle(own[0]), [row["text"] for row in read_jsonl(own[1])]
        else:
            loaded, asked = bundle(Path(scratch) / "bundle")
        homes = {OURS: here.parent, OPENVINO: Path(scratch) / "without"}
        shutil.copytree(here, homes[OPENVINO] / "tunewright", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
        starts, servers_at = {}, {}
        for name, home in homes.items():
            with package(home):
                starts[name] = [started(Path(sys.executable), loaded.folder) for _ in range(STARTS + 1)][1:]
                servers_at[name] = servers.enter_context(running_server(loaded.folder))
        texts = cycle(asked)
        alone: dict[str, list[float]] = {name: [] for name in homes}
        many: dict[str, list[float]] = {name: [] for name in homes}
        batches: dict[str, list[float]] = {name: [] for name in homes}
        for address in servers_at.values():
            asyncio.run(together(address, texts, seconds))
        for _ in range(ROUNDS):
            for name, address in servers_at.items():
                with httpx.Client(base_url=address, timeout=60) as client:
                    ask(client, texts)
                    alone[name] += [milliseconds(partial(ask, client, texts)) for _ in range(ALONE)]
                many[name].append(asyncio.run(together(address, texts, seconds)))
                if own:
                    with package(homes[name]):
                        batches[name].append(batch(*own, len(asked), Path(scratch) / "answered.jsonl"))
    print(f"| | one client: P50, P95 | {CLIENTS} clients | ready after | memory then |" + " batch |" * bool(own))
    places = 1 if own else 0
    for name in homes:
        quick, slow = np.percentile(alone[name], (50, 95))
        ready, memory = (median(each) for each in zip(*starts[name], strict=True))
        figures = [
            f"{quick:.{places}f}, {slow:.{places}f} ms",
            f"{median(many[name]):.1f} a second",
            f"{ready:.1f} s",
            f"{memory:.0f} MB",
            *([f"{median(batches[name]):,.0f} a second"] if own else []),
        ]
        print(f"| {name} | {' | '.join(figures)} |")
    ratio = median(theirs / own for own, theirs in zip(alone[OURS], alone[OPENVINO], strict=True))
    gain = median(own / theirs for own, theirs in zip(many[OURS], many[OPENVINO], strict=True))
    print(f"OpenVINO takes {ratio:.2f} times as long for one client, and answers 1 / {gain:.2f} as often for {CLIENTS}")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 10, [Path(each) for each in sys.argv[2:4]])
