"""Runs a command, and ends it with all its child processes when our parent ends, even by kill -9.

    python -m tunewright.inference.runtimes.vllm_guard COMMAND...       # standard input: a pipe that the parent holds

vLLM has several processes. If only the first is killed, its workers keep the memory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from threading import Thread

_SECONDS = 20.0
"""Seconds that the command has to end by itself."""


def main(command: list[str]) -> int:
    # Ctrl-C and SIGTERM are for the parent. When the parent ends, the pipe closes.
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    Thread(target=_end_with_pipe, args=(process,), daemon=True).start()
    code = process.wait()
    _kill_group(process)
    return code


def _end_with_pipe(process: subprocess.Popen[bytes]) -> None:
    sys.stdin.buffer.read()
    process.terminate()
    try:
        process.wait(_SECONDS)
    except subprocess.TimeoutExpired:
        _kill_group(process)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
