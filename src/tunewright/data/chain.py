"""Folders `1`, `2`, … that are written once, each naming the hash of the one before.

A change to one folder contradicts the hash in the next, so the last hash pins all of them. The frozen test and the
corrections are such chains.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from tunewright.core.artifacts import partial_of, sha256_file
from tunewright.core.errors import UserError
from tunewright.core.processes import sole_writer

VERSION = "version.json"
"""The file in each folder that lists its content. Its hash is the version's hash."""

_Content = TypeVar("_Content")


@dataclass(frozen=True)
class Chain:
    """The name of a chain in error messages, and how to repair it after a change by hand."""

    name: str
    fix: str

    def read(self, folder: Path, kind: type[_Content]) -> _Content:
        """The content of a version's file.

        Raises:
            UserError: the file is gone, or its content no longer has this form.
        """
        try:
            return TypeAdapter(kind).validate_json((folder / VERSION).read_bytes())
        except FileNotFoundError:
            what = f"Version {folder.name} of {self.name} is gone."
            raise UserError(what, where=folder, fix=self.fix) from None
        except ValidationError:
            what = f"This file of {self.name} was edited."
            raise UserError(what, where=folder / VERSION, fix=self.fix) from None

    def require_link(self, folder: Path, stated: tuple[int, str | None], number: int, previous: str | None) -> None:
        """Refuse a version that states another number, or another hash of the version before.

        Args:
            stated: (number, previous) in the version's file.
        """
        if stated != (number, previous):
            what = f"Version {number} of {self.name} does not follow version {number - 1}, which was edited."
            raise UserError(what, where=folder.with_name(str(number - 1)) / VERSION, fix=self.fix)

    def require_files(self, folder: Path, listed: Mapping[str, str]) -> None:
        """Refuse a version whose files differ from its list.

        Args:
            listed: the SHA-256 of each file, by its path.
        """
        present = files_in(folder)
        for path in sorted({*present, *listed}):
            if path not in listed:
                raise UserError(f"This file was put into {self.name} by hand.", where=folder / path, fix=self.fix)
            if path not in present or sha256_file(folder / path) != listed[path]:
                what = f"This file of {self.name} was edited or removed."
                raise UserError(what, where=folder / path, fix=self.fix)


def versions_in(folder: Path) -> list[int]:
    """The numbers of the versions in a folder; none where there is no such folder."""
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdecimal())


@contextmanager
def new_version(folder: Path, number: int) -> Iterator[Path]:
    """A folder to write a version into. At the end it becomes that version, whole or not at all.

    Remains of an earlier attempt that was killed are removed.

    Raises:
        UserError: another process writes this version.
    """
    partial = partial_of(folder / str(number))
    partial.mkdir(parents=True, exist_ok=True)
    with sole_writer(partial):
        for left in partial.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield partial
            partial.rename(folder / str(number))
        except BaseException:
            shutil.rmtree(partial)
            raise


def file_hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a version except `version.json`."""
    return {path: sha256_file(folder / path) for path in files_in(folder)}


def files_in(folder: Path) -> list[str]:
    """The files of a version except `version.json`."""
    paths = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in paths if path != VERSION)
