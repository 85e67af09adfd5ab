"""The error about a killed step says what would need less memory, for each step."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import make_spec, write_project
from tunewright import load_spec
from tunewright.backends import local
from tunewright.backends.azure import node
from tunewright.backends.ending import names_memory
from tunewright.backends.local import LocalBackend
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.pipeline.steps import STEPS, WATCHING_STEPS


def python_that(does: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let steps run in a Python whose process does something before."""
    script = folder / "python"
    script.write_text(f'#!/bin/sh\n{does}\nexec {sys.executable} "$@"\n', "utf-8")
    script.chmod(0o755)
    monkeypatch.setattr(local.sys, "executable", str(script))


def ending(spec: Spec, folder: Path, name: str) -> str:
    """The error about a step that ends early."""
    with pytest.raises(UserError) as caught:
        done = dict.fromkeys(STEPS[name].inputs_of(spec), folder)
        LocalBackend(spec, spec.save(folder))(STEPS[name], done, folder / "out")
    return caught.value.paragraph()


@pytest.mark.parametrize(
    ("name", "remedy"),
    [
        ("train", "train.method=qlora"),
        ("export", "export.precision=int8"),
        ("evaluate", "evaluate.few_shot=0"),
        ("parity", "export.precision=int8"),
    ],
)
def test_a_killed_step_names_its_own_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, remedy: str
) -> None:
    python_that("kill -9 $$", tmp_path, monkeypatch)
    said = ending(make_spec(tmp_path), tmp_path, name)
    assert f"The step {name} was killed" in said
    assert remedy in said
    assert ("go on from there" in said) == bool(STEPS[name].resumes)


@pytest.mark.slow
def test_a_step_that_the_kernel_ended_is_said_to_have_run_out_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_group: Callable[[int], Path]
) -> None:
    group = memory_group(30 * 2**20)
    python_that(f"echo $$ > {group}/cgroup.procs", tmp_path, monkeypatch)
    spec = load_spec(write_project(tmp_path / "project"))
    said = ending(spec, tmp_path, "check")
    assert "The step check ran out of memory" in said
    assert "was killed" not in said


def test_every_step_has_a_remedy_made_of_keys_that_there_are() -> None:
    spec = make_spec()
    for step in (STEPS | WATCHING_STEPS).values():
        assert step.less_memory, step.name
        for section, key in re.findall(r"\b(\w+)\.(\w+)(?==)", step.less_memory):
            assert hasattr(getattr(spec, section), key), f"{step.name}: {section}.{key}"


def test_a_node_says_the_same_of_its_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    out = tmp_path / "out"
    code = node.main(
        ["--out", str(out), "--", "sh", "-c", "kill -9 $$", "python", "-m", "tunewright.pipeline.step", "export"]
    )
    assert code == 128 + 9
    said = (out / node.ERROR).read_text("utf-8")
    assert "The step export was killed" in said
    assert "export.precision=int8" in said


@pytest.mark.parametrize(
    ("said", "killed"),
    [
        ("Process 'python' exited with status code 137", True),
        ("exited with code -9", True),
        ("The container was OOMKilled", True),
        ("exit code 1: see line 1379", False),
        ("", False),
    ],
)
def test_a_clouds_message_about_memory_is_recognized(said: str, killed: bool) -> None:
    assert names_memory(said) == killed
