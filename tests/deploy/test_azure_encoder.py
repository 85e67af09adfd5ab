"""A real encoder on the emulated Azure: trained and judged in jobs, then deployed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, tunewright

pytestmark = [pytest.mark.model, pytest.mark.nightly, pytest.mark.usefixtures("forked_steps")]

SMALL = [
    "model=all-minilm",
    "train.max_steps=4",
    "evaluate.max_examples=8",
    "export.max_disagreement=0.5",
    "export.max_accuracy_drop=0.5",
    "traffic.machine=Standard_F4s_v2",
    "azure.emulate=seasoned",
]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("azure") / "tickets"
    shutil.copytree(REPOSITORY / "examples" / "tickets", folder, ignore=shutil.ignore_patterns("runs"))
    done = tunewright("run", str(folder), *SMALL, "--on", "azure", "--emulate", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["comparison"]["candidates"]["served"]["scores"]["seen"]["count"] == 8
    assert "refused" not in done.stderr
    assert "MLflow does not answer" not in done.stderr
    return folder


def test_what_was_made_there_is_deployed_there(project: Path) -> None:
    """The other targets are tried with tiny models (tests/deploy/test_deploy_run.py)."""
    done = tunewright("deploy", str(project), *SMALL, "--to", "aml", "--anyway", "--emulate", "--json")
    assert done.returncode == 0, done.stderr
    released = json.loads(done.stdout)
    assert released["percent"] == 100
    assert released["trial"]["agreement"] == 1
    assert released["trial"]["failed"] == 0
    assert "refused" not in done.stderr


def test_a_dry_run_tells_the_price(project: Path) -> None:
    done = tunewright("deploy", str(project), *SMALL, "--to", "aml", "--dry-run", "--emulate", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    # How many machines it takes, the speed of this one decides.
    (machines,) = (int(each["said"].split(" x ")[0]) for each in plan["resources"] if each["kind"] == "deployment")
    assert plan["usd_per_month"] == pytest.approx(machines * 730 * 0.169)
    assert [each["kind"] for each in plan["resources"]] == ["online endpoint", "environment", "deployment"]
