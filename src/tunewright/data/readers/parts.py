"""Cutting sources into parts of about one size. Any process can read a part on its own.

The cuts depend on the data alone, so the findings never depend on the process that reads a part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewright.data.readers.lines import LineSpan, head_of, is_plain_lines
from tunewright.data.readers.sources import SourceFile, suffix_of

PART = 32 << 20
"""Bytes in a part: enough to keep a worker busy for seconds, few enough to hold its findings in memory."""
_STRETCH = 1 << 20


@dataclass(frozen=True)
class Piece:
    """A file, or a span of one."""

    file: SourceFile
    span: LineSpan | None = None


def parts(files: Sequence[SourceFile]) -> list[list[Piece]]:
    """The parts, each of pieces with about PART bytes, in the files' order. Only plain JSON Lines are cut in a file."""
    cut: list[list[Piece]] = []
    left = 0
    for piece, size in (sized for file in files for sized in _pieces(file)):
        if not cut or size > left:
            cut.append([])
            left = max(PART, size)
        cut[-1].append(piece)
        left -= size
    return cut


def _pieces(file: SourceFile) -> Iterator[tuple[Piece, int]]:
    """The pieces of one file, each with its size in bytes."""
    size = file.path.stat().st_size
    if size < 2 * PART or not _is_one_object_a_line(file.path):
        yield Piece(file), size
        return
    with file.path.open("rb") as stream:
        start, line = 0, 1
        while chunk := stream.read(PART):
            length, lines = len(chunk), chunk.count(b"\n")
            while not chunk.endswith(b"\n") and (chunk := stream.readline(_STRETCH)):
                length += len(chunk)
                lines += chunk.count(b"\n")
            yield Piece(file, LineSpan(start, start + length, line)), length
            start += length
            line += lines


def _is_one_object_a_line(path: Path) -> bool:
    if suffix_of(path) in (".csv", ".tsv", ".parquet") or not is_plain_lines(path):
        return False
    try:
        return isinstance(json.loads(head_of(path).lstrip(b"\xef\xbb\xbf \t\r\n").split(b"\n", 1)[0]), dict)
    except (ValueError, RecursionError):
        return False
