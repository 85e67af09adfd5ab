"""What can't fit is refused before anything is begun, with the step, the figures and what would do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import make_spec, write_project
from tests.pipeline.made import model_folder, sizes
from tunewright import api, load_spec
from tunewright.core.errors import UserError
from tunewright.doctor import machine as diagnosis
from tunewright.economics.memory import GIB
from tunewright.pipeline.planning import preflight
from tunewright.pipeline.planning.machines import HERE, Machine
from tunewright.pipeline.planning.preflight import disk_checks, memory_checks, require_room
from tunewright.pipeline.steps import STEPS


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """On Mistral-7B, without its weights."""
    model = model_folder("mistral-7b", tmp_path / "model")
    return write_project(tmp_path / "project", model=str(model), train={"method": "qlora"})


@pytest.mark.slow
def test_a_run_that_can_t_fit_into_memory_begins_nothing(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sixteen = Machine(HERE, 16 * GIB, False, None, True, 0.0)
    monkeypatch.setattr(preflight, "this_machine", lambda: sixteen)
    spec = load_spec(project, ["export.precision=fp32"])
    with pytest.raises(UserError) as caught:
        api.run(spec)
    said = caught.value.paragraph()
    assert said.startswith(
        "Nothing was started. ✗ memory of export: 29.0 of 16.0 GiB: the server holds 27.0 GiB of fp32"
    )
    assert "export.precision=int8" in said
    assert "Standard_D8s_v3 is large enough" in said
    assert "train" not in caught.value.what
    assert not [each for each in (project / "runs").iterdir() if each.name != "latest"]
    # What is not to be run is not refused.
    assert api.split(spec).is_dir()
    monkeypatch.setattr(preflight, "this_machine", lambda: replace(sixteen, memory=4 * GIB))
    with pytest.raises(UserError, match=r"memory of train: 5\.1 of 4\.0 GiB"):
        api.sweep(spec, trials=2)


def test_a_machine_without_a_price_is_named_before_the_first_step(project: Path) -> None:
    with pytest.raises(UserError, match=r"no 'Standard_D2_v5' \(traffic\.machine\)"):
        api.run(load_spec(project, ["traffic.machine=Standard_D2_v5"]))
    assert not (project / "runs").exists()


@pytest.mark.slow
def test_a_containers_limit_is_what_the_command_meets(project: Path, memory_group: Callable[[int], Path]) -> None:
    group = memory_group(3 * 2**30)
    script = (
        "import os, sys; from pathlib import Path; Path(sys.argv[1], 'cgroup.procs').write_text(str(os.getpid()))\n"
        "from tunewright.cli import main; sys.argv = ['tunewright', 'export', sys.argv[2]]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(group), str(project)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "of 3.0 GiB" in done.stderr
    assert "Traceback" not in done.stderr


def test_too_little_disk_is_said_before_work_begins(project: Path, small_disk: Callable[[str], Path]) -> None:
    runs = small_disk("64m")
    with pytest.raises(UserError) as caught:
        api.run(load_spec(project), runs=runs)
    assert f"✗ free disk at {runs}: 0.1 GB free, 22.4 GB needed (22.4 for the outputs)" in caught.value.paragraph()
    assert "--runs" in caught.value.paragraph()
    assert not list(runs.glob("*-*"))


def test_one_disk_holds_outputs_and_the_model_that_is_to_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_CACHE", str(tmp_path / "cache"))
    spec, steps = make_spec(tmp_path, model="smollm2-135m"), [STEPS[name] for name in ("train", "export")]
    (check,) = disk_checks(spec, sizes("smollm2-135m"), steps, tmp_path / "runs")
    assert check.passed
    assert "for the outputs, 0.6 for the base model smollm2-135m" in check.found
    assert not list(disk_checks(spec, sizes("smollm2-135m"), [STEPS["verdict"]], tmp_path / "runs"))


def test_small_steps_and_unknown_models_are_not_refused(tmp_path: Path) -> None:
    tiny = Machine("tiny", GIB / 4, False, None, False, 0.0)
    spec = make_spec(tmp_path)
    found = list(memory_checks(spec, sizes("mistral-7b"), [STEPS["check"], STEPS["parity"]], lambda _: tiny))
    assert [check.name for check in found if not check.passed] == ["memory of parity on tiny"]
    require_room(make_spec(tmp_path, model="owner/name"), [STEPS["export"]], tmp_path)


@pytest.mark.slow
def test_the_doctor_tells_what_the_projects_steps_need(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sixteen = Machine(HERE, 16 * GIB, False, None, True, 0.0)
    monkeypatch.setattr(diagnosis, "this_machine", lambda: sixteen)
    found = {check.name: check for check in diagnosis.examine(project)}
    assert found["memory of train"].passed
    assert found["memory of parity"].found == "8.0 of 16.0 GiB"
    assert any(name.startswith("free disk at") for name in found)
