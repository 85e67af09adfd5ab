"""Bytes on disk, gzipped or not, as numbered lines: streamed, so that memory is bounded by the longest line allowed."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.core.errors import UserError
from tunewright.core.regular import require_regular
from tunewright.data.readers.base import CHECK_PATHS, Fault, Note, fault, note
from tunewright.documents.decoding import BOM, wide_encoding

MAX_LINE = 8 << 20
"""Bytes in one line. No model this small reads so much; what is longer lacks its line ends."""

BROKEN_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)
_GZIP = b"\x1f\x8b"
_BUFFER = 1 << 16


@dataclass(frozen=True)
class LineSpan:
    """Some whole lines of a plain file (see `is_plain_lines`)."""

    start: int
    """Where the first line begins, in bytes."""
    stop: int
    """Where the last one ends."""
    line: int
    """Number of the first line."""


class _Slice(io.RawIOBase):
    """A file's bytes within a span, as a stream of its own."""

    def __init__(self, file: io.FileIO, span: LineSpan):
        self._file, self._left = file, span.stop - span.start
        file.seek(span.start)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._file.readinto(memoryview(buffer)[: self._left]) or 0
        self._left -= count
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


@contextmanager
def unpacked(path: Path, span: LineSpan | None = None) -> Iterator[io.BufferedReader[Any]]:
    """The bytes of a file, unpacked where its first bytes are gzip's, whatever its name; or those within a span.

    Raises:
        UserError: there is no such file.
    """
    try:
        require_regular(path, CHECK_PATHS)
        raw = path.open("rb", buffering=0)
        file = io.BufferedReader(_Slice(raw, span) if span else raw, _BUFFER)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise UserError("There is no such data file.", where=path, fix=CHECK_PATHS) from None
    with file:
        if span is None and is_gzip(file):
            with gzip.GzipFile(fileobj=file) as plain, io.BufferedReader(plain, _BUFFER) as stream:
                yield stream
        else:
            yield file


def is_gzip(file: io.BufferedReader[Any]) -> bool:
    return file.peek(2)[:2] == _GZIP


def head_of(path: Path) -> bytes:
    """The first bytes of a file, unpacked; empty where the gzip is broken from its start."""
    try:
        with unpacked(path) as stream:
            return stream.peek(_BUFFER)
    except BROKEN_GZIP:
        return b""


def is_plain_lines(path: Path) -> bool:
    """Whether a file is read as it lies on disk, line by line at LF: not gzip, not UTF-16, not ended by CR alone."""
    with path.open("rb") as file:
        head = file.peek(_BUFFER)
        return not is_gzip(file) and wide_encoding(head) is None and b"\n" in head


def raw_lines(path: Path, span: LineSpan | None = None) -> Iterator[tuple[int, bytes] | Fault | Note]:
    """(line number, bytes with their line end) of every line, blank ones too; all, or those of a span.

    A line ends at LF; in a file without any LF, at CR. One fault stands for a whole UTF-16 file, for a line above
    MAX_LINE, and for what is lost behind the place where a gzip file is damaged.
    """
    number = span.line - 1 if span else 0
    try:
        with unpacked(path, span) as stream:
            # A span is of a plain file, so it is not looked at as one; only the first begins with the file's mark.
            head = stream.peek(_BUFFER) if span is None or span.start == 0 else b"\n"
            if span is None and (wide := wide_encoding(head)):
                yield fault(path, 1, "encoding", _wide_reason(path, wide), head)
                return
            yield from remarks_on(path, head)
            if head.startswith(BOM):
                stream.read(len(BOM))
            end, readline = _line_reader(stream, head if span is None else b"\n")
            while raw := readline(MAX_LINE):
                number += 1
                if len(raw) == MAX_LINE and not raw.endswith(end):
                    while (rest := readline(MAX_LINE)) and not rest.endswith(end):
                        pass
                    reason = (
                        f"This line is longer than {MAX_LINE >> 20} MiB; check that each row ends with a line break."
                    )
                    yield fault(path, number, "long", reason, raw)
                else:
                    yield number, raw
    except BROKEN_GZIP:
        reason = "The gzip file is cut off or damaged here, and what follows is lost; copy or export it again."
        yield fault(path, number + 1, "gzip", reason)


def text_lines(path: Path, span: LineSpan | None = None) -> Iterator[tuple[int, str] | Fault | Note]:
    """(line number, text) of every line that isn't blank, or of those within a span.

    U+2028 and its like are text, not line ends. A line that isn't UTF-8 is a fault that names the byte; the other
    lines are yielded as usual.
    """
    for item in raw_lines(path, span):
        if not isinstance(item, tuple):
            yield item
            continue
        number, raw = item
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            if error.reason == "unexpected end of data" and error.end == len(raw):
                reason = "The last line is cut off within a character: the export or the copy probably stopped early."
                yield fault(path, number, "truncated", reason, raw)
            else:
                yield fault(path, number, "encoding", byte_reason(path, raw[error.start]), raw)
            continue
        if text := text.rstrip(" \t\r\n"):
            yield number, text


def byte_reason(path: Path, byte: int) -> str:
    return (
        f"The file is not UTF-8: byte 0x{byte:02x} can't be decoded; it was probably saved as Latin-1 or Windows-1252. "
        "Where it is but this line, mend the line; where it is the whole file, type: " + _convert(path, "WINDOWS-1252")
    )


def _wide_reason(path: Path, encoding: str) -> str:
    return f"The file is not UTF-8 but {encoding}. Type: {_convert(path, encoding)}"


def _convert(path: Path, encoding: str) -> str:
    return f"iconv -f {encoding} -t UTF-8 {path.name} > utf8-{path.name}  and name that file instead."


def remarks_on(path: Path, head: bytes) -> Iterator[Note]:
    """What is unusual about a file as a whole, given its first bytes unpacked."""
    with path.open("rb") as file:
        if is_gzip(file) and path.suffix.lower() != ".gz":
            yield note(path, 1, "gzip", "The file is gzip, not UTF-8 text, though its name doesn't end in .gz.")
    if head.startswith(BOM):
        yield note(path, 1, "bom", "The file begins with a byte order mark, which is not part of the first row.")
    if _ends_in_cr(head):
        yield note(path, 1, "cr", "The lines end in a bare CR, as on old Macs.")


def _ends_in_cr(head: bytes) -> bool:
    return b"\r" in head and b"\n" not in head


def _line_reader(stream: io.BufferedReader[Any], head: bytes) -> tuple[bytes, Callable[[int], bytes]]:
    if not _ends_in_cr(head):
        return b"\n", stream.readline
    # Latin-1 maps each byte to one character and back, so that the text layer splits at CR and changes nothing.
    text = io.TextIOWrapper(stream, "latin-1", newline="\r")
    return b"\r", lambda limit: text.readline(limit).encode("latin-1")
