"""Running the server in a child process, for tests and the parity step."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

from tunewright.core.errors import UserError
from tunewright.core.processes import free_port, machine_memory

_READY_SECONDS = 900.0
"""Time that the process has to become ready: vLLM takes minutes."""
_ENDING_SECONDS = 1.0


@contextmanager
def running_server(folder: Path, *options: str) -> Iterator[str]:
    """Run a server on a free port of this machine, in a child process. Yields its address.

    Args:
        options: further command-line options of the server.

    Raises:
        UserError: the server did not become ready (with the last line of its log), or was killed during a request.
    """
    with tempfile.TemporaryFile("w+") as log:
        port = free_port()
        process = subprocess.Popen(
            [sys.executable, "-m", "tunewright.serving.server", str(folder), "--port", str(port), *options],
            stderr=log,
            stdout=log,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_ready(process, address, log)
            yield address
        except httpx.TransportError:
            with contextlib.suppress(subprocess.TimeoutExpired):  # the process may take a moment to end
                process.wait(_ENDING_SECONDS)
            if process.poll() == -signal.SIGKILL:
                raise _killed() from None
            raise
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_ready(process: subprocess.Popen[bytes], address: str, log: IO[str]) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{address}/ready", timeout=2).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    if process.poll() == -signal.SIGKILL:
        raise _killed()
    log.seek(0)
    lines = log.read().strip().splitlines()
    raise UserError(
        "The server did not become ready.", why=lines[-1] if lines else None, fix="Try: tunewright serve BUNDLE"
    )


def _killed() -> UserError:
    return UserError(
        "The server of the bundle was killed.",
        why=f"Most often memory has run out: there are {machine_memory() / 2**30:.1f} GiB here.",
        fix="Halve the weights' size with export.precision=int4, or use a machine with more memory.",
    )
