"""A project with a whole run, whose outputs the tests begin from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.crashes import in_fork
from tests.crash.linear import bring_up_to_date, project
from tunewright.pipeline import STEPS, code_version
from tunewright.serve.server import running_server


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """An empty folder for copies."""
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty folder for what is cut off."""
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a whole run."""
    folder = tmp_path_factory.mktemp("done") / "project"
    spec = project(folder)
    for step in STEPS.values():
        code_version(step.room)  # which each fork would work out anew
    assert in_fork(lambda: bring_up_to_date(spec)) is None
    return folder


@pytest.fixture(scope="session")
def address(done: Path) -> Iterator[str]:
    """Of a server of its bundle."""
    with running_server((done / "runs" / "latest" / "bundle").resolve()) as address:
        yield address
