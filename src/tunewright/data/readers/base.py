"""What a reader yields besides examples: faults (rows it could not use) and notes (rows used, with a remark)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECK_PATHS = "Check the path, or those under `data:` in the spec."
"""What to do where a file is not there."""

RAW_LIMIT = 2000
"""Characters of a refused row that are kept for the quarantine file."""

Row = tuple[int, dict[str, Any]]
"""A line (in Parquet: row) number, counted from 1, and the object read there."""


@dataclass(frozen=True)
class Fault:
    """A row, or a whole file, that can't be used."""

    where: str
    """path:line"""
    code: str
    """A short kind that never changes its meaning, such as "encoding", "json", "role"."""
    reason: str
    """What is wrong and what to do about it."""
    raw: str
    """What was refused, for the quarantine file, cut at RAW_LIMIT characters: the text as it stands in the file, or the
    row as JSON where it could be parsed."""


@dataclass(frozen=True)
class Note:
    """A remark on a row, or on a file, that is used all the same."""

    where: str
    code: str
    reason: str


def fault(path: Path, number: int, code: str, reason: str, raw: str | bytes = "") -> Fault:
    """A fault at a line; bytes that are not UTF-8 are kept as escapes."""
    cut = raw[:RAW_LIMIT]
    text = cut.decode("utf-8", "backslashreplace") if isinstance(cut, bytes) else cut
    return Fault(f"{path}:{number}", code, reason, text.encode("utf-8", "backslashreplace").decode())


def note(path: Path, number: int, code: str, reason: str) -> Note:
    return Note(f"{path}:{number}", code, reason)
