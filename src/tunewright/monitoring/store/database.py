"""Open the store and upgrade its schema."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

from sqlalchemy import URL, Engine, Table, create_engine, event, make_url
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.orm import Session

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.monitoring.store.faults import as_user_error
from tunewright.monitoring.store.migrations import WAIT_SECONDS, is_current, upgrade
from tunewright.monitoring.store.tables import Base
from tunewright.project import Project

CONNECT_SECONDS = 10
"""Seconds in which a database server must answer."""
_AT_ONCE = 500
_Value = TypeVar("_Value")


class Store:
    """The store of a project."""

    def __init__(self, engine: Engine):
        self.engine = engine

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction, which is kept as a whole or not at all.

        Raises:
            UserError: the database does not answer, or its disk is full.
        """
        with _user_errors(self.engine.url), Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def insert(self, table: type[Base]) -> sqlite.Insert | postgresql.Insert:
        """An INSERT into a table that supports ON CONFLICT."""
        plain = cast(Table, table.__table__)  # without the mapping, which costs more than the INSERT itself
        if self.engine.dialect.name == "postgresql":
            return postgresql.insert(plain)
        return sqlite.insert(plain)

    def close(self) -> None:
        self.engine.dispose()


def pieces(values: Sequence[_Value]) -> Iterator[Sequence[_Value]]:
    """Values in pieces of some hundreds, because databases limit a statement's parameters."""
    return (values[start : start + _AT_ONCE] for start in range(0, len(values), _AT_ONCE))


def open_store(spec: Spec) -> Store:
    """The store of a spec, created if it does not exist yet.

    Raises:
        UserError: the spec's variable is not set or does not hold an address, the database does not answer, or it is
            not a store that this version supports.
    """
    variable = spec.monitor.database
    if variable is None:
        return open_at(URL.create("sqlite", database=str(Project(spec.folder).store)))
    address = os.environ.get(variable)
    if not address:
        raise UserError(
            f"The environment variable {variable} is not set.",
            where="monitor.database",
            fix=f"Type: export {variable}=postgresql://user:password@host/name",
        )
    return open_at(address)


def open_at(address: str | URL) -> Store:
    """The store at an address in the form of SQLAlchemy and PostgreSQL.

    Raises:
        UserError: the address is wrong, the database does not answer, or it is not a store that this version supports.
    """
    engine = _engine(_url(address))
    with _user_errors(engine.url):
        with engine.connect() as connection:
            current = is_current(connection)
        if not current:
            upgrade(engine)
    return Store(engine)


def _url(address: str | URL) -> URL:
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):  # the port is not a number
        url = None
    if url is not None and url.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url is not None and url.drivername == "sqlite" and url.database:
        return url
    # The address holds a password, so the error does not show it.
    raise UserError(
        "This is not the address of a database.",
        where="monitor.database",
        fix="Use the form postgresql://user:password@host/name. In a password write @, / and : as %40, %2F and %3A.",
    )


def _engine(url: URL) -> Engine:
    # Errors must not show requests, so they hide parameters.
    if url.get_backend_name() == "sqlite":
        file = Path(str(url.database))
        if not file.exists():
            _create(file)
        engine = create_engine(url, hide_parameters=True)
        event.listen(engine, "connect", _set_up_sqlite)
        return engine
    limit = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_SECONDS}
    return create_engine(url, hide_parameters=True, pool_pre_ping=True, connect_args=limit)


def _create(file: Path) -> None:
    """Create an empty file that only its owner can read; SQLite copies its permissions to the files beside it."""
    try:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
    except OSError as error:
        raise UserError("The store can't be created.", where=file, why=f"{error.strerror}.") from None


def _set_up_sqlite(connection: Any, _: Any) -> None:
    """Let writers wait for each other, and overwrite deleted content."""
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={1000 * WAIT_SECONDS}", "synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextmanager
def _user_errors(url: URL) -> Iterator[None]:
    """Turn a database's errors into user errors."""
    try:
        yield
    except DBAPIError as error:
        known = as_user_error(error, url)
        if known is None:
            raise
        raise known from None
