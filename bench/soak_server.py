"""The server under load in `bench/soak.py`, started and ended as often as one likes, and what it takes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import httpx

from tunewright.auth.keys import add_key
from tunewright.core.processes import free_port

_TICKS = os.sysconf("SC_CLK_TCK")


class Taken(NamedTuple):
    """What a server takes at a moment."""

    seconds: float
    """Since it was started."""
    megabytes: float
    children: float
    """Megabytes of the processes that it started, together."""
    descriptors: int
    log: int
    """Bytes."""


class Server:
    """Keeps its captures and asks for keys.

    Args:
        options: further ones of its command line.
    """

    def __init__(self, folder: Path, scratch: Path, *options: str):
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.captures = scratch / "captures"
        self._keys = scratch / "keys.json"
        self.headers = self.key("soak")
        self._command = [
            sys.executable,
            "-m",
            "tunewright",
            "serve",
            str(folder),
            "--port",
            str(self.port),
            "--keys",
            str(self._keys),
            "--captures",
            str(self.captures),
            *options,
        ]
        self.log = (scratch / "log.txt").open("w+")
        self.lives: list[list[Taken]] = []

    def key(self, name: str) -> dict[str, str]:
        """The headers of another asker."""
        return {"Authorization": f"Bearer {add_key(self._keys, name)}"}

    async def start(self) -> None:
        self.began = time.monotonic()
        self.lives.append([])
        self.process = subprocess.Popen(self._command, stderr=self.log)
        async with httpx.AsyncClient() as client:
            while True:
                try:
                    if (await client.get(f"{self.address}/ready")).is_success:
                        return
                except httpx.TransportError:
                    await asyncio.sleep(0.05)

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(60)

    @property
    def runs(self) -> bool:
        return self.process.poll() is None

    def measure(self) -> None:
        try:
            own = _megabytes(self.process.pid)
            descriptors = len([*Path(f"/proc/{self.process.pid}/fd").iterdir()])
        except (OSError, StopIteration):
            return
        children = _summed(_megabytes, self.process.pid)
        self.lives[-1].append(
            Taken(time.monotonic() - self.began, own, children, descriptors, os.fstat(self.log.fileno()).st_size)
        )

    def cpu_seconds(self) -> tuple[float, float]:
        """Of the server, and of the processes that it started and that have ended, or run now."""
        fields = _stat(self.process.pid)
        ended = sum(map(int, fields[13:15]))
        running = _summed(lambda pid: sum(map(int, _stat(pid)[11:13])), self.process.pid)
        return sum(map(int, fields[11:13])) / _TICKS, (ended + running) / _TICKS


def _summed(of: Callable[[int], float], pid: int) -> float:
    """Over the processes that another one started; those that end meanwhile do not count."""
    total = 0.0
    for child in _children(pid):
        with suppress(OSError, StopIteration):
            total += of(child)
    return total


def _megabytes(pid: int) -> float:
    """Raises OSError or StopIteration where the process has ended."""
    status = Path(f"/proc/{pid}/status").read_text("utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1e3


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat that stand behind the name: state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()


def _children(pid: int) -> list[int]:
    """The processes that another one started, and that have not ended."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            state, parent, *_ = _stat(int(each.name))
        except OSError:
            continue
        if int(parent) == pid and state not in "ZX":
            found.append(int(each.name))
    return found
