"""Faults in the middle of real steps: kill, Ctrl-C, full disk. The next run goes on; nothing half-written is used."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import tunewright as tw
from tests.conftest import REPOSITORY, tunewright, wait_for_checkpoint, wait_for_file, write_project
from tests.fixtures.short_run import SHORT, ShortRun
from tunewright.config import load_spec
from tunewright.core.artifacts import read_manifest
from tunewright.core.errors import EXIT_INTERRUPTED, EXIT_USER
from tunewright.pipeline.steps import STEPS

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

STEPS_LONG = [
    "model=smollm2-135m",
    "data.validation_fraction=0.01",
    "train.num_seeds=2",
    "train.max_steps=4",
    "train.num_checkpoints=3",
    "train.batch_size=4",
    "train.num_evaluations=1",
]


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
    wait_for_checkpoint(process, project, f"runs/.train-*.partial/checkpoints/{checkpoint}")
    return process


def step_command(run: ShortRun, name: str, spec: Path, target: Path) -> list[str]:
    """The command line of one step, which reads what that run left."""
    inputs = [word for source in STEPS[name].inputs for word in ("--in", f"{source}={run.latest(source)}")]
    return [sys.executable, "-m", "tunewright.pipeline.step", name, "--spec", str(spec), *inputs, "--out", str(target)]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "examples" / "tickets", tmp_path / "tickets", ignore=shutil.ignore_patterns("runs"))
    return tmp_path / "tickets"


def test_a_killed_training_resumes_and_ends_as_if_never_killed(project: Path) -> None:
    process = start_training(project, checkpoint="member-1/checkpoint-2")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(project.glob("runs/train-*")), "a half-written output must not be taken for whole"
    resumed = tunewright("train", str(project), *STEPS_LONG, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from member-1/checkpoint-" in resumed.stderr
    straight = tunewright("train", str(project), *STEPS_LONG, "--runs", str(project / "straight"))
    assert straight.returncode == 0, straight.stderr
    resumed_to, straight_to = (next(project.glob(f"{folder}/train-*")) for folder in ("runs", "straight"))
    first, second = read_manifest(resumed_to), read_manifest(straight_to)
    assert first and second
    assert first.result["last_loss"] == pytest.approx(second.result["last_loss"], abs=1e-6)
    assert_same_adapter(resumed_to, straight_to)
    assert (resumed_to / "curve.jsonl").read_bytes() == (straight_to / "curve.jsonl").read_bytes()


def assert_same_adapter(left: Path, right: Path) -> None:
    import torch
    from safetensors.torch import load_file

    ours, theirs = (load_file(run / "adapter" / "adapter_model.safetensors") for run in (left, right))
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        torch.testing.assert_close(theirs[name], value, atol=1e-6, rtol=0)


@pytest.fixture
def tiny_training(make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path) -> list[str]:
    """The arguments of a train step of four steps on a tiny model, measured after the second and the last."""
    train = {"max_steps": 4, "max_length": 512, "num_evaluations": 2, "num_checkpoints": 0, "batch_size": 8}
    project = write_project(tmp_path / "project", model=str(make_tiny_model("llama3")[1]), train=train)
    split = tw.split(tw.load_spec(project))
    return ["train", "--spec", str(project), "--in", f"split={split}", "--out", str(tmp_path / "out")]


def test_a_machine_taken_away_while_measuring_is_not_kept_waiting(
    tiny_training: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tunewright.pipeline import step
    from tunewright.training.loop.validation import ValidationPart

    def endless(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(ValidationPart, "score", endless)
    assert step.main(tiny_training) == EXIT_INTERRUPTED
    assert list(tmp_path.glob(".out.partial/checkpoints/member-0/checkpoint-2"))
    monkeypatch.undo()
    assert step.main(tiny_training) == 0
    told = capsys.readouterr().err
    assert "resuming from member-0/checkpoint-2" in told
    assert [line.split(":")[0] for line in told.splitlines() if "validation accuracy" in line] == [
        "  step 2",
        "  step 4",
    ]


def test_a_fault_after_the_last_step_loses_no_training(
    tiny_training: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tunewright.pipeline import step
    from tunewright.training import steps

    def full(*_: object) -> None:
        raise RuntimeError("the memory is full")

    monkeypatch.setattr(steps, "load_adapter", full)
    assert step.main(tiny_training) == EXIT_USER
    assert (tmp_path / ".out.partial" / "checkpoints" / "member-0" / "adapter").is_dir()
    monkeypatch.undo()
    assert "step 4: validation" in capsys.readouterr().err
    assert step.main(tiny_training) == 0
    assert "step 4: validation" not in capsys.readouterr().err, "it was not trained again"


def test_a_machine_taken_away_leaves_a_checkpoint_of_its_last_step(short_run: ShortRun, tmp_path: Path) -> None:
    """SIGTERM to the step, as a cloud sends it to a job; no regular checkpoint is due."""
    changes = ["train.num_seeds=1", "train.max_steps=6", "train.num_checkpoints=0", "train.batch_size=4"]
    spec = load_spec(short_run.project, [*SHORT, *changes]).save(tmp_path)
    target, partial = tmp_path / "out", tmp_path / ".out.partial"
    command = step_command(short_run, "train", spec, target)
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    for line in process.stderr:
        if line.startswith("  step 3:"):
            process.terminate()
            break
    _, said = process.communicate(timeout=120)
    assert process.returncode == EXIT_INTERRUPTED, said
    (checkpoint,) = partial.glob("checkpoints/member-0/checkpoint-*")
    assert int(checkpoint.name.split("-")[1]) in (3, 4)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert f"resuming from member-0/{checkpoint.name}" in again.stderr
    straight = subprocess.run([*command[:-1], str(tmp_path / "straight")], capture_output=True, text=True, check=False)
    assert straight.returncode == 0, straight.stderr
    assert_same_adapter(target, tmp_path / "straight")


@pytest.mark.parametrize(
    ("name", "sign"),
    [
        ("export", "merged"),
        pytest.param("evaluate", "answers/few_shot.jsonl", marks=pytest.mark.nightly),
        ("parity", ".fingerprint"),
    ],
)
def test_another_killed_step_leaves_nothing_that_looks_whole_and_runs_again(
    short_run: ShortRun, tmp_path: Path, name: str, sign: str
) -> None:
    """Killed when `sign` is in the unfinished output; what is whole in there, a candidate's answers, is kept."""
    spec = load_spec(short_run.project, SHORT).save(tmp_path)
    target, partial = tmp_path / "out", tmp_path / ".out.partial"
    command = step_command(short_run, name, spec, target)
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True, text=True)
    wait_for_file(process, partial, sign)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not target.exists()
    candidates = {file.name: file.stat().st_mtime_ns for file in partial.glob("answers/*.jsonl")}
    assert (name == "evaluate") == bool(candidates)
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert read_manifest(target)
    assert not partial.exists()
    assert all((target / "answers" / candidate).stat().st_mtime_ns == time_ for candidate, time_ in candidates.items())


def test_sigterm_to_the_command_waits_for_the_checkpoint(project: Path) -> None:
    """In a container the command is what is told to end, and everything ends with it."""
    process = start_training(project, checkpoint="member-0/checkpoint-1")
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == EXIT_INTERRUPTED, stderr
    assert "SIGTERM: saving a checkpoint after this step" in stderr
    assert "the same command continues from there" in stderr
    assert "Traceback" not in stderr
    assert list(project.glob("runs/.train-*.partial/checkpoints/member-0/checkpoint-*"))


def test_ctrl_c_leaves_a_message_and_no_output(project: Path) -> None:
    process = start_training(project, checkpoint="member-0/checkpoint-1")
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command continues from there" in stderr
    assert "Traceback" not in stderr
    assert not list(project.glob("runs/train-*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_disk_that_fills_while_training_leaves_the_last_checkpoint_whole(
    short_run: ShortRun, tmp_path: Path, small_disk: Callable[[str], Path]
) -> None:
    changes = [
        "train.num_seeds=1",
        "train.num_checkpoints=3",
        "train.batch_size=4",
        "train.lora.r=4",
        "train.num_evaluations=0",
    ]
    spec = load_spec(short_run.project, [*SHORT, *changes]).save(tmp_path)
    small = small_disk("32m")
    command = step_command(short_run, "train", spec, small / "train")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "The disk is full" in done.stderr
    assert not (small / "train").exists()
    small_disk("200m")
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert "resuming from member-0/checkpoint-1" in again.stderr
    assert read_manifest(small / "train")


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_named_and_nothing_half_written_is_left(
    short_run: ShortRun, small_disk: Callable[[str], Path]
) -> None:
    small = small_disk("40m")
    command = step_command(short_run, "export", short_run.project, small / "export")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "The disk is full" in done.stderr
    assert not (small / "export").exists()
