"""Opening the store, its schema brought up to date."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.orm import Session

from tunewright.errors import UserError
from tunewright.spec import Spec

DATABASE = "monitor.db"
"""The store's file beside the spec, where no database is named."""


class Store:
    """The store of a project."""

    def __init__(self, engine: Engine):
        self.engine = engine

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A transaction: what is done in it is kept as a whole at its end, or not at all."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    def close(self) -> None:
        self.engine.dispose()


def open_store(spec: Spec) -> Store:
    """The store of a spec; made where there is none yet.

    Raises:
        UserError: the variable that the spec names is not set or holds no address, or the database does not answer.
    """
    variable = spec.monitor.database
    if variable is None:
        return open_at(f"sqlite:///{spec.path(Path(DATABASE))}")
    address = os.environ.get(variable)
    if not address:
        raise UserError(f"The environment variable {variable} is not set.", where="monitor.database",
                        fix=f"Type: export {variable}=postgresql://user:password@host/name")  # fmt: skip
    return open_at(address)


def open_at(address: str) -> Store:
    """The store at an address, as SQLAlchemy and PostgreSQL write them.

    Raises:
        UserError: it is none, or the database does not answer.
    """
    try:
        url = make_url(address)
    except ArgumentError:  # never told: an address holds a password
        raise UserError("This is no address of a database.", where="monitor.database",
                        fix="It looks like postgresql://user:password@host/name") from None  # fmt: skip
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url, pool_pre_ping=True)
    if url.get_backend_name() == "sqlite":
        event.listen(engine, "connect", _set_up_sqlite)
    _upgrade(engine)
    return Store(engine)


def _set_up_sqlite(connection: Any, _: Any) -> None:
    """Readers don't wait for the writer (WAL), and a writer waits for another."""
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=10000", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _upgrade(engine: Engine) -> None:
    """Bring the schema up to date."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "tunewright.monitor.store:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
