"""What can go wrong with a store is told in a paragraph, and nothing is lost by it."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import inspect, select, text
from sqlalchemy.exc import IntegrityError

from tests.conftest import make_spec, python
from tests.monitoring.conftest import PostgreSQL, execute
from tests.monitoring.request_logs import capture, write
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.monitoring.store import Store, migrations, open_store, tables
from tunewright.monitoring.store.collect import Collected, collect
from tunewright.monitoring.store.database import open_at


def test_the_newest_schema_is_the_one_that_is_expected() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert scripts.get_heads() == [migrations.HEAD]


@pytest.mark.slow
def test_a_store_that_is_up_to_date_is_opened_without_alembic(spec: Spec, tmp_path: Path) -> None:
    open_store(spec).close()
    code = f"""
import sys
import threading
from tunewright.monitoring.store.database import open_at
open_at("sqlite:///{tmp_path}/monitor.db")
print("alembic" in sys.modules)
"""
    assert python("-c", code).stdout.strip() == "False"


def test_what_a_store_holds_is_its_owners_to_read(spec: Spec, folder: Path, tmp_path: Path) -> None:
    store = open_store(spec)
    write(folder, capture("a"))
    collect(spec, store)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.glob("monitor.db*")}
    assert modes == dict.fromkeys(("monitor.db", "monitor.db-wal", "monitor.db-shm"), 0o600)


OPEN = """
import sys
import threading
from tunewright.monitoring.store.database import open_at
from tunewright.monitoring.store.tables import Mark
input()
store = open_at(sys.argv[1])
with store.session() as session:
    session.add(Mark(file=sys.argv[2], offset=1))
"""


@pytest.mark.slow
def test_many_processes_make_a_store_at_once(address: str) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-c", OPEN, address, str(number)], stdin=subprocess.PIPE, text=True)
        for number in range(3)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.close()
    assert [process.wait(60) for process in processes] == [0] * 3
    with open_at(address).session() as session:
        assert sorted(session.scalars(select(tables.Mark.file))) == ["0", "1", "2"]


@pytest.mark.slow
def test_a_store_is_made_while_another_process_writes_to_it(tmp_path: Path) -> None:
    file = tmp_path / "monitor.db"
    other = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, other.execute, ["COMMIT"]).start()
    store = open_at(f"sqlite:///{file}")
    assert "captures" in inspect(store.engine).get_table_names()
    store.close()
    other.close()


def test_many_threads_make_a_store_at_once(address: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(open_at, [address] * 4))
    for store in stores:
        with store.session() as session:
            assert session.scalars(select(tables.Mark)).all() == []
        store.close()


def test_an_upgrade_that_breaks_off_leaves_nothing_behind(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = command.upgrade

    def broken(*arguments: str) -> None:
        whole(*arguments)
        raise ZeroDivisionError

    monkeypatch.setattr(command, "upgrade", broken)
    with pytest.raises(ZeroDivisionError):
        open_at(address)
    monkeypatch.undo()
    store = open_at(address)
    assert "captures" in inspect(store.engine).get_table_names()


def test_a_newer_tunewrights_store_is_left_alone(address: str, store: Store) -> None:
    with store.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0999'"))
    with pytest.raises(UserError, match=r"newer Tunewright.*0999.*pip install --upgrade"):
        open_at(address)


def test_a_database_of_something_else_is_left_alone(address: str) -> None:
    store = open_at(address)
    with store.engine.begin() as connection:
        for name in inspect(connection).get_table_names():
            connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(text("CREATE TABLE orders (number INTEGER)"))
    store.close()
    with pytest.raises(UserError, match="tables of another program"):
        open_at(address)


def test_a_file_that_is_no_database_is_left_alone(spec: Spec, tmp_path: Path) -> None:
    (tmp_path / "monitor.db").write_bytes(b"a page of text, not a database\n" * 100)
    with pytest.raises(UserError, match=r"monitor\.db: This is not a store"):
        open_store(spec)
    assert (tmp_path / "monitor.db").stat().st_size == 3100


def test_a_damaged_store_is_told(spec: Spec, folder: Path, tmp_path: Path) -> None:
    store = open_store(spec)
    write(folder, *(capture(str(number), request="long " * 200) for number in range(200)))
    collect(spec, store)
    store.close()
    file = tmp_path / "monitor.db"
    content = file.read_bytes()
    file.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    with pytest.raises(UserError, match="The store is damaged"), open_store(spec).session() as session:
        session.scalars(select(tables.Capture)).all()


def test_a_folder_that_is_not_there_is_told() -> None:
    with pytest.raises(UserError, match="can't be created"):
        open_store(make_spec(Path("/nowhere")))


def test_who_waits_for_another_writer_in_vain_is_told(
    spec: Spec, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunewright.core.database.WAIT_SECONDS", 0.1)
    store = open_store(spec)
    write(folder, capture("a"))
    other = sqlite3.connect(tmp_path / "monitor.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(UserError, match="Another process is writing"):
        collect(spec, store)
    other.rollback()
    assert collect(spec, store) == Collected(captures=1)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:se/cret@host/name",
        "postgresql://me:12/cret@nowhere.invalid/name",
        "postgresql:///",
        "mysql://me:secret@host/name",
        "secret",
        "sqlite://",
        "postgresql://me:sec%ret@nowhere.invalid/name",
    ],
)
def test_whatever_is_wrong_with_an_address_its_password_is_not_told(address: str) -> None:
    with pytest.raises(UserError) as refused:
        open_at(address)
    for secret in ("secret", "cret", "sec%ret"):
        assert secret not in str(refused.value)
    assert refused.value.__cause__ is None


def test_a_wrong_password_is_told_and_never_shown(postgresql_server: PostgreSQL) -> None:
    execute(postgresql_server.address.format("postgres"), "CREATE ROLE guarded LOGIN PASSWORD 'right'")
    address = postgresql_server.address.format("postgres").replace("tester", "guarded:wrong-secret")
    with pytest.raises(UserError, match="password authentication failed") as refused:
        open_at(address)
    assert "wrong-secret" not in str(refused.value)


def test_what_was_asked_stands_in_no_error(spec: Spec) -> None:
    with pytest.raises(IntegrityError) as failed, open_store(spec).session() as session:
        session.add(tables.Capture(id="a", request="my secret"))
    assert "my secret" not in str(failed.value)


@pytest.mark.slow
def test_a_database_that_goes_and_comes_back_loses_nothing(
    postgresql_server: PostgreSQL, spec: Spec, folder: Path
) -> None:
    execute(postgresql_server.address.format("postgres"), "CREATE DATABASE comes_back")
    store = open_at(postgresql_server.address.format("comes_back"))
    write(folder, capture("a"))
    assert collect(spec, store) == Collected(captures=1)
    write(folder / "later", capture("b"))
    postgresql_server.stop()
    try:
        with pytest.raises(UserError, match=r"database does not answer.*the same command again"):
            collect(spec, store)
        with pytest.raises(UserError, match="database does not answer"):
            open_at(postgresql_server.address.format("comes_back"))
    finally:
        postgresql_server.start()
    assert collect(spec, store) == Collected(captures=1)
    write(folder / "last", capture("c"))
    with pytest.raises(UserError, match="database does not answer"), store.session() as session:
        session.add(tables.Mark(file="half", offset=1))
        session.flush()
        postgresql_server.stop()
        postgresql_server.start()
    assert collect(spec, store) == Collected(captures=1)
    with store.session() as session:
        assert "half" not in session.scalars(select(tables.Mark.file)).all()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_told_and_nothing_is_half_done(folder: Path, small_disk: Callable[[str], Path]) -> None:
    spec = make_spec(small_disk("2m"), monitor={"captures": str(folder)})
    write(folder, *(capture(f"{number:04d}", request="long " * 400) for number in range(3000)))
    store = open_store(spec)
    with pytest.raises(UserError, match="The disk is full"):
        collect(spec, store)
    small_disk("64m")
    found = collect(spec, store)
    assert found.repeated == 0
    with store.session() as session:
        assert sorted(session.scalars(select(tables.Capture.id))) == [f"{number:04d}" for number in range(3000)]
        assert session.scalars(select(tables.Tally.captured)).one() == 3000
