"""Turn a database's errors into user errors, which never show a password or a request."""

from __future__ import annotations

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, OperationalError

from tunewright.core.errors import UserError

_SQLITE = {
    "SQLITE_FULL": (
        "The disk is full.",
        "Free some space and type the same command again; nothing was written by halves.",
    ),
    "SQLITE_NOTADB": ("This is not a store.", "Move the file away; a new store collects the request logs again."),
    "SQLITE_CORRUPT": (
        "The store is damaged.",
        "Restore it from a backup, or move it away; a new store collects the request logs again.",
    ),
    "SQLITE_READONLY": ("The store can't be written.", "Check who owns the file and its folder, then run again."),
    "SQLITE_CANTOPEN": ("The store can't be opened.", "Check who owns the file and its folder, then run again."),
    "SQLITE_BUSY": ("Another process is writing to the store.", "Wait for it to end, and type the same command again."),
    "SQLITE_IOERR": ("The disk fails.", "Check the machine's disk, and type the same command again."),
}
"""(fault, advice) by SQLite's primary error code."""


def as_user_error(error: DBAPIError, url: URL) -> UserError | None:
    """The user error for a database's error; None if it is a fault of the program."""
    if url.get_backend_name() == "sqlite":
        code = getattr(error.orig, "sqlite_errorname", "")
        primary = "_".join(code.split("_")[:2])
        if primary not in _SQLITE:
            return None
        what, fix = _SQLITE[primary]
        return UserError(what, where=place(url), fix=fix)
    if not isinstance(error, OperationalError):
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


def place(url: URL) -> str:
    """The address of a database without user and password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    shown = URL.create(url.get_backend_name(), host=url.host, port=url.port, database=url.database)
    return shown.render_as_string()
