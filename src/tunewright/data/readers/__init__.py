"""Readers turn files of every known format into canonical examples. A row that can't be read becomes a fault.

files    -> sources.py   a file, a folder or a pattern
lines    -> lines.py     gzip, encodings, line ends
rows     -> jsonl.py, array.py (both on tunewright.core.strict_json), tables.py
examples -> forms.py, chat.py; the package `documents` reads documents that rows name
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError
from tunewright.core.strict_json import JsonRefusal
from tunewright.data.readers import jsonl, tables
from tunewright.data.readers.base import Fault, Note, Row, fault, note
from tunewright.data.readers.forms import FORMS, Columns, detect, example
from tunewright.data.readers.lines import head_of
from tunewright.data.readers.parts import Piece
from tunewright.data.readers.sources import SourceFile, files, suffix_of
from tunewright.data.readers.writing import quarantine_line, write_chat
from tunewright.data.shown import shown
from tunewright.tasks import Example

__all__ = [
    "FORMS",
    "Columns",
    "Fault",
    "Note",
    "detect",
    "documents_of",
    "quarantine_line",
    "read",
    "read_piece",
    "read_rows",
    "write_chat",
]

_SAMPLE = 20
"""Rows whose keys decide the form of a file."""

_Reader = Callable[[Path], Iterator[Row | Fault | Note]]
_READERS: dict[str, _Reader] = {
    ".jsonl": jsonl.rows,
    ".csv": tables.csv_rows,
    ".tsv": tables.csv_rows,
    ".parquet": tables.parquet_rows,
    ".ndjson": jsonl.rows,
}

_ONCE = ("extra-keys", "role")
"""Notes that are the same for every row, and are given only for the first."""


def read(
    source: str | Path, *, form: str | None = None, columns: Columns | None = None
) -> Iterator[Example | Fault | Note]:
    """Every row of a file, a folder or a pattern, in order, as an example or as a fault with the reason.

    Notes come before the example they concern; a note that holds for every row comes once a file. Memory is bounded.

    Args:
        form: a name in FORMS; by default the first rows of each file decide its form.
        columns: the columns of text, label, group and time. Rows with these columns are read by them.

    Raises:
        UserError: there is no such file or form, or a library is missing (raised at the first item).
    """
    if form is not None and form not in FORMS:
        raise UserError(f"There is no form '{form}'.", fix=f"Choose one of: {', '.join(FORMS)}")
    return chain.from_iterable(read_piece(Piece(file), form, columns) for file in files(source))


def read_rows(source: str | Path) -> list[Row]:
    """All rows of a file, a folder or a pattern as they are, with their line numbers; notes are left out.

    Raises:
        UserError: there is no such file, it holds no rows, or a row can't be read.
    """
    rows: list[Row] = []
    for file in files(source):
        reader = _reader_of(file.path)
        for item in [reader] if isinstance(reader, Fault) else reader(file.path):
            if isinstance(item, Fault):
                raise UserError(item.reason, where=item.where)
            if isinstance(item, tuple):
                rows.append(item)
    if not rows:
        raise UserError("The data file holds no rows.", where=source, fix="Check the export, then run again.")
    return rows


def documents_of(file: SourceFile, column: str) -> Iterator[Path]:
    """The documents that the rows of a file name, in order, existing or not."""
    reader = _reader_of(file.path)
    for item in () if file.corrected or isinstance(reader, Fault) else reader(file.path):
        if isinstance(item, tuple) and (name := item[1].get(column)) is not None:
            yield file.path.parent / str(name)


def read_piece(piece: Piece, form: str | None, columns: Columns | None) -> Iterator[Example | Fault | Note]:
    """`read` for one piece of a source; a span of a file has the form of its file."""
    file, path = piece.file, piece.file.path
    if file.corrected:
        form, columns = "labelled", Columns("text", "answer", time="time" if columns and columns.time else None)
    reader = _reader_of(path)
    if isinstance(reader, Fault):
        yield reader
        return
    sample, objects, items = _sampled(reader(path))
    if piece.span:
        sample, items = [], jsonl.rows(path, piece.span)
    elif not any(isinstance(item, (tuple, Fault)) for item in sample):
        yield fault(path, 1, "empty", "The data file holds no rows. Check the export, then run again.")
    form = form or detect(objects, columns)
    named = columns or Columns()
    noted: set[str] = set()
    for item in chain(sample, items):
        if not isinstance(item, tuple):
            yield item
            continue
        number, row = item
        remarks: list[tuple[str, str]] = []
        try:
            if form is None:
                raise JsonRefusal("form", _no_form(row))
            read = example(row, form, named, f"{file.name}:{number}", file, remarks)
        except JsonRefusal as refusal:
            yield fault(path, number, refusal.code, refusal.reason, _text(row))
            continue
        for code, reason in remarks:
            if code not in _ONCE or reason not in noted:
                yield note(path, number, code, reason)
                noted.add(reason)
        yield read


def _sampled(
    items: Iterator[Row | Fault | Note],
) -> tuple[list[Row | Fault | Note], list[dict[str, Any]], Iterator[Row | Fault | Note]]:
    """(the items up to the end of the sample, the objects among them, the remaining items)."""
    sample: list[Row | Fault | Note] = []
    objects: list[dict[str, Any]] = []
    for item in items:
        sample.append(item)
        if isinstance(item, tuple):
            objects.append(item[1])
            if len(objects) == _SAMPLE:
                break
    return sample, objects, items


def _reader_of(path: Path) -> _Reader | Fault:
    """The reader of a file, by its first bytes where they are clear, else by its name."""
    head = head_of(path)
    if head.startswith(b"PAR1"):
        return tables.parquet_rows
    if head.startswith(b"PK\x03\x04"):
        reason = "This is a zip archive or an Excel file; unpack it, or export the sheet as CSV."
        return fault(path, 1, "format", reason)
    suffix = suffix_of(path)
    if suffix in _READERS:
        return _READERS[suffix]
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return jsonl.rows
    reason = (
        f"Files of the form '{suffix or path.name}' can't be read. Export the data as one of: {', '.join(_READERS)}"
    )
    return fault(path, 1, "format", reason, head)


def _no_form(row: dict[str, Any]) -> str:
    names = ", ".join(f"'{shown(key, 40)}'" for key in list(row)[:12]) or "none"
    return (
        f"The keys of this file's rows match no known form ({', '.join(FORMS)}); this row has {names}. "
        "Name the form, or the columns of text and label."
    )


def _text(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)
