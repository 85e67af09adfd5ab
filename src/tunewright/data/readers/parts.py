"""Cutting sources into parts of about one size, each of which can be read on its own, in any process.

Where the cuts lie depends on the data alone, so that what is found never depends on who reads which part.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewright.data.readers.lines import LineSpan, head_of, is_plain_lines
from tunewright.data.readers.sources import SourceFile, suffix_of

PART = 32 << 20
"""Bytes in a part: enough for a worker to be busy for seconds, few enough to hold what is found in one."""


_STRETCH = 1 << 20


@dataclass(frozen=True)
class Piece:
    """A file, or a span of one."""

    file: SourceFile
    span: LineSpan | None = None


def parts(files: Sequence[SourceFile]) -> list[list[Piece]]:
    """Pieces in the files' order, together about PART bytes each. Only plain JSON Lines are cut within a file."""
    cut: list[list[Piece]] = []
    room = 0
    for piece, size in (sized for file in files for sized in _pieces(file)):
        if not cut or size > room:
            cut.append([])
            room = max(PART, size)
        cut[-1].append(piece)
        room -= size
    return cut


def _pieces(file: SourceFile) -> Iterator[tuple[Piece, int]]:
    """The pieces of one file and their bytes."""
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
