"""The reader of a file's rows, and its first rows, which decide their form."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunewright.data.readers import jsonl, tables
from tunewright.data.readers.base import Fault, Note, Row, fault
from tunewright.data.readers.lines import head_of
from tunewright.data.readers.sources import suffix_of
from tunewright.logs.beside import unwrapped

_SAMPLE = 20
"""Rows whose keys decide the form of a file."""

LEFT_OUT = (
    "left-out",
    "This .json file is not read: its rows have no known form, so it may be no data. If it is, name it, or a pattern "
    "such as *.json.",
)
"""(code, reason) of a file of a folder whose rows have no known form."""

_Reader = Callable[[Path], Iterator[Row | Fault | Note]]
_READERS: dict[str, _Reader] = {
    ".jsonl": jsonl.rows,
    ".csv": tables.csv_rows,
    ".tsv": tables.csv_rows,
    ".parquet": tables.parquet_rows,
    ".ndjson": jsonl.rows,
}


def unpaged(items: Iterator[Row | Fault | Note]) -> Iterator[Row | Fault | Note]:
    """The rows, with those that are pages of an API's answer replaced by the rows in them."""
    for item in items:
        if isinstance(item, tuple) and (inner := unwrapped(item[1])) is not None:
            yield from ((item[0], row) for row in inner)
        else:
            yield item


def sampled(
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


def reader_of(path: Path) -> _Reader | Fault:
    """The reader of a file, by its first bytes where they are clear, else by its name."""
    head = head_of(path)
    if head.startswith(b"PAR1"):
        return tables.parquet_rows
    if head.startswith(b"PK\x03\x04"):
        reason = "This is a zip archive or an Excel file; unpack it, or export the sheet as CSV."
        return fault(path, 1, "format", reason, hides_rows=True)
    suffix = suffix_of(path)
    if suffix in _READERS:
        return _READERS[suffix]
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return jsonl.rows
    reason = (
        f"Files of the form '{suffix or path.name}' can't be read. Export the data as one of: {', '.join(_READERS)}"
    )
    return fault(path, 1, "format", reason, head, hides_rows=True)
