"""Readers turn files of every known format into canonical examples. A row that can't be read becomes a fault.

files    -> sources.py   a file, a folder or a pattern
lines    -> lines.py     gzip, encodings, line ends
rows     -> opening.py, then jsonl.py, array.py (both on tunewright.core.strict_json) or tables.py
examples -> forms.py, chat.py; the package `logs` reads logs of model calls, `documents` the documents that rows name
calls    -> calls.py, for the traffic's side
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError, did_you_mean, first_of
from tunewright.core.progress import say
from tunewright.core.strict_json import JsonRefusal
from tunewright.data.readers import jsonl
from tunewright.data.readers.base import Fault, Note, Row, fault, note
from tunewright.data.readers.forms import FORMS, Columns, detect, example, form_of, logged_example, no_texts
from tunewright.data.readers.opening import left_out, reader_of, sampled, unpaged
from tunewright.data.readers.parts import Piece
from tunewright.data.readers.sources import SourceFile, files
from tunewright.data.readers.writing import quarantine_line, write_chat
from tunewright.data.shown import shown
from tunewright.logs import LOG_FORMS, REQUESTS_ALONE
from tunewright.logs.beside import Neighbours, RequestsBeside
from tunewright.tasks import Example

__all__ = [
    "FORMS",
    "Columns",
    "Fault",
    "Note",
    "data_files",
    "detect",
    "documents_of",
    "quarantine_line",
    "read",
    "read_piece",
    "read_rows",
    "write_chat",
]

_NAMED = 3
"""Files that were left out, by their names in the line about them."""
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
    if form is not None and form not in FORMS and form not in LOG_FORMS:
        raise UserError(f"There is no form '{form}'.", fix=f"Choose one of: {', '.join((*FORMS, *LOG_FORMS))}")
    neighbours = Neighbours()
    return chain.from_iterable(read_piece(Piece(file), form, columns, neighbours) for file in files(source))


def read_rows(source: str | Path) -> list[Row]:
    """All rows of a file, a folder or a pattern as they are, with their line numbers. Notes are left out, and so are
    those files of a folder that may be no data, which a line names.

    Raises:
        UserError: there is no such file, it holds no rows, or a row can't be read.
    """
    rows: list[Row] = []
    unknown: list[str] = []
    for file in files(source):
        if _is_left_out(file):
            unknown.append(file.name)
            continue
        reader = reader_of(file.path)
        for item in [reader] if isinstance(reader, Fault) else reader(file.path):
            if isinstance(item, Fault):
                raise UserError(item.reason, where=item.where)
            if isinstance(item, tuple):
                rows.append(item)
    if unknown:
        say(_without(unknown))
    if not rows:
        raise UserError("The data file holds no rows.", where=source, fix="Check the export, then run again.")
    return rows


def data_files(source: str | Path) -> list[SourceFile]:
    """The files that `read_rows` reads.

    Raises:
        UserError: there is no such file.
    """
    return [file for file in files(source) if not _is_left_out(file)]


def _is_left_out(file: SourceFile) -> bool:
    if not file.is_doubtful:
        return False
    reader = reader_of(file.path)
    return isinstance(reader, Fault) or detect(sampled(unpaged(reader(file.path)), is_doubtful=True)) is None


def _without(names: Sequence[str]) -> str:
    """The line about the files of a folder that are not read."""
    which = "file was" if len(names) == 1 else "files were"
    return (
        f"{len(names):,} {which} left out, because they may be no data: {first_of(names, _NAMED)}. If they are data, "
        "name them, or a pattern such as *.json."
    )


def documents_of(file: SourceFile, column: str) -> Iterator[Path]:
    """The documents that the rows of a file name, in order, existing or not."""
    reader = reader_of(file.path)
    for item in () if file.corrected or isinstance(reader, Fault) else reader(file.path):
        if isinstance(item, tuple) and (name := item[1].get(column)) is not None:
            yield file.path.parent / str(name)


def read_piece(
    piece: Piece, form: str | None, columns: Columns | None, neighbours: Neighbours | None = None
) -> Iterator[Example | Fault | Note]:
    """`read` for one piece of a source; a span of a file has the form of its file.

    Args:
        neighbours: the requests beside the pieces, if several are read.
    """
    file, path = piece.file, piece.file.path
    if file.corrected:
        form, columns = "labelled", Columns("text", "answer", time="time" if columns and columns.time else None)
    reader = reader_of(path)
    if isinstance(reader, Fault):
        yield note(path, 1, *left_out(path, reader)) if file.is_doubtful else reader
        return
    objects = sampled(unpaged(reader(path)), is_doubtful=file.is_doubtful)
    if file.is_doubtful and detect(objects, columns) is None:
        # Where rows name documents, these are most of such files.
        if columns is None or columns.document is None:
            yield note(path, 1, *left_out(path, reader))
        return
    form = form or detect(objects, columns)
    named = columns or Columns()
    noted: set[str] = set()
    requests = (neighbours or Neighbours()).of(path)
    if form in REQUESTS_ALONE and requests.have_answers(form):
        yield note(path, 1, "requests", "These are requests alone; they are read with their answers in a file beside.")
        return
    is_empty = piece.span is None
    for item in unpaged(jsonl.rows(path, piece.span) if piece.span else reader(path)):
        is_empty = is_empty and isinstance(item, Note)
        if not isinstance(item, tuple):
            yield item
            continue
        number, row = item
        remarks: list[tuple[str, str]] = []
        for read in _examples(row, number, form, named, file, requests, remarks):
            if isinstance(read, JsonRefusal):
                yield fault(path, number, read.code, read.reason, _text(row))
                continue
            for code, reason in remarks:
                if code not in _ONCE or reason not in noted:
                    yield note(path, number, code, reason)
                    noted.add(reason)
            remarks.clear()
            yield read
    if is_empty:
        reason = "The data file holds no rows. Check the export, then run again."
        yield fault(path, 1, "empty", reason, hides_rows=True)


def _examples(
    row: dict[str, Any],
    number: int,
    form: str | None,
    columns: Columns,
    file: SourceFile,
    requests: RequestsBeside,
    remarks: list[tuple[str, str]],
) -> Iterator[Example | JsonRefusal]:
    """The examples of a row: one, or of a log's row each call's. A refusal says why there is none."""
    source = f"{file.name}:{number}"
    try:
        if form is None:
            raise JsonRefusal("form", _no_form(row, columns))
        if form not in LOG_FORMS:
            yield example(row, form, columns, source, file, remarks)
            return
        if not LOG_FORMS[form].fits(row):
            raise JsonRefusal("form", _other_form(row, form))
    except JsonRefusal as refusal:
        yield refusal
        return
    for place, call in enumerate(LOG_FORMS[form].calls(row, requests)):
        try:
            yield logged_example(row, call, columns, f"{source}.{place}" if place else source, remarks)
        except JsonRefusal as refusal:
            yield refusal


def _no_form(row: dict[str, Any], columns: Columns) -> str:
    if reason := no_texts(row):
        return reason
    named = (columns.request, *([columns.label] if isinstance(columns.label, str) else columns.label.values()))
    absent = [name for name in named if name not in row]
    are_named = (columns.request, columns.label) != ("text", "label")
    if 0 < len(absent) < len(named) and (are_named or absent[0].lower() in {str(key).lower() for key in row}):
        close = did_you_mean(absent[0], map(str, row), f"It has {', '.join(repr(shown(key, 40)) for key in row)}.")
        return f"This row has no column {absent[0]!r}. {close}"
    names = ", ".join(f"'{shown(key, 40)}'" for key in list(row)[:12]) or "none"
    return (
        f"The keys of this file's rows match no known form ({', '.join((*FORMS, *LOG_FORMS))}); this row has {names}. "
        "Name the form, or the columns of text and label."
    )


def _other_form(row: dict[str, Any], form: str) -> str:
    other = form_of(row)
    hint = f" It looks like the form '{other}': put such rows in a file of their own." if other else ""
    return f"This row is not of the form '{form}' that most rows of this file have.{hint}"


def _text(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)
