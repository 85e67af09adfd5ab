"""The store's schema, brought up to date by Alembic: a module in `versions` for each change."""

from __future__ import annotations

import threading

from sqlalchemy import Connection, Engine, inspect, text

from tunewright.core.errors import UserError
from tunewright.monitoring.store.faults import place

HEAD = "0002"
"""The newest version. Versions are numbers, so that a newer one is known by being greater."""
_LOCK = 0x74756E65
"""PostgreSQL's number for who upgrades."""
_ALEMBIC = threading.Lock()
"""Alembic keeps what it works at in globals."""


def is_current(connection: Connection) -> bool:
    """Whether a store has the newest schema. Asked at each opening, so without Alembic, which takes its time to load.

    Raises:
        UserError: it has a newer one, or the database holds something else.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return False
    where = place(connection.engine.url)
    if "alembic_version" not in tables:
        raise UserError(
            "There are tables of something else in this database.",
            where=where,
            fix="Give Tunewright a database of its own.",
        )
    found = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if found is not None and found > HEAD:
        raise UserError(
            f"This store was made by a newer Tunewright: its schema is {found}, and this one knows {HEAD}.",
            where=where,
            fix="Type: pip install --upgrade tunewright",
        )
    return bool(found == HEAD)


def upgrade(engine: Engine) -> None:
    """Bring a store's schema up to date, as a whole or not at all. Of several who do it at once, one does."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "tunewright.monitoring.store:migrations")
    with _ALEMBIC, engine.connect() as connection:
        if engine.dialect.name == "sqlite":
            # Readers don't wait for the writer. The file remembers it.
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        else:
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        if not is_current(connection):
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        connection.commit()
