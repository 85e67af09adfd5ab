"""What can be wrong with a database, in the user's words. Never a password, never what somebody asked."""

from __future__ import annotations

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from tunewright.core.errors import UserError

_SQLITE = {
    "SQLITE_FULL": ("The disk is full.", "Free some space and type the same command again; nothing is half done."),
    "SQLITE_NOTADB": ("This is no store.", "Move the file away; a new store collects the journals anew."),
    "SQLITE_CORRUPT": (
        "The store is damaged.",
        "Restore it from a backup, or move it away; a new store collects the journals anew.",
    ),
    "SQLITE_READONLY": ("The store can't be written.", "Check who owns the file and its folder, then run again."),
    "SQLITE_CANTOPEN": ("The store can't be opened.", "Check who owns the file and its folder, then run again."),
    "SQLITE_BUSY": ("Another process is writing to the store.", "Wait for it to end, and type the same command again."),
    "SQLITE_IOERR": ("The disk fails.", "Look at the machine's disk, and type the same command again."),
}
"""By SQLite's primary code: what, and what to do."""


def told(error: DBAPIError, url: URL) -> UserError | None:
    """The user's error that a database's error is; None where it is a fault of the program."""
    if url.get_backend_name() == "sqlite":
        code = getattr(error.orig, "sqlite_errorname", "")
        primary = "_".join(code.split("_")[:2])
        if primary not in _SQLITE:
            return None
        what, fix = _SQLITE[primary]
        return UserError(what, where=place(url), fix=fix)
    if not isinstance(error, OperationalError):
        return None
    said = " ".join(str(error.orig).split())
    if url.password:
        said = said.replace(str(url.password), "***")
    return UserError(
        "The database does not answer, or refuses.",
        where=place(url),
        why=f"It says: {said}",
        fix="Once it answers, type the same command again: it goes on where this one stopped.",
    )


def place(url: URL) -> str:
    """Where a database is, without who asks."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    shown = URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database)
    return shown.render_as_string()
