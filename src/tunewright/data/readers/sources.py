"""Finds the data files for a file, a folder or a pattern that the user names."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from tunewright.core.errors import UserError
from tunewright.core.regular import require_regular, unreadable
from tunewright.data.readers.base import CHECK_PATHS

OUTPUTS = ("findings.json", "fixes.jsonl", "marks.jsonl")
"""Files that mark a folder as the output of a check, a fix or a judge, which is no source."""
SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_DOUBTFUL = ".json"
"""The suffix of data, and of documents, reports and settings too."""


@dataclass(frozen=True)
class SourceFile:
    path: Path
    name: str
    """The path relative to the folder or to the fixed part of the pattern, which is the same wherever the data lies."""
    corrected: bool = False
    """Whether it is a file of corrections, which have a fixed form, whatever form the spec gives the data."""
    is_doubtful: bool = False
    """Whether it is data only if its rows have a known form: a .json file beside data files in a folder."""

    @property
    def folder(self) -> Path:
        """The folder, or the fixed part of the pattern, that `name` is relative to."""
        return self.path.parents[len(Path(self.name).parts) - 1]


def suffix_of(path: Path) -> str:
    """The suffix in lower case, without that of gzip."""
    return (Path(path.stem) if path.suffix.lower() == ".gz" else path).suffix.lower()


def files(source: str | Path) -> list[SourceFile]:
    """The files of a source, sorted by name.

    A folder gives all files below it with one of SUFFIXES or .json (gzipped too), except hidden ones and the output of
    a check, a fix or a judge. A pattern (`*`, `?`, `[…]`, `**`) gives all files that match, with any suffix. It follows
    links to folders, each folder once.

    Raises:
        UserError: the file does not exist, the folder has no data file, no file matches the pattern, or the file is a
            pipe or a device.
    """
    try:
        path = Path(source).expanduser()
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, RuntimeError) as error:
        raise unreadable(Path(source), error, CHECK_PATHS) from None
    if is_folder:
        inside = [p for p in path.rglob("*") if suffix_of(p) in (*SUFFIXES, _DOUBTFUL) and p.is_file()]
        paths = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        ours = {marker.parent for name in OUTPUTS for marker in path.rglob(name)} - {path}
        paths = [p for p in paths if ours.isdisjoint(p.parents)]
        if not paths:
            raise UserError(
                "No data file is in this folder.",
                where=path,
                fix=f"Files of these kinds are read, gzipped or not: {', '.join((*SUFFIXES, _DOUBTFUL))}",
            )
        found = _named(paths, path)
        # Where there are .json files alone, they are what the user means.
        has_others = any(suffix_of(file.path) in SUFFIXES for file in found)
        return [replace(file, is_doubtful=has_others and suffix_of(file.path) == _DOUBTFUL) for file in found]
    if is_there:
        require_regular(path, "Write its output into a file, and name that file.")
        return [SourceFile(path, path.name)]
    if not glob.has_magic(str(path)):
        raise UserError("There is no such data file.", where=path, fix=CHECK_PATHS)
    fixed = Path(*path.parts[: next(n for n, part in enumerate(path.parts) if glob.has_magic(part))])
    paths = [p for p in _matching(path) if p.is_file()]
    if not paths:
        raise UserError("No file matches this pattern.", where=path, fix=CHECK_PATHS)
    return _named(paths, fixed)


def _matching(pattern: Path) -> list[Path]:
    """The paths that match a pattern.

    This walks the pattern part by part, into each real folder once. `glob` would follow a link to a folder above it
    again and again, forty times with one link and endlessly with two.
    """
    paths = [Path(pattern.anchor)]
    for part in pattern.parts[bool(pattern.anchor) :]:
        folders = {os.path.realpath(each): each for each in sorted(paths, reverse=True)}.values()
        if part == "**":
            paths = [below for folder in folders for below in _folders(folder)]
        else:
            paths = [folder / name for folder in folders for name in glob.glob(part, root_dir=folder)]  # noqa: PTH207
    if pattern.parts[-1] == "**":
        return [folder / name for folder in paths for name in glob.glob("*", root_dir=folder)]  # noqa: PTH207
    return paths


def _folders(start: Path) -> Iterator[Path]:
    """A folder and all folders below it that are not hidden, each real folder once."""
    seen: set[str] = set()
    for folder, names, _ in os.walk(start, followlinks=True):
        real = os.path.realpath(folder)
        names[:] = [] if real in seen else sorted(name for name in names if not name.startswith("."))
        if real not in seen:
            yield Path(folder)
        seen.add(real)


def _named(paths: list[Path], root: Path) -> list[SourceFile]:
    return sorted((SourceFile(p, p.relative_to(root).as_posix()) for p in paths), key=lambda file: file.name)
