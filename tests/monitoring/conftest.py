"""What the tests of Day 2 share: a store of each kind, and captures to put into it."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from tests.conftest import make_spec
from tunewright.config import Spec
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.database import open_at


def postgres_programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda file: int(file.parts[-3]))
    return found[-1].parent if found else None


class PostgreSQL:
    """A PostgreSQL server of this test process. Everybody may enter but for `guarded`, who has the password `right`."""

    def __init__(self, programs: Path):
        self._programs = programs
        # Not in pytest's folder: a socket's path has at most 107 letters, and the server's user must get there.
        self.folder = Path("/tmp") / f"tunewright-pg-{uuid.uuid4().hex[:8]}"
        self.folder.mkdir(mode=0o755)
        # PostgreSQL refuses to run as root.
        self._user = "postgres" if os.getuid() == 0 else None
        if self._user:
            shutil.chown(self.folder, self._user)
        self._data = str(self.folder / "data")
        self._run("initdb", "-D", self._data, "-U", "tester", "-A", "trust", "-E", "UTF8", "--no-sync")
        rules = self.folder / "data" / "pg_hba.conf"
        rules.write_text(f"local all guarded scram-sha-256\n{rules.read_text('utf-8')}", "utf-8")
        self.start()

    def __enter__(self) -> PostgreSQL:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def address(self) -> str:
        """Without a database's name."""
        return f"postgresql://tester@/{{}}?host={self.folder}"

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off"
        log = str(self.folder / "log")
        self._run("pg_ctl", "-D", self._data, "-l", log, "-w", "-o", options, "start")

    def stop(self) -> None:
        self._run("pg_ctl", "-D", self._data, "-m", "immediate", "stop")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        subprocess.run(command, check=True, capture_output=True, cwd=self.folder, user=self._user)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[PostgreSQL]:
    programs = postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    with PostgreSQL(programs) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql(postgresql_server: PostgreSQL) -> str:
    """A PostgreSQL server's address, without a database's name."""
    return postgresql_server.address


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'monitor.db'}"
    server: str = request.getfixturevalue("postgresql").format("postgres")
    # A schema is made in a hundredth of the time that a database takes, and is one to whoever is led there.
    name = f"test_{uuid.uuid4().hex[:12]}"
    execute(server, f"CREATE SCHEMA {name}")
    return f"{server}&options=-csearch_path%3D{name}"


def execute(address: str, statement: str) -> None:
    """A statement of PostgreSQL's administrator."""
    engine = create_engine(address.replace("postgresql", "postgresql+psycopg", 1), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def store(address: str) -> Iterator[Store]:
    """An empty store of each kind."""
    opened = open_at(address)
    yield opened
    opened.close()


@pytest.fixture
def spec(tmp_path: Path) -> Spec:
    return make_spec(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "captures"
