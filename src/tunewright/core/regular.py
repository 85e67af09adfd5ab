"""Read only regular files: reading a pipe may wait forever, and a device such as /dev/zero never ends."""

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
    """Refuse anything but a regular file, before it is opened.

    Args:
        fix: the advice in the error.

    Raises:
        UserError: the path is a pipe, a device, a socket or a folder, or can't be reached.
        FileNotFoundError: the path does not exist.
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
    """The content of a file.

    Args:
        most: the largest allowed size in bytes.

    Raises:
        UserError: as `require_regular`, or the file is larger or can't be read.
        FileNotFoundError: the path does not exist.
    """
    require_regular(file, fix)
    try:
        with file.open("rb") as stream:
            content = stream.read(most + 1)  # the file may grow, and files of /proc have no size
    except OSError as error:
        raise unreadable(file, error, fix) from None
    if len(content) > most:
        raise UserError(f"This file has more than {most:,} bytes.", where=file, fix=fix)
    return content


def with_home(path: Path, fix: str) -> Path:
    """A path that a user named, with their home directory in place of `~`.

    Args:
        fix: the advice in the error.

    Raises:
        UserError: there is no such home directory.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise unreadable(path, error, fix) from None


def resolved(folder: Path, relative: Path, fix: str) -> Path:
    """A path that a user named, made absolute. It need not exist.

    Args:
        folder: where relative paths start.
        fix: the advice in the error.

    Raises:
        UserError: the operating system can't look the path up.
    """
    try:
        path = (folder / with_home(relative, fix)).resolve()
        path.lstat()
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        pass  # the code that reads it reports this
    except (OSError, RuntimeError, ValueError) as error:
        raise unreadable(relative, error, fix) from None
    return path


def unreadable(file: Path, error: Exception, fix: str) -> UserError:
    """The error for a file that the system can't read."""
    why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    # A user's path may hold line breaks, or be thousands of characters long.
    name = "".join(sign if sign.isprintable() else "?" for sign in str(file))
    return UserError(f"This can't be read: {why.rstrip('.')}.", where=shortened(name, 300), fix=fix)
