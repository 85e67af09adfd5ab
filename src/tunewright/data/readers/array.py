"""Reads a file that is one JSON array of objects, element by element with bounded memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path

from tunewright.core.strict_json import JSON_FAULTS, StrictJson, described
from tunewright.data.readers.base import Fault, Note, Row, fault, note
from tunewright.data.readers.lines import BROKEN_GZIP, MAX_LINE, byte_reason, head_of, remarks_on, unpacked

_CHUNK = 1 << 16
_LONGEST_WORD = 12
"""Characters of the longest piece of JSON that is read as one, besides texts and numbers: an escape of two halves."""
_SPACE = re.compile(r"[ \t\r\n]*")
_START = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\[[ \t\r\n]*(?:\{|$)")


def begins(head: bytes) -> bool:
    """Whether a file with these first bytes is one array of objects, rather than lines with an array each."""
    if not _START.match(head):
        return False
    line, _, rest = head.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b"\n")
    return not (rest.strip() and line.rstrip().endswith(b"]"))


def unfinished(error: json.JSONDecodeError, text: str) -> bool:
    """Whether parsing failed because the text ends too early."""
    return error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated")


def _may_go_on(error: json.JSONDecodeError, text: str) -> bool:
    """Whether more text could mend it: the text ends too early, perhaps within a word or an escape."""
    return unfinished(error, text) or error.pos >= len(text) - _LONGEST_WORD


def rows(path: Path) -> Iterator[Row | Fault | Note]:
    """(line number, object) of every element. Broken JSON gives one fault and ends the file."""
    yield from remarks_on(path, head_of(path))
    yield note(path, 1, "array", "This line is not JSON by itself: the file is one JSON array, not an object a line.")
    text = _Text(path)
    parser = StrictJson()
    try:
        text.skip("[")
        while text.skip(",") != "]":
            start = text.at
            try:
                value, end, remarks = parser.read_at(text.buffer, start)
                if end == len(text.buffer) and not isinstance(value, (dict, list, str)) and text.more():
                    continue  # a number may go on
            except json.JSONDecodeError as error:
                if _may_go_on(error, text.buffer) and len(text.buffer) - start < MAX_LINE and text.more():
                    continue
                yield _broken(path, text, error)
                return
            except JSON_FAULTS as error:
                refusal = described(error)
                reason = f"{refusal.reason} The rest of the array is lost."
                yield fault(path, text.line, refusal.code, reason, text.buffer[start:], hides_rows=True)
                return
            for code, reason in remarks:
                yield note(path, text.line, code, reason)
            if isinstance(value, dict):
                yield text.line, value
            else:
                reason = f"This element of the array is a JSON {type(value).__name__}, not an object; delete it."
                yield fault(path, text.line, "shape", reason, text.buffer[start:end])
            text.advance(end)
        if rest := text.buffer[text.at + 1 :].strip():
            reason = "There is text after the end of the JSON array; it was not read."
            yield fault(path, text.line, "json", reason, rest, hides_rows=True)
    except UnicodeDecodeError as error:
        reason = f"{byte_reason(path, error.object[error.start])} The rest of the array is lost."
        yield fault(path, text.line, "encoding", reason, text.buffer[text.at :], hides_rows=True)
    except BROKEN_GZIP:
        reason = "The gzip file is cut off or damaged here; copy or export it again."
        yield fault(path, text.line, "gzip", reason, hides_rows=True)


def _broken(path: Path, text: _Text, error: json.JSONDecodeError) -> Fault:
    rest = text.buffer[text.at :]
    if not rest or unfinished(error, text.buffer):
        reason = "The JSON array is cut off here: the export or the copy probably stopped early. Export it again."
        return fault(path, text.line, "truncated", reason, rest, hides_rows=True)
    reason = f"The JSON array can't be read from here on: {error.msg}. Export it as JSONL, one object a line."
    return fault(path, text.line, "json", reason, rest, hides_rows=True)


class _Text:
    """A window on the file's text: `buffer[at:]` comes next, and begins in line `line`."""

    def __init__(self, path: Path):
        self.buffer, self.at, self.line = "", 0, 1
        self._chunks = _chunks(path)

    def more(self) -> bool:
        """Read as much text again as is unread in the buffer; False at the end of the file."""
        unread = [self.buffer[self.at :]]
        needed = max(_CHUNK, len(unread[0]))
        while needed > 0 and (chunk := next(self._chunks, "")):
            unread.append(chunk)
            needed -= len(chunk)
        self.buffer, self.at = "".join(unread), 0
        return len(unread) > 1

    def skip(self, mark: str) -> str:
        """Skip white space and one `mark`, if there is one. Returns the next character."""
        skipped = False
        while True:
            space = _SPACE.match(self.buffer, self.at)
            self.advance(space.end() if space else self.at)
            if self.at == len(self.buffer):
                if not self.more():
                    return ""
            elif self.buffer[self.at] == mark and not skipped:
                skipped = True
                self.at += 1
            else:
                return self.buffer[self.at]

    def advance(self, to: int) -> None:
        self.line += self.buffer.count("\n", self.at, to)
        self.at = to


def _chunks(path: Path) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with unpacked(path) as stream:
        while chunk := stream.read(_CHUNK):
            # A chunk that ends within its first character decodes to "", which would look like the end.
            if text := decoder.decode(chunk):
                yield text
        decoder.decode(b"", final=True)
