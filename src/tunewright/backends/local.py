"""Steps on this machine, each in a process of its own, so that its memory is free again when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tunewright.backends.ending import KILLED, killed
from tunewright.config import Spec
from tunewright.core.errors import ERROR_FILE, EXIT_INTERRUPTED, UserError
from tunewright.core.processes import oom_kills
from tunewright.pipeline.runner import Backend
from tunewright.pipeline.steps import Step

GRACE_SECONDS = 20
"""How long a step may take to end after Ctrl-C. After SIGTERM a training saves a checkpoint, and the sender of the
signal decides how long that may take."""


class LocalBackend:
    """Runs `python -m tunewright.pipeline.step` on this machine.

    Args:
        spec: the spec that the steps work on.
        spec_file: the file of that spec, which the steps read.
        ready: called once before the first step starts, with that step's arguments. It raises if the step must not run.
    """

    def __init__(self, spec: Spec, spec_file: Path, ready: Backend | None = None):
        self.spec, self.spec_file, self._ready = spec, spec_file, ready

    def __call__(self, step: Step, done: Mapping[str, Path], target: Path) -> None:
        """Run one step to its end.

        Raises:
            UserError: the step ended with an error (the message is the step's own), or `ready` raised it.
            KeyboardInterrupt: the step was interrupted.
        """
        if self._ready:
            self._ready(step, done, target)
            self._ready = None
        command = [
            sys.executable,
            "-m",
            "tunewright.pipeline.step",
            step.name,
            "--spec",
            str(self.spec_file),
            "--out",
            str(target),
        ]
        command += [part for name in step.inputs_of(self.spec) for part in ("--in", f"{name}={done[name]}")]
        error_file = self.spec_file.with_name("error.txt")
        kills = oom_kills()
        process = subprocess.Popen(command, env=os.environ | {"PYTHONUNBUFFERED": "1", ERROR_FILE: str(error_file)})
        try:
            with _sigterm_raised():
                code = process.wait()
        except BaseException as error:
            # Ctrl-C reaches the child as well; pass it on in case only this process was stopped.
            process.terminate()
            try:
                process.wait(None if isinstance(error, _Terminated) else GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
            raise
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        if code:
            raise _failure(step, code, error_file, kills)


class _Terminated(KeyboardInterrupt):
    """The process received SIGTERM."""


@contextmanager
def _sigterm_raised() -> Iterator[None]:
    """Inside the block, SIGTERM raises _Terminated. Only the main thread can set that; in another thread nothing
    changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(*_: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _failure(step: Step, code: int, error_file: Path, kills_before: int) -> UserError:
    if error_file.is_file():
        return UserError(error_file.read_text("utf-8"))
    if code in KILLED:
        return killed(step, kills_before)
    return UserError(
        f"The step {step.name} ended early: its exit code is {code}.",
        fix="Type the same command again to go on from there.",
    )
