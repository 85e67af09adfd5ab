"""A project with a whole run, whose outputs the tests begin from."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.crashes import in_fork
from tests.crash.linear import bring_up_to_date, project
from tunewright.pipeline.fingerprint import code_version
from tunewright.pipeline.steps import STEPS
from tunewright.serving.child import running_server


@pytest.fixture
def space(tmp_path: Path) -> Iterator[Path]:
    """An empty folder, in memory where there is room: folders are removed by the thousand."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or shutil.disk_usage(memory).free < 1 << 28:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory, prefix="tunewright-") as folder:
        yield Path(folder)


@pytest.fixture
def home(space: Path) -> Path:
    """An empty folder for copies."""
    (space / "home").mkdir()
    return space / "home"


@pytest.fixture
def root(space: Path) -> Path:
    """An empty folder for what is cut off."""
    (space / "root").mkdir()
    return space / "root"


@pytest.fixture(scope="session")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a whole run."""
    folder = tmp_path_factory.mktemp("done") / "project"
    spec = project(folder)
    for step in STEPS.values():
        code_version(step.package)  # which each fork would work out anew
    assert in_fork(lambda: bring_up_to_date(spec)) is None
    return folder


@pytest.fixture(scope="session")
def address(done: Path) -> Iterator[str]:
    """Of a server of its bundle."""
    with running_server((done / "runs" / "latest" / "bundle").resolve()) as address:
        yield address
