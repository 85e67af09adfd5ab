"""Reading files of models and bundles from other people: only plain files and JSON objects are accepted."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError, as_user_error

_AGAIN = "Copy the model again, from where it was made."
_LARGEST_JSON = 256 << 20
"""Bytes. The largest known tokenizer.json has 35 million (Gemma 3)."""
_MAX_ERROR = 300
"""Characters of a library's error in a message."""
_LINKED = (".safetensors",)
"""Files of these types may be links out of a model's folder, because people keep weights on a larger disk. They are
read as weights or refused, and never copied as text."""


def require_file(path: Path) -> None:
    """Refuse a named pipe or a device, which may have no end, and a broken link.

    Raises:
        UserError: it is not a plain file.
    """
    try:
        mode = path.stat().st_mode
    except PermissionError:
        raise
    except OSError as error:
        raise UserError(f"This file can't be reached: {error.strerror}.", where=path, fix=_AGAIN) from None
    if not stat.S_ISREG(mode):
        raise UserError("This is not a plain file.", where=path, why="A pipe or a device may have no end.", fix=_AGAIN)


def read_bytes(file: Path) -> bytes:
    """Read a file of a model or a bundle.

    Raises:
        UserError: see `require_file`.
        FileNotFoundError: there is none.
    """
    if file.exists():
        require_file(file)
    return file.read_bytes()


def require_own_files(folder: Path) -> None:
    """Refuse a model's folder if a file is not a plain file, or is a link to something outside the model. Its small
    files are copied into exports and sent away.

    Links within the folder are allowed, and those of the hub's cache, whose folders consist of links.

    Raises:
        UserError: there is such a file.
    """
    home = folder.resolve()
    homes = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    for path in folder.rglob("*"):
        if not path.is_dir():
            require_file(path)
        if not path.is_symlink() or path.suffix in _LINKED:
            continue
        target = path.resolve()
        if not any(target.is_relative_to(each) for each in homes):
            raise UserError(
                "A file of the model is a link out of its folder.",
                where=path,
                why="The linked file would be exported and sent away as a part of the model.",
                fix="Replace the link with a copy of the right file.",
            )


@contextmanager
def loading(folder: Path, what: str = "The model") -> Iterator[None]:
    """Turn any error of a library that loads other people's files into one paragraph.

    Args:
        folder: the folder or file that is loaded.
        what: the subject of the paragraph.

    Raises:
        UserError: instead of the library's own error of any type.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise as_user_error(error, folder) or _not_loaded(error, folder, what) from error
    except BaseException as error:  # a panic in Rust is not an Exception
        if type(error).__name__ != "PanicException":
            raise
        raise _not_loaded(error, folder, what) from None


def _not_loaded(error: BaseException, folder: Path, what: str) -> UserError:
    reason = (str(error).strip().splitlines() or [""])[0][:_MAX_ERROR]
    return UserError(f"{what} can't be loaded.", where=folder, why=f"{type(error).__name__}: {reason}", fix=_AGAIN)


def read_object(file: Path) -> dict[str, Any]:
    """Read the JSON object in a file of a model.

    Raises:
        UserError: it can't be read, or is not a JSON object.
        FileNotFoundError: there is none.
    """
    try:
        if (size := file.stat().st_size) > _LARGEST_JSON:
            raise ValueError(f"it has {size:,} bytes")
        content = json.loads(read_bytes(file))
        if not isinstance(content, dict):
            raise ValueError("it is not a JSON object")
    except RecursionError:
        raise _unreadable(file, "it is nested too deeply") from None
    except ValueError as error:
        raise _unreadable(file, str(error)) from None
    return content


def read_text(file: Path) -> str:
    """Read the text in a file of a model.

    Raises:
        UserError: it is not UTF-8.
        FileNotFoundError: there is none.
    """
    try:
        return read_bytes(file).decode()
    except UnicodeDecodeError as error:
        raise _unreadable(file, str(error)) from None


def _unreadable(file: Path, why: str) -> UserError:
    return UserError(f"The model's {file.name} can't be read: {why}.", where=file, fix=_AGAIN)
