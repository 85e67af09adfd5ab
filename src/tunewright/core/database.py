"""Databases: SQLite files and PostgreSQL servers. Their errors become user errors, which never show a password or a
request."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from tunewright.core.errors import UserError

CONNECT_SECONDS = 10
"""Seconds in which a database server must answer."""
WAIT_SECONDS = 30
"""Seconds that SQLite waits for another writer."""
_READ_ONLY = "25006"
"""PostgreSQL's code for a server that takes no writes, as a replica is after a failover."""
_SQLITE = {
    "SQLITE_FULL": (
        "The disk is full.",
        "Free some space and type the same command again; nothing was written by halves.",
    ),
    "SQLITE_NOTADB": ("This is not a store.", "Move the file away; a new one is made in its place."),
    "SQLITE_CORRUPT": (
        "The store is damaged.",
        "Restore it from a backup, or move it away; a new one is made in its place.",
    ),
    "SQLITE_READONLY": ("The store can't be written.", "Check who owns the file and its folder, then run again."),
    "SQLITE_CANTOPEN": ("The store can't be opened.", "Check who owns the file and its folder, then run again."),
    "SQLITE_BUSY": ("Another process is writing to the store.", "Wait for it to end, and type the same command again."),
    "SQLITE_IOERR": ("The disk fails.", "Check the machine's disk, and type the same command again."),
}
"""(fault, advice) by SQLite's primary error code."""


def database_url(address: str | URL, where: str) -> URL:
    """The address of a database in the form of SQLAlchemy and PostgreSQL.

    Args:
        where: the key or variable that holds it, for errors.

    Raises:
        UserError: it is none.
    """
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
        where=where,
        fix="Use the form postgresql://user:password@host/name. In a password write @, / and : as %40, %2F and %3A.",
    )


def database_engine(url: URL) -> Engine:
    """The engine of a database. A missing SQLite file is created.

    Raises:
        UserError: the file can't be created.
    """
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
def user_errors(url: URL) -> Iterator[None]:
    """Turn a database's errors into user errors."""
    try:
        yield
    except DBAPIError as error:
        known = _as_user_error(error, url)
        if known is None:
            raise
        raise known from None


def url_in(variable: str, where: str) -> URL:
    """The address that an environment variable holds.

    Args:
        where: the key that names the variable, for errors.

    Raises:
        UserError: it is not set, or holds no address.
    """
    address = os.environ.get(variable)
    if not address:
        raise UserError(
            f"The environment variable {variable} is not set.",
            where=where,
            fix=f"Type: export {variable}=postgresql://user:password@host/name",
        )
    return database_url(address, where)


def lock_tables(connection: Connection, number: int) -> None:
    """Begin a transaction in which no other process makes or changes tables.

    Args:
        number: of PostgreSQL's advisory lock.
    """
    if connection.engine.dialect.name == "sqlite":
        _write_ahead(connection)
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": number})


def _write_ahead(connection: Connection) -> None:
    """Set the mode in which readers don't wait for the writer. The file keeps it.

    SQLite's own waiting does not cover this: a connection that meets a writer here is refused at once.
    """
    end = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            return
        except OperationalError as error:
            if getattr(error.orig, "sqlite_errorname", "") != "SQLITE_BUSY" or time.monotonic() > end:
                raise
        time.sleep(0.02)


def place(url: URL) -> str:
    """The address of a database without user and password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    shown = URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database)
    return shown.render_as_string()


def _as_user_error(error: DBAPIError, url: URL) -> UserError | None:
    """The user error for a database's error; None if it is a fault of the program."""
    if url.get_backend_name() == "sqlite":
        code = getattr(error.orig, "sqlite_errorname", "")
        primary = "_".join(code.split("_")[:2])
        if primary not in _SQLITE:
            return None
        what, fix = _SQLITE[primary]
        return UserError(what, where=place(url), fix=fix)
    if not isinstance(error, OperationalError) and getattr(error.orig, "sqlstate", None) != _READ_ONLY:
        return None
    message = " ".join(str(error.orig).split())
    if url.password:
        message = message.replace(str(url.password), "***")
    return UserError(
        "The database does not answer, or refuses.",
        where=place(url),
        why=f"It says: {message}",
        fix="Once it answers, type the same command again: it continues where this one stopped.",
    )
