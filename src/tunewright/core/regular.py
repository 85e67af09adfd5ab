"""Files that a user names are regular ones: a pipe would be waited for, and a device such as /dev/zero never ends."""

from __future__ import annotations

import stat
from pathlib import Path

from tunewright.core.errors import UserError, shortened

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
}


def require_regular(file: Path, fix: str) -> None:
    """Refuse what is no file to read, before it is opened.

    Args:
        fix: what to do about it.

    Raises:
        UserError: it is a pipe, a device, a socket or a folder, or can't be reached.
        FileNotFoundError: there is nothing of that name.
    """
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise unreadable(file, error, fix) from None
    if not stat.S_ISREG(mode):
        kind = _KINDS.get(stat.S_IFMT(mode), "something else")
        raise UserError(f"This is {kind}, not a file.", where=file, fix=fix)


def read_bytes(file: Path, most: int, fix: str) -> bytes:
    """A whole file.

    Args:
        most: bytes that it may have.

    Raises:
        UserError: as `require_regular`, or it is larger or can't be read.
        FileNotFoundError: there is nothing of that name.
    """
    require_regular(file, fix)
    try:
        with file.open("rb") as stream:
            content = stream.read(most + 1)  # more may come while it is read, and files of /proc have no size
    except OSError as error:
        raise unreadable(file, error, fix) from None
    if len(content) > most:
        raise UserError(f"This file has more than {most:,} bytes.", where=file, fix=fix)
    return content


def unreadable(file: Path, error: Exception, fix: str) -> UserError:
    """What to say of a file that the system does not give."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    # A path from outside may hold line breaks, or be thousands of characters long.
    name = "".join(sign if sign.isprintable() else "?" for sign in str(file))
    return UserError(f"This can't be read: {why}.", where=shortened(name, 300), fix=fix)
