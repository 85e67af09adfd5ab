"""Run one step in several processes of this machine, which divide every batch among them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from tunewright.core.errors import ERROR_FILE
from tunewright.core.processes import SHARES, free_port
from tunewright.core.progress import say
from tunewright.core.threads import SETTING, threads

_GRACE_SECONDS = 15
"""The time for the other processes to end after one has failed; they notice at their next exchange."""


def launch(arguments: Sequence[str], count: int) -> int:
    """Run `python -m tunewright.pipeline.step` with these arguments in `count` processes, each with its share of the
    threads.

    SIGTERM is passed on to all of them. They end with this process. If one fails, the others are killed.

    Returns:
        The exit code of the first process that failed, else 0.
    """
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        error_files = [Path(folder) / str(rank) for rank in range(count)]
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "tunewright.pipeline.step", *arguments],
                env=os.environ | _environment(rank, count, port) | {ERROR_FILE: str(error_files[rank])},
            )
            for rank in range(count)
        ]
        with _forward_signals(started):
            failed = _first_failure(started)
        if failed is None:
            return 0
        if error_files[failed].is_file():
            report_error(error_files[failed].read_text("utf-8"))
        code = started[failed].returncode
        return code if code > 0 else 128 - code


def end(code: int) -> NoReturn:
    """End this process. A member of a torch process group leaves the group first and then skips Python's cleanup,
    because threads that the group leaves behind sometimes abort a process that has finished its work."""
    # There is nothing left to interrupt, and a signal now would end the cleanup in a traceback.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _environment(rank: int, count: int, port: int) -> dict[str, str]:
    """The variables that torch.distributed and Tunewright read."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        # The machine's own name may not resolve.
        "GLOO_SOCKET_IFNAME": "lo",
        SETTING: str(max(1, threads() // count)),
        SHARES: str(count),
    }


@contextmanager
def _forward_signals(processes: Sequence[subprocess.Popen[bytes]]) -> Iterator[None]:
    """Forward the signals that end a step to these processes, instead of ending this process."""

    def forward(signum: int, _: object) -> None:
        for process in processes:
            # The terminal itself sends Ctrl-C to all processes.
            if signum == signal.SIGTERM and process.poll() is None:
                process.terminate()

    before = {signum: signal.signal(signum, forward) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _first_failure(processes: Sequence[subprocess.Popen[bytes]]) -> int | None:
    """Wait for all processes and return the number of the first that failed. A failure ends the others."""
    failed, deadline = None, 0.0
    while any(process.poll() is None for process in processes):
        if failed is None:
            failed = next((n for n, process in enumerate(processes) if process.poll()), None)
            deadline = time.monotonic() + _GRACE_SECONDS
        elif time.monotonic() > deadline:
            for process in processes:
                process.kill()
        time.sleep(0.05)
    return next((n for n, process in enumerate(processes) if process.returncode), None) if failed is None else failed


def report_error(error: str) -> None:
    """Write an error to the parent's error file if there is one, else to standard error."""
    if os.environ.get(ERROR_FILE):
        Path(os.environ[ERROR_FILE]).write_text(error, "utf-8")
    else:
        say(f"Error: {error}")
