"""The checksums of a bundle. They record each file when the bundle is made, so that no other file is loaded in its
place.

A file's checksum is SHA-256 over the SHA-256 of its blocks, so that all cores work on one file. `checksums.json` lies
in the bundle. It protects against accidents, and against people who can write the weights but not this file. Only a pin
stops people who can write both: the digest of `checksums.json`, kept elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunewright.core.artifacts import write_json
from tunewright.core.errors import UserError
from tunewright.core.threads import cores
from tunewright.inference.calibration import CALIBRATION
from tunewright.inference.runtimes.base import ADAPTER_FOLDER, FOLDERS
from tunewright.models.files import require_file

CHECKSUMS = "checksums.json"
BUNDLE_FILE = "bundle.json"
SECOND = "second"
"""The folder of a cascade's second bundle, which has its own checksums."""
SMALL = (BUNDLE_FILE, CALIBRATION, "tokenizer.json", "chat_template.jinja")
"""The files that a server reads beside the weights."""
VERIFY = "TUNEWRIGHT_VERIFY"
"""Environment variable: `off` loads bundles without verifying their checksums."""
_BLOCK: Final = 8388608
"""Bytes of a block. All cores can share a file of a hundred megabytes."""
_SHOWN = 12
"""Hexadecimal digits of a checksum in a message."""
_DIGEST = re.compile("[0-9a-f]{64}")
_AGAIN = "Copy the bundle again from where it was made, or make it anew: tunewright export YOUR_PROJECT"


@dataclass(frozen=True)
class Verification:
    """The checks of a bundle before it is loaded.

    Args:
        on: whether its files must match its checksums.
        pin: the digest that its checksums must have; empty: any.

    Raises:
        UserError: the pin is not a digest, or there is a pin although verification is off.
    """

    on: bool = True
    pin: str = ""

    def __post_init__(self) -> None:
        if self.pin and not _DIGEST.fullmatch(self.pin):
            raise UserError(
                "A pin has 64 hexadecimal digits.",
                where=self.pin[:80],
                fix="Take the digest that tunewright export printed.",
            )
        if self.pin and not self.on:
            raise UserError(
                "A bundle that is not verified can't be checked against a pin.",
                fix="Leave out one of the two: --verify off, or --pin.",
            )

    @classmethod
    def by_environment(cls) -> Verification:
        """The verification that the environment sets. By default it is on, without a pin."""
        return cls(on=os.environ.get(VERIFY) != "off")


class FileSum(BaseModel):
    """Size and checksum of a file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: Annotated[int, Field(ge=0)]
    sha256_of_blocks: Annotated[str, Field(pattern=f"^{_DIGEST.pattern}$")]
    """SHA-256 over the concatenated SHA-256 of its blocks."""


class _File(BaseModel):
    """`checksums.json`."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = 1
    block_bytes: Literal[8388608] = _BLOCK
    files: dict[str, FileSum]


@dataclass(frozen=True)
class Checksums:
    """The checksums of a bundle."""

    files: Mapping[str, FileSum]
    """By name within the bundle."""
    digest: str
    """SHA-256 of `checksums.json`. It identifies the whole bundle."""

    def check_names(self, folder: Path) -> None:
        """Check that a bundle has exactly the listed files, each with its size. This reads no file.

        Raises:
            UserError: a file is missing, new, or has another size.
        """
        files = dict(_served(folder))
        if missing := sorted(self.files.keys() - files.keys()):
            raise UserError(
                "A file of the bundle is missing.", where=folder / missing[0], why=_listed(missing), fix=_AGAIN
            )
        if unlisted := sorted(files.keys() - self.files.keys()):
            raise UserError(
                "The bundle holds a file that it was not made with.",
                where=folder / unlisted[0],
                why=f"{CHECKSUMS} does not name it, and a server might load it.",
                fix=f"Remove it. Or: {_AGAIN}",
            )
        for name, known in self.files.items():
            if (size := files[name].stat().st_size) != known.bytes:
                raise _changed(files[name], f"It has {size:,} bytes; by {CHECKSUMS} it had {known.bytes:,}.")

    def check(self, folder: Path, names: Collection[str]) -> None:
        """Read some files of a bundle and compare their checksums.

        Raises:
            UserError: a file has changed.
        """
        for name, current in sums({name: folder / name for name in names}).items():
            if current != self.files[name]:
                known, now = self.files[name].sha256_of_blocks[:_SHOWN], current.sha256_of_blocks[:_SHOWN]
                raise _changed(folder / name, f"Its checksum is {now}…; by {CHECKSUMS} it was {known}….")


def read_checksums(folder: Path) -> Checksums | None:
    """Read a bundle's checksums; None for a bundle that was made before checksums existed.

    Raises:
        UserError: the file can't be read as checksums.
    """
    path = folder / CHECKSUMS
    if not path.is_symlink() and not path.exists():
        return None
    require_file(path)
    content = path.read_bytes()
    try:
        files = _File.model_validate_json(content).files
    except ValidationError as error:
        raise UserError(
            f"The bundle's checksums can't be read: {error.errors()[0]['msg']}.", where=path, fix=_AGAIN
        ) from None
    return Checksums(files, hashlib.sha256(content).hexdigest())


def seal(folder: Path, known: Mapping[str, FileSum] | None = None) -> str:
    """Write the checksums of a complete bundle.

    Args:
        known: checksums of files that were copied from another bundle, by their name here. Those files are not read, so
            that loading the bundle detects damage from the copying.

    Returns: the digest that identifies the bundle.
    """
    files = dict(_served(folder))
    checksums = {name: each for name, each in (known or {}).items() if name in files}
    checksums |= sums({name: path for name, path in files.items() if name not in checksums})
    write_json(folder / CHECKSUMS, _File(files=dict(sorted(checksums.items()))).model_dump(mode="json"))
    return hashlib.sha256((folder / CHECKSUMS).read_bytes()).hexdigest()


def amend(folder: Path, name: str) -> None:
    """Update the checksum of a file that was written anew. A bundle without checksums stays without."""
    if checksums := read_checksums(folder):
        seal(folder, {each: known for each, known in checksums.files.items() if each != name})


def is_beside_weights(name: str) -> bool:
    """Whether a file of a bundle is read before its weights are loaded."""
    return name in SMALL or name == f"{SECOND}/{CHECKSUMS}"


def sums(files: Mapping[str, Path]) -> dict[str, FileSum]:
    """The checksums of files, read block by block on all cores."""
    sizes = {name: path.stat().st_size for name, path in files.items()}
    blocks = [(name, start) for name, size in sizes.items() for start in range(0, max(size, 1), _BLOCK)]
    by_file: dict[str, list[bytes]] = {name: [] for name in files}
    with ThreadPoolExecutor(cores()) as readers:
        digests = readers.map(lambda block: _of_block(files[block[0]], block[1]), blocks)
        for (name, _), digest in zip(blocks, digests, strict=True):
            by_file[name].append(digest)
    return {
        name: FileSum(bytes=sizes[name], sha256_of_blocks=hashlib.sha256(b"".join(of_blocks)).hexdigest())
        for name, of_blocks in by_file.items()
    }


def _of_block(path: Path, start: int) -> bytes:
    """SHA-256 of a block of a file. The block is read at once: beside a thread that runs Python, as one that imports,
    each return from reading or hashing may wait 5 ms for the GIL."""
    with path.open("rb") as stream:
        stream.seek(start)
        return hashlib.sha256(stream.read(_BLOCK)).digest()


def _served(folder: Path) -> Iterator[tuple[str, Path]]:
    """All files of a bundle that a server might read, by name."""
    for name in (*SMALL, f"{SECOND}/{CHECKSUMS}"):
        path = folder / name
        if path.is_symlink() or path.exists():
            require_file(path)
            yield name, path
    folders = [folder / each for each in sorted({*FOLDERS.values(), ADAPTER_FOLDER})]
    require_no_linked_folders(folders)
    for path in _below(folders):
        require_file(path)
        yield path.relative_to(folder).as_posix(), path


def require_no_linked_folders(folders: Iterable[Path]) -> None:
    """Refuse links to folders below some folders of weights, which may be links themselves. `rglob` does not go into
    such a folder, and a runtime would.

    Raises:
        UserError: there is one.
    """
    for path in (each for folder in folders for each in sorted(folder.rglob("*"))):
        if path.is_symlink() and path.is_dir():
            raise UserError(
                "A folder among the weights of the bundle is a link.",
                where=path,
                why="A server would load its files, and no checksum covers them.",
                fix="Put the files themselves there, or remove the link.",
            )


def _below(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in sorted(folder.rglob("*")) if not path.is_dir())


def _changed(path: Path, why: str) -> UserError:
    return UserError("This file is not the one that the bundle was made with.", where=path, why=why, fix=_AGAIN)


def _listed(names: list[str]) -> str:
    others = f" {len(names)} of the files that it names are missing." if len(names) > 1 else ""
    return f"{CHECKSUMS} names it.{others}"
