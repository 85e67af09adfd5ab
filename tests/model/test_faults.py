"""Faults in the middle of real steps: kill, Ctrl-C, full disk. The next run goes on; nothing half-written is used."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.model.conftest import REPOSITORY, SHORT, ShortRun, tunewright
from tunewright.artifacts import read_manifest
from tunewright.pipeline import STEPS
from tunewright.spec import load_spec

pytestmark = pytest.mark.model

STEPS_LONG = ["train.members=2", "train.max_steps=4", "train.checkpoints=3", "train.batch_size=4"]


def start_training(project: Path, *, checkpoint: str) -> subprocess.Popen[str]:
    """Start `tunewright train` in a process group of its own and wait until `checkpoint` is on disk."""
    command = [str(Path(sys.executable).with_name("tunewright")), "train", str(project), *STEPS_LONG]
    process = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A test run started in the background ignores SIGINT, and its children would inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 240
    while not list(project.glob(f"runs/.train-*.partial/checkpoints/{checkpoint}/trainer_state.json")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "examples" / "tickets", tmp_path / "tickets", ignore=shutil.ignore_patterns("runs"))
    return tmp_path / "tickets"


def test_a_killed_training_resumes_and_ends_as_if_never_killed(project: Path) -> None:
    process = start_training(project, checkpoint="member-1/checkpoint-2")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(project.glob("runs/train-*")), "a half-written output must not be taken for whole"
    resumed = tunewright("train", str(project), *STEPS_LONG)
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from member-1/checkpoint-" in resumed.stderr
    straight = tunewright("train", str(project), *STEPS_LONG, "--runs", str(project / "straight"))
    assert straight.returncode == 0, straight.stderr
    resumed_to, straight_to = (next(project.glob(f"{folder}/train-*")) for folder in ("runs", "straight"))
    first, second = read_manifest(resumed_to), read_manifest(straight_to)
    assert first and second
    assert first.result["last_loss"] == pytest.approx(second.result["last_loss"], abs=1e-3)
    assert first.result["validation_loss"] == pytest.approx(second.result["validation_loss"], abs=1e-3)


@pytest.mark.parametrize(
    ("name", "sign"), [("export", "merged"), ("evaluate", "answers/few_shot.jsonl"), ("parity", ".fingerprint")]
)
def test_another_killed_step_leaves_nothing_that_looks_whole_and_runs_again(
    short_run: ShortRun, tmp_path: Path, name: str, sign: str
) -> None:
    """Killed when `sign` is in the unfinished output; what is whole in there, an arm's answers, is kept."""
    spec = load_spec(short_run.project, SHORT).save(tmp_path)
    inputs = [word for source in STEPS[name].inputs for word in ("--in", f"{source}={short_run.latest(source)}")]
    target, partial = tmp_path / "out", tmp_path / ".out.partial"
    command = [sys.executable, "-m", "tunewright.step", name, "--spec", str(spec), *inputs, "--out", str(target)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (partial / sign).exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    arms = {file.name: file.stat().st_mtime_ns for file in partial.glob("answers/*.jsonl")}
    assert (name == "evaluate") == bool(arms)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert read_manifest(target)
    assert not partial.exists()
    assert all((target / "answers" / arm).stat().st_mtime_ns == time_ for arm, time_ in arms.items())


def test_ctrl_c_leaves_a_message_and_no_output(project: Path) -> None:
    process = start_training(project, checkpoint="member-0/checkpoint-1")
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from there" in stderr
    assert "Traceback" not in stderr
    assert not list(project.glob("runs/train-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_named_and_nothing_half_written_is_left(short_run: ShortRun, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(small)], check=False)
    if mounted.returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        command = [
            sys.executable, "-m", "tunewright.step", "export", "--spec", str(short_run.project),
            "--in", f"train={short_run.latest('train')}", "--out", str(small / "export"),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "The disk is full" in done.stderr
        assert not (small / "export").exists()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
