"""Reads files, gzipped or not, as numbered lines. It streams, so the longest line allowed bounds the memory."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Any

from tunewright.core.errors import UserError
from tunewright.core.regular import require_regular
from tunewright.data.readers.base import CHECK_PATHS, Fault, Note, fault, note
from tunewright.documents.decoding import BOM, wide_encoding

MAX_LINE = 8 << 20
"""Most bytes in one line. No small model reads so much; a longer line lacks its line ends."""

BROKEN_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)
_GZIP = b"\x1f\x8b"
_BUFFER = 1 << 16
_TOKEN = re.compile(r'"((?:[^"\\]|\\.?)*+)(?:"|\Z)|[\[\]{}:]', re.DOTALL)
"""What tells the keys and the nesting of JSON that may be cut off."""
_OF_ROWS = frozenset(
    ["messages", "conversations", "choices", "tools", "input", "output", "contents", "prompt", "completion"]
)
"""Keys under which one row has a list of objects."""


@dataclass(frozen=True)
class LineSpan:
    """Whole consecutive lines of a plain file (see `is_plain_lines`)."""

    start: int
    """Start of the first line, in bytes."""
    stop: int
    """End of the last line, in bytes."""
    line: int
    """Number of the first line."""


class _Slice(io.RawIOBase):
    """The bytes of a span, as a stream."""

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
    """The bytes of a file, unpacked where its first bytes are gzip's, whatever its name; or the bytes of a span.

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
    """The first bytes of a file, unpacked; empty where the gzip is broken at its start."""
    try:
        with unpacked(path) as stream:
            return stream.peek(_BUFFER)
    except BROKEN_GZIP:
        return b""


def is_plain_lines(path: Path) -> bool:
    """Whether a file is plain lines that end at LF: not gzip, not UTF-16, no bare CR as line ends."""
    with path.open("rb") as file:
        head = file.peek(_BUFFER)
        return not is_gzip(file) and wide_encoding(head) is None and b"\n" in head


def raw_lines(path: Path, span: LineSpan | None = None) -> Iterator[tuple[int, bytes] | Fault | Note]:
    """(line number, bytes with their line end) of every line of a file or a span, including blank lines.

    A line ends at LF; in a file without any LF, at CR. One fault stands for a whole UTF-16 file, for a line above
    MAX_LINE, and for all that is lost after a damage in a gzip file.
    """
    number = span.line - 1 if span else 0
    try:
        with unpacked(path, span) as stream:
            # A span belongs to a plain file, so only its first one needs a look: it may begin with a byte order mark.
            head = stream.peek(_BUFFER) if span is None or span.start == 0 else b"\n"
            if span is None and (wide := wide_encoding(head)):
                yield fault(path, 1, "encoding", wide_reason(path, wide), head, hides_rows=True)
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
                    key = listed_under(raw[:_BUFFER].decode("utf-8", "replace")) if number == 1 else None
                    advice = unwrapping(path, key) if key else "Check that each row ends with a line break."
                    reason = f"This line is longer than {MAX_LINE >> 20} MiB. {advice}"
                    yield fault(path, number, "long", reason, raw, hides_rows=True)
                else:
                    yield number, raw
    except BROKEN_GZIP:
        reason = "The gzip file is cut off or damaged here, and the rest is lost; copy or export it again."
        yield fault(path, number + 1, "gzip", reason, hides_rows=True)


def text_lines(path: Path, span: LineSpan | None = None) -> Iterator[tuple[int, str] | Fault | Note]:
    """(line number, text) of every line of a file or a span that isn't blank.

    U+2028 and similar characters are text, not line ends. A line that isn't UTF-8 gives a fault that names the byte;
    the other lines come as usual.
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
        "If it is only this line, correct the line; if it is the whole file, type: " + _convert(path, "WINDOWS-1252")
    )


def wide_reason(path: Path, encoding: str) -> str:
    return f"The file is not UTF-8 but {encoding}. Type: {_convert(path, encoding)}"


def _convert(path: Path, encoding: str) -> str:
    return f"{shell_line(f'iconv -f {encoding} -t UTF-8', path, 'utf8')}  and name that file instead."


def shell_line(command: str, path: Path, prefix: str) -> str:
    """A line for the shell that runs a command on a file, unpacked, and writes to a file here with a prefix in its
    name."""
    target = quote(f"{prefix}-{path.stem if path.suffix.lower() == '.gz' else path.name}")
    with path.open("rb") as file:
        # By its name alone, zcat would refuse a gzip file that is not called .gz.
        return f"{f'zcat < {typed(path)} | {command}' if is_gzip(file) else f'{command} {typed(path)}'} > {target}"


def typed(path: str | Path) -> str:
    """A path as a word of a line for the shell."""
    return quote(str(path))


def listed_under(head: str) -> str | None:
    """The key under which a JSON object with this beginning has a list of objects, as an API's page has its rows; None:
    it has none, or is one row."""
    depth, key, before = 0, "", ""
    for token in _TOKEN.finditer(head):
        sign = token[0]
        if sign == "{" and before == "[" and depth == 2 and key not in _OF_ROWS:
            return key
        if sign == "[" and before != ":":
            key = ""
        depth += (sign in "[{") - (sign in "]}")
        if depth == 1 and token[1] is not None:
            key = token[1]
        before = sign
    return None


def unwrapping(path: Path, key: str) -> str:
    """The advice for a file that is one object, with the rows in a list."""
    name = f".{key}" if key.isascii() and key.isidentifier() else f".[{json.dumps(key, ensure_ascii=False)}]"
    line = shell_line(f"jq -c {quote(f'{name}[]')}", path, "rows")
    return f"To have each row of its list on a line, type: {line}  and name that file instead."


def remarks_on(path: Path, head: bytes) -> Iterator[Note]:
    """Notes on unusual properties of a whole file, given its first bytes unpacked."""
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
    # Latin-1 maps each byte to one character and back, so the text layer splits at CR and changes nothing else.
    text = io.TextIOWrapper(stream, "latin-1", newline="\r")
    return b"\r", lambda limit: text.readline(limit).encode("latin-1")
