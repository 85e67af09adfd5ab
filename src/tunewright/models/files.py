"""Files of models and bundles, which others may have made: what is no plain file or no JSON object is refused."""

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
"""Bytes. The largest tokenizer.json that is known has 35 million (Gemma 3)."""
_SAID = 300
"""Characters of a library's error."""
_LINKED = (".safetensors",)
"""Files of these kinds may be links out of a model's folder: people keep weights on a larger disk. They are read as
weights or refused, and never copied as text."""


def require_file(path: Path) -> None:
    """Refuse what can't be read to its end, as a named pipe or a device, and a link that leads nowhere.

    Raises:
        UserError: it is no plain file.
    """
    try:
        mode = path.stat().st_mode
    except PermissionError:
        raise
    except OSError as error:
        raise UserError(f"This file can't be reached: {error.strerror}.", where=path, fix=_AGAIN) from None
    if not stat.S_ISREG(mode):
        raise UserError("This is no plain file.", where=path, why="A pipe or a device may have no end.", fix=_AGAIN)


def read_bytes(file: Path) -> bytes:
    """A file of a model or a bundle.

    Raises:
        UserError: as `require_file`.
        FileNotFoundError: there is none.
    """
    if file.exists():
        require_file(file)
    return file.read_bytes()


def require_own_files(folder: Path) -> None:
    """Refuse a model's folder with files that are none, or that are links to what is not the model's: its small files
    are copied into what is exported and sent away.

    Links within the folder are its own, and those of the hub's cache, whose folders hold nothing but links.

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
                why="What it leads to would be exported and sent away as a part of the model.",
                fix="Copy the file that was meant in its place.",
            )


@contextmanager
def loading(folder: Path, what: str = "The model") -> Iterator[None]:
    """While a library loads what others made: whatever it stumbles over is told in one paragraph.

    Args:
        folder: of what is loaded.
        what: it is, as the paragraph calls it.

    Raises:
        UserError: in place of the library's own error, of whatever type.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise as_user_error(error, folder) or _not_loaded(error, folder, what) from error
    except BaseException as error:  # what is written in Rust panics with what is no Exception
        if type(error).__name__ != "PanicException":
            raise
        raise _not_loaded(error, folder, what) from None


def _not_loaded(error: BaseException, folder: Path, what: str) -> UserError:
    said = (str(error).strip().splitlines() or [""])[0][:_SAID]
    return UserError(f"{what} can't be loaded.", where=folder, why=f"{type(error).__name__}: {said}", fix=_AGAIN)


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file of a model.

    Raises:
        UserError: it can't be read, or is no JSON object.
        FileNotFoundError: there is none.
    """
    try:
        if (size := file.stat().st_size) > _LARGEST_JSON:
            raise ValueError(f"it has {size:,} bytes")
        found = json.loads(read_bytes(file))
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
    except RecursionError:
        raise _unreadable(file, "it is nested too deeply") from None
    except ValueError as error:
        raise _unreadable(file, str(error)) from None
    return found


def read_text(file: Path) -> str:
    """The text in a file of a model.

    Raises:
        UserError: it is none in UTF-8.
        FileNotFoundError: there is none.
    """
    try:
        return read_bytes(file).decode()
    except UnicodeDecodeError as error:
        raise _unreadable(file, str(error)) from None


def _unreadable(file: Path, why: str) -> UserError:
    return UserError(f"The model's {file.name} can't be read: {why}.", where=file, fix=_AGAIN)
