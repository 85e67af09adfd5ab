"""Open the store and upgrade its schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar, cast

from sqlalchemy import URL, Engine, Table
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from tunewright.config import Spec
from tunewright.core.database import database_engine, database_url, url_in, user_errors
from tunewright.monitoring.store.migrations import is_current, upgrade
from tunewright.monitoring.store.tables import Base
from tunewright.project import Project

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
        with user_errors(self.engine.url), Session(self.engine, expire_on_commit=False) as session, session.begin():
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
    return open_at(url_in(variable, "monitor.database"))


def open_at(address: str | URL) -> Store:
    """The store at an address in the form of SQLAlchemy and PostgreSQL.

    Raises:
        UserError: the address is wrong, the database does not answer, or it is not a store that this version supports.
    """
    engine = database_engine(database_url(address, "monitor.database"))
    with user_errors(engine.url):
        with engine.connect() as connection:
            current = is_current(connection)
        if not current:
            upgrade(engine)
    return Store(engine)
