"""Tables: CSV and TSV with a header, and Parquet."""

from __future__ import annotations

import csv
import datetime
import math
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError, shortened
from tunewright.core.strict_json import JsonRefusal
from tunewright.data.readers.base import Fault, Note, Row, fault, note
from tunewright.data.readers.lines import BROKEN_GZIP, MAX_LINE, byte_reason, head_of, raw_lines, unpacked
from tunewright.data.readers.sources import suffix_of

_DELIMITERS = ",\t;|"
_SEPARATOR = re.compile(r"sep=(.)[\r\n]+")
_BATCH = 1024


def csv_rows(path: Path) -> Iterator[Row | Fault | Note]:
    """(first line of the row, its fields by the header's names). The delimiter is the header's most frequent one, or
    the one that a line `sep=;` above it names, as Excel does. Columns without a name and a value are left out, and
    so are repeats of the header, as where tables were joined.

    Raises:
        UserError: there is no such file.
    """
    lines = _Lines(path)
    csv.field_size_limit(max(csv.field_size_limit(), MAX_LINE))
    head = head_of(path)
    delimiter = _delimiter(head, path)
    has_blanks = _blanks_before_quotes(head, delimiter)
    reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=has_blanks)
    header: list[str] | None = None
    while True:
        begin = lines.begin()
        error: csv.Error | None = None
        fields: list[str] | None = None
        try:
            fields = next(reader, None)
        except csv.Error as raised:
            error = raised
        yield from lines.aside
        if error:
            until = f" (lines {begin} to {lines.number})" if lines.number > begin else ""
            reason = f"The CSV can't be read: {error}{until}. Double quotes within a quoted field, or export as JSONL."
            yield fault(path, begin, "csv", reason, lines.taken, hides_rows=True)
        elif fields is None:
            return
        elif not fields:
            continue
        elif refusal := _refusal(fields, header, path):
            yield fault(path, begin, refusal.code, refusal.reason, lines.taken, hides_rows=header is None)
            if header is None:
                return
        elif header is None:
            if not _SEPARATOR.fullmatch(lines.taken):
                header = fields
        elif [fields[0].removeprefix("\ufeff"), *fields[1:]] == header:
            yield note(path, begin, "repeated-header", "The line is the header again, so it is no row.")
        else:
            if "\0" in lines.taken:
                yield note(path, begin, "nul", "The row holds a NUL character, which is kept.")
            # pandas writes an index under no name, Excel columns without any value.
            yield begin, {name: value for name, value in zip(header, fields, strict=True) if name.strip() or value}


def _refusal(fields: list[str], header: list[str] | None, path: Path) -> JsonRefusal | None:
    """The fault of a row, or of the header (where `header` is None); None where it is sound."""
    byte = _foreign_byte(fields)
    if byte is not None:
        return JsonRefusal("encoding", byte_reason(path, byte))
    if header is None:
        twice = [name for name, count in Counter(fields).items() if count > 1 and name.strip()]
        reason = f"The header names the column {twice[0]!r} twice; rename one of them." if twice else ""
        return JsonRefusal("header", reason) if twice else None
    if sum(bool(value) and not name.strip() for name, value in zip(header, fields, strict=False)) > 1:
        return JsonRefusal("header", "This row has values in several columns that the header does not name; name them.")
    if len(fields) != len(header):
        reason = (
            f"This row has {len(fields)} fields, but the header has {len(header)}. "
            "Quote fields that hold commas or line breaks, or export as JSONL."
        )
        return JsonRefusal("fields", reason)
    return None


class _Lines:
    """A file's lines as text for `csv.reader`. `aside` collects faults and notes, `taken` the current row's text."""

    def __init__(self, path: Path):
        self._source = raw_lines(path)
        self.number = 0
        self.begin()

    def begin(self) -> int:
        """Start a row. Returns the number of its first line."""
        self._taken: list[str] = []
        self.aside: list[Fault | Note] = []
        return self.number + 1

    @property
    def taken(self) -> str:
        return "".join(self._taken)

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        item = next(self._source)
        while not isinstance(item, tuple):
            self.aside.append(item)
            item = next(self._source)
        self.number = item[0]
        # A byte that isn't UTF-8 becomes half a surrogate pair, so that only its row is refused.
        text = item[1].decode("utf-8", "surrogateescape")
        self._taken.append(text)
        return text


def _delimiter(head: bytes, path: Path) -> str:
    if named := _SEPARATOR.match(head.decode("utf-8", "replace").lstrip("\ufeff")):
        return named[1]
    header = re.split(r"[\r\n]", head.decode("utf-8", "replace").lstrip("\ufeff\r\n"), maxsplit=1)[0]
    bare = re.sub(r'"(?:[^"]|"")*"', "", header)
    usual = "\t" if suffix_of(path) == ".tsv" else ","
    return max(_DELIMITERS, key=lambda mark: (bare.count(mark), mark == usual))


def _blanks_before_quotes(head: bytes, delimiter: str) -> bool:
    """Whether quoted fields begin after a blank: `"a", "b"`. The blank and the quotes would be part of the value.

    Quotes that follow a blank within a field are doubled, or end the field.
    """
    mark = re.escape(delimiter)
    return re.search(rf'{mark} +"(?=[^"\r\n])(?!{mark})', head.decode("utf-8", "replace")) is not None


def _foreign_byte(fields: list[str]) -> int | None:
    try:
        "".join(fields).encode()
    except UnicodeEncodeError as error:
        return ord(error.object[error.start]) - 0xDC00
    return None


def parquet_rows(path: Path) -> Iterator[Row | Fault | Note]:
    """(row number, columns by name), read in batches. Dates become ISO text, and NaN (a table's "none") null.

    Raises:
        UserError: there is no such file, or pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise UserError(
            "Reading Parquet needs the library pyarrow.", where=path, fix="Type: pip install pyarrow"
        ) from None
    number = 0
    with tempfile.TemporaryFile() as copy:
        try:
            with unpacked(path) as stream:
                # A Parquet reader starts at the end of the file, which a gzip stream can't.
                shutil.copyfileobj(stream, copy)
            for batch in pyarrow.parquet.ParquetFile(copy).iter_batches(batch_size=_BATCH):
                for row in _rows_of(batch):
                    number += 1
                    if isinstance(row, dict):
                        yield number, {name: _plain(value) for name, value in row.items()}
                    else:
                        reason = f"A value of this row can't be read: {shortened(row, 200)}. Write it as text."
                        yield fault(path, number, "parquet", reason)
        except (pyarrow.ArrowException, OSError, *BROKEN_GZIP) as error:
            reason = f"The Parquet file can't be read: {str(error).splitlines()[0]}. Export it again."
            yield fault(path, number + 1, "parquet", reason, hides_rows=True)


def _rows_of(batch: Any) -> Iterator[dict[str, Any] | str]:
    """The rows of a batch, or the reason where Python can't hold a row's value, such as a date before the year 1."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):
        for at in range(batch.num_rows):
            try:
                yield batch.slice(at, 1).to_pylist()[0]
            except (ValueError, OverflowError) as error:
                yield str(error)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)
