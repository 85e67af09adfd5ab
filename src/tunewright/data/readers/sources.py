"""From what a user names (a file, a folder, a pattern) to the files that are read."""

from __future__ import annotations

import glob
from dataclasses import dataclass
from pathlib import Path

from tunewright.data.readers.base import CHECK_PATHS
from tunewright.errors import UserError

OUTPUTS = ("findings.json", "fixes.jsonl")
"""What tells a folder that a check or a fix wrote, which is no source."""
SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class SourceFile:
    path: Path
    name: str
    """The path below the folder or the fixed part of the pattern: the same wherever the data lies."""
    corrected: bool = False
    """Whether it is of the corrections, which have a form of their own whatever the spec says of the data's."""

    @property
    def folder(self) -> Path:
        """The folder, or the fixed part of the pattern, that `name` is relative to."""
        return self.path.parents[len(Path(self.name).parts) - 1]


def suffix_of(path: Path) -> str:
    """The suffix in small letters, that of gzip aside."""
    return (Path(path.stem) if path.suffix.lower() == ".gz" else path).suffix.lower()


def files(source: str | Path) -> list[SourceFile]:
    """The files of a source, sorted by name.

    A folder gives all files below it with one of SUFFIXES (gzipped too), but for hidden ones and what a check or a fix
    wrote. A pattern (`*`, `?`, `[…]`, `**`) gives what it matches, whatever the suffix.

    Raises:
        UserError: there is no such file, or none in the folder, or none that matches.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        inside = [p for p in path.rglob("*") if suffix_of(p) in SUFFIXES and p.is_file()]
        found = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        ours = {marker.parent for name in OUTPUTS for marker in path.rglob(name)} - {path}
        found = [p for p in found if ours.isdisjoint(p.parents)]
        if not found:
            raise UserError(
                "No data file is in this folder.",
                where=path,
                fix=f"Files of these kinds are read, gzipped or not: {', '.join(SUFFIXES)}",
            )
        return _named(found, path)
    if path.exists():
        return [SourceFile(path, path.name)]
    if not glob.has_magic(str(path)):
        raise UserError("There is no such data file.", where=path, fix=CHECK_PATHS)
    fixed = Path(*path.parts[: next(n for n, part in enumerate(path.parts) if glob.has_magic(part))])
    found = [p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file()]  # noqa: PTH207 (absolute patterns)
    if not found:
        raise UserError("No file matches this pattern.", where=path, fix=CHECK_PATHS)
    return _named(found, fixed)


def _named(paths: list[Path], root: Path) -> list[SourceFile]:
    return sorted((SourceFile(p, p.relative_to(root).as_posix()) for p in paths), key=lambda file: file.name)
