"""Faults of the machine that libraries raise, in words."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import tunewright, write_project
from tunewright.core.errors import UserError, as_user_error, first_of
from tunewright.serving.captures import RequestLog


def test_a_full_gpu_says_what_makes_the_training_smaller(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    said = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 14.58 GiB of which …"
    error = as_user_error(torch.OutOfMemoryError(said), tmp_path)
    assert error
    assert "The GPU's memory is full" in error.what
    assert "2.00 GiB" in error.what
    assert "train.batch_size" in (error.fix or "")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to have 9 bytes"),
    ],
)
def test_memory_that_the_machine_does_not_give_is_told_with_the_steps_own_remedy(
    error: Exception, tmp_path: Path
) -> None:
    found = as_user_error(error, tmp_path, "Set export.runtime=openvino.")
    assert found
    assert "memory" in found.what
    assert found.fix == "Set export.runtime=openvino. Then type the same command again."
    plain = as_user_error(error, tmp_path)
    assert plain
    assert "more memory" in (plain.fix or "")


def test_a_full_gpu_is_told_with_the_steps_own_remedy(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    error = as_user_error(torch.OutOfMemoryError("CUDA out of memory. Tried."), tmp_path, "Set evaluate.few_shot=0.")
    assert error
    assert error.fix == "Set evaluate.few_shot=0. Then type the same command again."


@pytest.fixture
def read_only(small_disk: Callable[[str], Path]) -> Path:
    """A folder on a disk that can't be written, with a project in it."""
    folder = small_disk("2m")
    write_project(folder / "project")
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    return folder


def test_a_full_disk_is_told_with_the_folder_that_was_written_to(
    tmp_path: Path, small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = small_disk("1m")
    error = OSError(errno.ENOSPC, "No space left on device", str(small / "model" / "weights"))
    found = as_user_error(error, tmp_path)
    assert found
    assert found.where == str(small / "model")
    assert "1 MB are left" in found.what
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(small / "cache"))
    for unnamed in (OSError(errno.ENOSPC, "No space left on device"), RuntimeError("No space left on device")):
        found = as_user_error(unnamed, tmp_path)
        assert found
        assert found.where == str(small / "cache")


def test_a_quota_is_not_told_with_the_disk_s_free_space(tmp_path: Path) -> None:
    found = as_user_error(OSError(errno.EDQUOT, "Disk quota exceeded", str(tmp_path / "x")), tmp_path)
    assert found
    assert "your quota on it" in found.what
    assert "MB" not in found.what


@pytest.mark.slow
def test_a_read_only_disk_is_one_paragraph(read_only: Path, tmp_path: Path) -> None:
    project, elsewhere = str(read_only / "project"), write_project(tmp_path / "project", model="smollm2-135m")
    for command, environment in (
        (["data", "check", project], {}),
        (["data", "split", str(elsewhere), "--runs", str(read_only / "runs")], {}),
        (["data", "split", str(elsewhere)], {"TUNEWRIGHT_CACHE": str(read_only / "cache")}),
        (["data", "fix", project, "--only", "D001"], {}),
        (["data", "freeze", project, "--runs", str(tmp_path / "runs")], {}),
        (["init", str(read_only / "project" / "train.jsonl"), "--out", str(read_only / "new")], {}),
    ):
        done = tunewright(*command, **environment)
        assert done.returncode == 2, (command, done.stderr)
        assert "Traceback" not in done.stderr
        assert "read-only" in done.stderr, command


def test_captures_and_batches_on_a_read_only_disk(read_only: Path) -> None:
    with pytest.raises(UserError, match="Captures can't be written"):
        RequestLog(read_only / "captures")
    try:
        (read_only / "out.jsonl.parts").mkdir()
    except OSError as error:
        found = as_user_error(error, Path.cwd())
        assert found
        assert found.where == str(read_only / "out.jsonl.parts")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["x" * 5000, "loop"])
def test_a_path_that_leads_nowhere_is_one_paragraph(name: str, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    done = tunewright("data", "check", str(tmp_path / name))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_line_names_the_first_and_counts_the_rest() -> None:
    names = [f"n{number}" for number in range(1_203)]
    assert first_of(names[:2], 3) == "n0, n1"
    assert first_of(names[:3], 3) == "n0, n1, n2"
    assert first_of(names, 3) == "n0, n1, n2 and 1,200 more"
