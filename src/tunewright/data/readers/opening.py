"""The reader of a file's rows, and its first rows, which decide their form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunewright.data.readers import jsonl, tables
from tunewright.data.readers.base import Fault, Note, Row, fault
from tunewright.data.readers.lines import head_of, wide_reason
from tunewright.data.readers.sources import suffix_of
from tunewright.documents.decoding import wide_encoding
from tunewright.logs.beside import unwrapped

_SAMPLE = 20
"""Rows whose keys decide the form of a file."""

_DOUBTFUL_SAMPLE = 200
"""Items that are read of a file that may be no data, if no row is among them: of a long text each line is a fault."""

_Reader = Callable[[Path], Iterator[Row | Fault | Note]]
_READERS: dict[str, _Reader] = {
    ".jsonl": jsonl.rows,
    ".csv": tables.csv_rows,
    ".tsv": tables.csv_rows,
    ".parquet": tables.parquet_rows,
    ".ndjson": jsonl.rows,
}
_TEXTS = (".json", ".log", "")
"""Suffixes of files that may hold rows of JSON, beside those of `_READERS`."""


def unpaged(items: Iterator[Row | Fault | Note]) -> Iterator[Row | Fault | Note]:
    """The rows, with those that are pages of an API's answer replaced by the rows in them."""
    for item in items:
        if isinstance(item, tuple) and (inner := unwrapped(item[1])) is not None:
            yield from ((item[0], row) for row in inner)
        else:
            yield item


def left_out(path: Path, reader: _Reader | Fault) -> tuple[str, str]:
    """(code, reason) of a file of a folder that is not read, because it is no data by its name, nor by its rows.

    Args:
        reader: its reader, or why it has none.
    """
    if isinstance(reader, Fault) and (reader.code != "format" or suffix_of(path) not in _TEXTS):
        return "left-out", f"This file is not read. {reader.reason}"
    reason = "its rows have no known form, so it may be no data. If it is, name it, or a pattern that it matches."
    return "left-out", f"This file is not read: {reason}"


def sampled(items: Iterator[Row | Fault | Note], *, is_doubtful: bool = False) -> list[dict[str, Any]]:
    """The first rows. Nothing else is kept: a file may have a fault on each of its lines.

    Args:
        is_doubtful: whether the items are of a file that may be no data.
    """
    objects: list[dict[str, Any]] = []
    for number, item in enumerate(items, 1):
        if isinstance(item, tuple):
            objects.append(item[1])
            if len(objects) == _SAMPLE:
                break
        elif is_doubtful and not objects and number == _DOUBTFUL_SAMPLE:
            break
    return objects


def reader_of(path: Path) -> _Reader | Fault:
    """The reader of a file, by its first bytes where they are clear, else by its name."""
    head = head_of(path)
    if head.startswith(b"PAR1"):
        return tables.parquet_rows
    if head.startswith(b"PK\x03\x04"):
        reason = "This is a zip archive or an Excel file; unpack it, or export the sheet as CSV."
        return fault(path, 1, "format", reason, hides_rows=True)
    suffix = suffix_of(path)
    if suffix != ".parquet" and (wide := wide_encoding(head)):
        return fault(path, 1, "encoding", wide_reason(path, wide), head, hides_rows=True)
    if suffix in _READERS:
        return _READERS[suffix]
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return jsonl.rows
    reason = (
        f"Files of the form '{suffix or path.name}' can't be read. Export the data as one of: {', '.join(_READERS)}"
    )
    return fault(path, 1, "format", reason, head, hides_rows=True)
