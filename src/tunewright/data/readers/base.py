"""Faults (rows that a reader could not use) and notes (remarks on rows that it used)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHECK_PATHS = "Check the path, or those under `data:` in the spec."
"""The advice where a file is missing."""

RAW_LIMIT = 2000
"""Characters of a refused row that are kept for the quarantine file."""

Row = tuple[int, dict[str, Any]]
"""A line number (in Parquet: row number), counted from 1, and the object there."""


CALL = "call-"
"""How the code of a fault begins that is a logged call from which nothing can be learnt, and no damage of the data."""


@dataclass(frozen=True)
class Fault:
    """A row, or a whole file, that can't be used."""

    where: str
    """path:line"""
    code: str
    """A short kind that never changes its meaning, such as "encoding", "json", "role"."""
    reason: str
    """The problem and the advice."""
    raw: str
    """The refused text for the quarantine file, cut at RAW_LIMIT characters: as it is in the file, or the row as JSON
    where it could be parsed."""
    hides_rows: bool = False
    """Whether an unknown number of other rows is lost with it, such as the rest of the file."""


@dataclass(frozen=True)
class Note:
    """A remark on a row or a file that is used nevertheless."""

    where: str
    code: str
    reason: str


def fault(path: Path, number: int, code: str, reason: str, raw: str | bytes = "", *, hides_rows: bool = False) -> Fault:
    """A fault at a line. Bytes that are not UTF-8 become escapes."""
    cut = raw[:RAW_LIMIT]
    text = cut.decode("utf-8", "backslashreplace") if isinstance(cut, bytes) else cut
    return Fault(f"{path}:{number}", code, reason, text.encode("utf-8", "backslashreplace").decode(), hides_rows)


def note(path: Path, number: int, code: str, reason: str) -> Note:
    return Note(f"{path}:{number}", code, reason)
