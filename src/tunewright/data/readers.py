"""Reading raw rows. A format is one function that yields (line number, row)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunewright.errors import UserError

Row = tuple[int, dict[str, Any]]


def read_rows(path: Path) -> list[Row]:
    """All rows of a .jsonl or .csv file with their line numbers.

    Raises:
        UserError: the file is absent, empty, of another format, not UTF-8, or cut off in the middle of a row.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise UserError(
            f"Files of the form '{path.suffix or path.name}' can't be read yet.",
            where=path,
            fix=f"Export the data as one of: {', '.join(_READERS)}",
        )
    rows = list(reader(_text(path), path))
    if not rows:
        raise UserError("The data file holds no rows.", where=path, fix="Check the export, then run again.")
    return rows


def _text(path: Path) -> str:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError("There is no such data file.", where=path, fix="Check the paths under `data:`.") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        encoding = "UTF-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "WINDOWS-1252"
        raise UserError(
            f"The file is not UTF-8: byte 0x{raw[error.start]:02x} can't be decoded.",
            where=f"{path}:{line}",
            why="It was probably saved as Latin-1, Windows-1252 or UTF-16.",
            fix=f"Type: iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}  and name that file in the spec.",
        ) from None


def _jsonl(text: str, path: Path) -> Iterator[Row]:
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            # Half a surrogate pair can be escaped in JSON but not written as text.
            json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise _bad_line(error, line, f"{path}:{number}", last=number == len(lines)) from None
        if not isinstance(row, dict):
            raise UserError(f"This line is a JSON {type(row).__name__}, not an object.", where=f"{path}:{number}")
        yield number, row


def _bad_line(error: Exception, line: str, where: str, *, last: bool) -> UserError:
    fix = "Export the file again, or delete that line."
    if isinstance(error, UnicodeEncodeError):
        return UserError("This line holds half of a surrogate pair.", where=where, why="It is no character.", fix=fix)
    if isinstance(error, RecursionError):
        return UserError("This line is nested too deeply.", where=where, fix=fix)
    at_end = isinstance(error, json.JSONDecodeError) and (
        error.pos >= len(line.rstrip()) or error.msg.startswith("Unterminated")
    )
    if last and at_end and line.lstrip().startswith("{"):
        why = "The export or the copy probably stopped early."
        return UserError("The last line is cut off.", where=where, why=why, fix=fix)
    return UserError(f"This line is not JSON: {error}.", where=where, why="JSONL needs one object a line.", fix=fix)


def _csv(text: str, path: Path) -> Iterator[Row]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            if None in row or None in row.values():
                raise UserError(
                    f"This row has another number of fields than the header's {len(reader.fieldnames or [])}.",
                    where=f"{path}:{reader.line_num}",
                    fix="Quote fields that hold commas or line breaks, or export as JSONL.",
                )
            yield reader.line_num, dict(row)
    except csv.Error as error:
        raise UserError(f"The CSV can't be read: {error}.", where=f"{path}:{reader.line_num}") from None


_READERS: dict[str, Callable[[str, Path], Iterator[Row]]] = {".jsonl": _jsonl, ".csv": _csv}
