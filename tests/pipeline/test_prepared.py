"""That a step which is a fork ends as one that is not: see `tests.prepared`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import unalike, write_project
from tunewright.core.artifacts import read_manifest, write_jsonl
from tunewright.core.errors import EXIT_INTERRUPTED, EXIT_USER

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]


def begun(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tunewright.pipeline.step", *arguments], stderr=subprocess.PIPE, text=True
    )


def forks(parent: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{parent}/task/{parent}/children").read_text("ascii").split()]


@pytest.fixture
def ready(prepared_steps: int) -> int:
    """The process that is forked, once it takes orders."""
    assert begun("--help").wait(120) == 0
    return prepared_steps


@pytest.fixture
def waiting(ready: int, tmp_path: Path) -> subprocess.Popen[str]:
    """A step that reads for a minute."""
    project = write_project(tmp_path / "project")
    rows = ({"text": f"{number} {unalike(str(number % 500))}", "label": "billing"} for number in range(400_000))
    write_jsonl(project / "train.jsonl", rows)
    process = begun("check", "--spec", str(project), "--out", str(tmp_path / "out"))
    end = time.monotonic() + 60
    while not forks(ready):
        assert time.monotonic() < end
        time.sleep(0.05)
    return process


def test_a_step_is_a_fork(ready: int, tmp_path: Path) -> None:
    project = write_project(tmp_path / "project")
    process = begun("check", "--spec", str(project), "--out", str(tmp_path / "out"))
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 0, said
    manifest = read_manifest(tmp_path / "out")
    assert manifest
    assert manifest.peak_memory_mb > 400, "torch is imported"
    assert not forks(ready)


@pytest.mark.usefixtures("ready")
def test_its_words_and_its_exit_code_are_the_steps_own(tmp_path: Path) -> None:
    process = begun("check", "--spec", str(tmp_path), "--out", str(tmp_path / "out"))
    assert "There is no spec here" in process.communicate(timeout=60)[1]
    assert process.returncode == EXIT_USER


def test_signals_reach_it(waiting: subprocess.Popen[str]) -> None:
    time.sleep(1)  # for the step to begin
    waiting.terminate()
    waiting.communicate(timeout=60)
    assert waiting.returncode == EXIT_INTERRUPTED


def test_a_fork_that_is_killed_is_told_so(waiting: subprocess.Popen[str], ready: int) -> None:
    (fork,) = forks(ready)
    os.kill(fork, signal.SIGKILL)
    waiting.communicate(timeout=60)
    assert waiting.returncode == -signal.SIGKILL


def test_it_ends_with_who_waits_for_it(waiting: subprocess.Popen[str], ready: int) -> None:
    waiting.kill()
    waiting.communicate()
    end = time.monotonic() + 20
    while forks(ready):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_other_surroundings_make_a_process_of_its_own(
    prepared_steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    project = write_project(tmp_path / "project")
    process = begun("check", "--spec", str(project), "--out", str(tmp_path / "out"))
    process.communicate(timeout=60)
    manifest = read_manifest(tmp_path / "out")
    assert manifest
    assert manifest.peak_memory_mb < 400
    assert not forks(prepared_steps)
