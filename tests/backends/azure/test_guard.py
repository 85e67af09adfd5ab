"""An emulator that is killed leaves no process and no file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PROGRAM = """
import os, sys, subprocess
from pathlib import Path
from tunewright.azure_emulator.children import guarded, started
folder = Path(sys.argv[1])
with guarded(folder):
    child = started(folder, ["sleep", "600"], subprocess.DEVNULL, os.environ)
    print(child.pid, flush=True)
    sys.stdin.read()
"""


def begun(folder: Path) -> tuple[subprocess.Popen[str], int]:
    folder.mkdir()
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert program.stdout
    return program, int(program.stdout.readline())


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text("ascii").split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_a_kill_takes_everything_with_it(tmp_path: Path) -> None:
    program, child = begun(tmp_path / "emulator")
    assert is_running(child)
    program.kill()
    program.wait()
    end = time.monotonic() + 20
    while (is_running(child) or (tmp_path / "emulator").exists()) and time.monotonic() < end:
        time.sleep(0.05)
    assert not is_running(child)
    assert not (tmp_path / "emulator").exists()


def test_an_orderly_end_leaves_the_ending_to_those_who_began(tmp_path: Path) -> None:
    program, child = begun(tmp_path / "emulator")
    program.communicate("")
    assert program.returncode == 0
    assert is_running(child)
    assert (tmp_path / "emulator").exists()
    os.killpg(child, signal.SIGKILL)
