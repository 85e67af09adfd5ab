"""One command line in several processes: what fails in one of them is told once, by whoever was asked to tell it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunewright.core.errors import ERROR_FILE, EXIT_USER
from tunewright.core.launch import launch


@pytest.mark.slow
def test_an_error_that_all_processes_meet_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", "--spec", str(tmp_path / "absent"), "--out", str(tmp_path / "out")]
    monkeypatch.delenv(ERROR_FILE, raising=False)
    assert launch(arguments, 2) == EXIT_USER
    told = capfd.readouterr().err
    assert told.startswith("Error: ")
    assert len(told.splitlines()) == 1
    assert str(tmp_path / "absent") in told
    monkeypatch.setenv(ERROR_FILE, str(tmp_path / "error.txt"))
    assert launch(arguments, 2) == EXIT_USER
    assert (tmp_path / "error.txt").read_text("utf-8") == told.removeprefix("Error: ").strip()
    assert capfd.readouterr().err == ""
