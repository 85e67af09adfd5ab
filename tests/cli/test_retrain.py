"""`tunewright retrain`, `monitor status` and `monitor rollback`, as a user types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import tunewright, write_project
from tunewright.project import read_serving, served_from, write_serving

pytestmark = pytest.mark.slow


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project whose second model serves."""
    made = write_project(tmp_path / "p")
    for name in ("bundle-1", "bundle-2"):
        (made / "runs" / name).mkdir(parents=True)
    write_serving(made / "runs", served_from("bundle-1", "first").promoted("bundle-2", "second"))
    return made


def test_what_serves_is_told_and_can_be_taken_back(project: Path) -> None:
    told = tunewright("monitor", "status", str(project))
    assert told.returncode == 0, told.stderr
    assert "Champion: second, since" in told.stdout
    assert "Before it: first" in told.stdout
    assert "Not due: 0 of 100 new reviews" in told.stdout
    back = tunewright("monitor", "rollback", str(project))
    assert back.stdout == "second no longer serves; first serves.\n"
    serving = read_serving(project / "runs")
    assert serving and serving.champion.version == "first"
    told = tunewright("monitor", "status", str(project), "--json")
    found = json.loads(told.stdout)
    assert found["serving"]["champion"]["version"] == "first"
    assert [each["event"] for each in found["history"]] == ["rolled-back"]
    again = tunewright("monitor", "rollback", str(project))
    assert again.returncode == 2
    assert "There is no previous champion." in again.stderr


def test_by_the_clock_nothing_begins_without_a_reason(project: Path) -> None:
    done = tunewright("retrain", str(project), "--if-due", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["due"] is False
    assert "Not due" in done.stderr
    assert not list((project / "runs").glob("check-*"))
    dry = tunewright("retrain", str(project), "--dry-run")
    assert (dry.returncode, dry.stdout.split(":")[0]) == (0, "Not due")


def test_a_dry_run_says_what_serves(project: Path) -> None:
    due, champion, before = tunewright("retrain", str(project), "--dry-run").stdout.splitlines()
    assert due.startswith("Not due")
    assert champion.startswith("Champion: second, since")
    assert before == "Before it: first"
    plain = json.loads(tunewright("retrain", str(project), "--dry-run", "--json").stdout)
    assert plain["serving"]["champion"]["version"] == "second"


def test_a_project_without_a_model_is_told_what_to_type(tmp_path: Path) -> None:
    done = tunewright("retrain", str(write_project(tmp_path / "p")))
    assert done.returncode == 2
    assert "no bundle yet" in done.stderr


def test_a_spec_of_another_name_is_named_in_what_to_type(tmp_path: Path) -> None:
    spec = (write_project(tmp_path / "p") / "tunewright.yaml").rename(tmp_path / "p" / "mine.yaml")
    done = tunewright("retrain", str(spec))
    assert done.returncode == 2
    assert f"Type: tunewright export {spec}" in done.stderr
