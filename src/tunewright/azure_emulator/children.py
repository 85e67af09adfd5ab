"""The emulator's processes, which end together with it, however it ends.

A guard process reads from a pipe whose other end this process holds. If this process dies without notice, such as by a
kill -9, the guard ends the processes that it started, and removes its folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_NOTES = "children"
_DONE = b"done"


def started(
    folder: Path, command: Sequence[str], output: Any, environment: Mapping[str, str], work: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own.

    Args:
        folder: the emulator's folder.
        output: the file for standard output and error.
        work: the working directory.
    """
    process = subprocess.Popen(
        command, cwd=work, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
    )
    with (folder / _NOTES).open("a", encoding="ascii") as notes:
        notes.write(f"{process.pid}\n")
    return process


def stop(process: subprocess.Popen[bytes], by: signal.Signals) -> None:
    """Send a signal to a process's whole group, if the process still runs."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, by)


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Inside the block, processes that are `started` for this folder end even if this process is killed."""
    reading, writing = os.pipe()
    guard = subprocess.Popen([sys.executable, __file__, str(folder)], stdin=reading, start_new_session=True)
    os.close(reading)
    try:
        yield
    finally:
        os.write(writing, _DONE)
        os.close(writing)
        guard.wait()


def main() -> None:
    """Run the guard process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder = Path(sys.argv[1])
    if sys.stdin.buffer.read() == _DONE:
        return
    notes = folder / _NOTES
    for line in notes.read_text("ascii").splitlines() if notes.is_file() else ():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(int(line), signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
