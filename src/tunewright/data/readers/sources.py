"""Finds the data files for a file, a folder or a pattern that the user names."""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from tunewright.config import RUNS, SPEC_FILE
from tunewright.core.artifacts import MANIFEST
from tunewright.core.errors import UserError, first_of
from tunewright.core.progress import say
from tunewright.core.regular import require_regular, unreadable
from tunewright.data.chain import VERSION
from tunewright.data.readers.base import CHECK_PATHS

SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
_GZIP = ".gz"
_RANKS = (
    SUFFIXES,
    (".json",),  # documents, reports and settings too
    (".log", _GZIP),  # plain text too, or anything
    (".xlsx", ".xls", ".ods", ".zip", ".tar", ".tgz", ".7z", ".zst", ".bz2", ".xz", ".arrow", ".feather", ".avro"),
)
"""Suffixes of files in a folder that may be data, the surest first. Those of the last rank can't be read, but the user
must hear of them."""
_ROTATED = re.compile(r"(.+\.(?:jsonl|ndjson|csv|tsv|json|log))[.-]\d[\w.:+-]*", re.IGNORECASE)
"""The name of a log that was put aside: app.jsonl.1, app.jsonl.2026-10-31, app.jsonl-20261031."""

_OUTPUTS: dict[str, frozenset[str]] = {
    "findings.json": frozenset(),
    "fixes.jsonl": frozenset(),
    "marks.jsonl": frozenset(),
    MANIFEST: frozenset(["kind", "fingerprint", "content"]),
    VERSION: frozenset(["number", "previous", "files"]),
    "labels.json": frozenset(["requests", "left_out", "asked", "training"]),
}
"""Files that mark a folder as an output of Tunewright, which is no source: of a check, a fix, a judge, a step, of a
version of the frozen test or of corrections, of labels. Where other programs use such names too, the keys tell ours."""
_NAMED = 5
"""Paths that can't be read, by their names in the line about them."""
_BESIDE_A_SPEC = (RUNS, "captures")
"""Names of folders beside a spec that Tunewright writes to."""
_REQUEST_LOG = re.compile(r"captures-\d{8}T\d{6}-[0-9a-f]{8}\.jsonl")
"""The name of a server's request log, whose answers are the model's own."""


@dataclass(frozen=True)
class SourceFile:
    path: Path
    name: str
    """The path relative to the folder or to the fixed part of the pattern, which is the same wherever the data lies."""
    corrected: bool = False
    """Whether it is a file of corrections, which have a fixed form, whatever form the spec gives the data."""
    is_doubtful: bool = False
    """Whether it is data only if its rows have a known form: a .json file or a log beside surer data in a folder."""

    @property
    def folder(self) -> Path:
        """The folder, or the fixed part of the pattern, that `name` is relative to."""
        return self.path.parents[len(Path(self.name).parts) - 1]


def suffix_of(path: Path) -> str:
    """The suffix in lower case, without that of gzip and without the number or the date of a rotated log."""
    name = path.stem if path.suffix.lower() == _GZIP else path.name
    suffix = Path(name).suffix.lower()
    if not any(suffix in rank for rank in _RANKS) and (rotated := _ROTATED.fullmatch(name)):
        return Path(rotated[1]).suffix.lower()
    return suffix


def files(source: str | Path) -> list[SourceFile]:
    """The files of a source, sorted by name.

    A folder gives all files below it that may be data by their suffix (gzipped or rotated too), except hidden ones and
    Tunewright's own outputs. A pattern (`*`, `?`, `[…]`, `**`) gives all files that match, with any suffix; its parts
    `*` and `**` leave out the folders of outputs. Both follow links to folders, each folder once. A line names the
    links that lead nowhere and the folders that this user may not read.

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
        return _files_below(path)
    if is_there:
        require_regular(path, "Write its output into a file, and name that file.")
        return [SourceFile(path, path.name)]
    if not glob.has_magic(str(path)):
        raise UserError("There is no such data file.", where=path, fix=CHECK_PATHS)
    fixed = Path(*path.parts[: next(n for n, part in enumerate(path.parts) if glob.has_magic(part))])
    unread: list[Path] = []
    paths = [p for p in _matching(path, unread) if _is_file(p, unread)]
    _report(fixed, unread)
    if not paths:
        raise UserError("No file matches this pattern.", where=path, fix=CHECK_PATHS)
    return _named(paths, fixed)


def _files_below(folder: Path) -> list[SourceFile]:
    unread: list[Path] = []
    paths = [
        path
        for below, names in _walk(folder, unread)
        for name in names
        if not name.startswith(".") and not _REQUEST_LOG.fullmatch(name)
        if _rank(path := below / name) < len(_RANKS) or not path.suffix  # a broken link may have led to a folder
        if _is_file(path, unread) and _rank(path) < len(_RANKS)
    ]
    _report(folder, unread)
    if not paths:
        raise UserError(
            "No data file is in this folder.",
            where=folder,
            fix=f"Files of these kinds are read, gzipped or not: {', '.join((*SUFFIXES, '.json', '.log'))}. What "
            "Tunewright itself wrote is left out; name such a folder by itself.",
        )
    # The surest kind that is there is what the user means.
    surest = min(map(_rank, paths))
    return [replace(file, is_doubtful=_rank(file.path) > surest) for file in _named(paths, folder)]


def _is_file(path: Path, unread: list[Path]) -> bool:
    """Whether a path is a file. A link that leads nowhere is added to `unread`."""
    # Path's methods raise where a link leads to a place that this user may not look at.
    if os.path.isfile(path):  # noqa: PTH113
        return True
    if not os.path.exists(path) and path.is_symlink():  # noqa: PTH110
        unread.append(path)
    return False


def _may_list(folder: Path, unread: list[Path]) -> bool:
    """Whether this user may read a folder. If not, it is added to `unread`."""
    may = os.access(folder, os.R_OK | os.X_OK)
    if not may:
        unread.append(folder)
    return may


def _report(root: Path, unread: Iterable[Path]) -> None:
    """Name what can't be read below a folder."""
    if names := sorted({path.relative_to(root).as_posix() for path in unread}):
        _say_once(
            f"{root}: left out, because they are links that lead nowhere or folders without access: "
            f"{first_of(names, _NAMED)}"
        )


@cache
def _say_once(line: str) -> None:
    """Print a line, once a process: a command finds its files several times."""
    say(line)


def _rank(path: Path) -> int:
    """The place of a file's suffix in `_RANKS`, or its length."""
    suffix = suffix_of(path) or path.suffix.lower()
    return next((number for number, rank in enumerate(_RANKS) if suffix in rank), len(_RANKS))


def _matching(pattern: Path, unread: list[Path]) -> list[Path]:
    """The paths that match a pattern. Folders that can't be read are added to `unread`.

    This walks the pattern part by part, into each real folder once. `glob` would follow a link to a folder above it
    again and again, forty times with one link and endlessly with two.
    """
    paths = [Path(pattern.anchor)]
    for part in pattern.parts[bool(pattern.anchor) :]:
        real = {os.path.realpath(each): each for each in sorted(paths, reverse=True)}.values()
        listed = glob.has_magic(part)
        folders = [each for each in real if not listed or not each.is_dir() or _may_list(each, unread)]
        if part == "**":
            paths = [below for folder in folders for below, _ in _walk(folder, unread)]
        else:
            paths = [folder / name for folder in folders for name in glob.glob(part, root_dir=folder)]  # noqa: PTH207
        if part == "*":
            paths = [path for path in paths if not path.is_dir() or not _is_output(path)]
    if pattern.parts[-1] == "**":
        return [folder / name for folder in paths for name in glob.glob("*", root_dir=folder)]  # noqa: PTH207
    return paths


def _walk(start: Path, unread: list[Path]) -> Iterator[tuple[Path, list[str]]]:
    """A folder and all folders below it that are neither hidden nor an output, each with the names of its files. Those
    that can't be read are added to `unread`.

    Each real folder comes once, under its own path if it has one below `start`, else under the first link's. A link to
    a folder above `start` is not followed: it would make data of everything beside it.
    """
    if not _may_list(start, unread):
        return
    seen: set[str] = set()
    above = {os.path.realpath(folder) for folder in (start, *start.resolve().parents)}
    waiting = [str(start)]
    while waiting:
        links: list[str] = []
        for begin in waiting:
            for folder, names, files_there in os.walk(begin):
                real = os.path.realpath(folder)
                if real in seen or (folder != str(start) and _is_output(Path(folder))):
                    names.clear()
                    continue
                seen.add(real)
                yield Path(folder), files_there
                inside = [Path(folder, name) for name in sorted(names) if not name.startswith(".")]
                inside = [path for path in inside if _may_list(path, unread)]
                links += [str(path) for path in inside if path.is_symlink() and os.path.realpath(path) not in above]
                names[:] = [path.name for path in inside if not path.is_symlink()]
        waiting = links


def _is_output(folder: Path) -> bool:
    """Whether Tunewright wrote a folder."""
    if folder.name in _BESIDE_A_SPEC and (folder.parent / SPEC_FILE).is_file():
        return True
    if folder.suffix == ".parts" and (folder / "job.json").is_file():  # of a batch in progress
        return True
    return any((folder / name).is_file() and keys <= _keys_of(folder / name, keys) for name, keys in _OUTPUTS.items())


def _keys_of(file: Path, expected: frozenset[str]) -> frozenset[str]:
    """The keys of the JSON object in a file; none where it holds something else, or where none are expected."""
    try:
        value = json.loads(file.read_text("utf-8")) if expected else None
    except (OSError, ValueError, RecursionError):
        return frozenset()
    return frozenset(value) if isinstance(value, dict) else frozenset()


def _named(paths: list[Path], root: Path) -> list[SourceFile]:
    return sorted((SourceFile(p, p.relative_to(root).as_posix()) for p in paths), key=lambda file: file.name)
