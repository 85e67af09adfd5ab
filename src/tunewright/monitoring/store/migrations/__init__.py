"""Upgrade the store's schema with Alembic: one module in `versions` per change."""

from __future__ import annotations

import threading

from sqlalchemy import Connection, Engine, inspect, text

from tunewright.core.database import lock_tables, place
from tunewright.core.errors import UserError

HEAD = "0002"
"""The newest version. Versions are numbers, and a newer one is greater."""
_LOCK = 0x74756E65
"""The number of PostgreSQL's advisory lock for upgrades."""
_ALEMBIC = threading.Lock()
"""A lock, because Alembic keeps its state in globals."""


def is_current(connection: Connection) -> bool:
    """Whether a store has the newest schema. Every opening calls this, so it avoids Alembic, which loads slowly.

    Raises:
        UserError: the store has a newer schema, or the database is not a store.
    """
    tables = inspect(connection).get_table_names()
    if not tables:
        return False
    where = place(connection.engine.url)
    if "alembic_version" not in tables:
        raise UserError(
            "This database holds tables of another program.",
            where=where,
            fix="Give Tunewright a separate database.",
        )
    version = connection.scalar(text("SELECT version_num FROM alembic_version"))
    if version is not None and version > HEAD:
        raise UserError(
            f"A newer Tunewright created this store: its schema is {version}, and this version supports {HEAD}.",
            where=where,
            fix="Type: pip install --upgrade tunewright",
        )
    return bool(version == HEAD)


def upgrade(engine: Engine) -> None:
    """Upgrade a store's schema, as a whole or not at all. If several processes try at once, one does it."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "tunewright.monitoring.store:migrations")
    with _ALEMBIC, engine.connect() as connection:
        lock_tables(connection, _LOCK)
        if not is_current(connection):
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        connection.commit()
