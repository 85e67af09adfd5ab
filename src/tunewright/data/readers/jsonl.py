"""JSON Lines: one object a line. Any other line becomes a fault that tells what it seems to be."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tunewright.core.strict_json import JSON_FAULTS, JsonRefusal, StrictJson, described
from tunewright.data.readers import array
from tunewright.data.readers.base import RAW_LIMIT, Fault, Note, Row, fault, note
from tunewright.data.readers.lines import (
    BROKEN_GZIP,
    MAX_LINE,
    LineSpan,
    head_of,
    listed_under,
    shell_line,
    text_lines,
    unpacked,
    unwrapping,
)

_Item = tuple[int, str] | Fault | Note
_AGAIN = "Export the file again, or delete that line."


def rows(path: Path, span: LineSpan | None = None) -> Iterator[Row | Fault | Note]:
    """(line number, object) of every line, or of the lines in a span.

    A file that is one JSON array gives its elements, with a note.

    Raises:
        UserError: there is no such file.
    """
    if span is None and array.begins(head_of(path)):
        yield from array.rows(path)
        return
    if span is None and (whole := _whole_object(path)) is not None:
        yield 1, whole
        return
    source: Iterator[_Item] = text_lines(path, span)
    parser = StrictJson()
    item = next(source, None)
    first = span is None or span.start == 0
    while item is not None:
        if not isinstance(item, tuple):
            yield item
            item = next(source, None)
            continue
        number, text = item
        try:
            value, remarks = parser.read(text)
        except JSON_FAULTS as error:
            line_fault, item = _diagnosed(error, path, number, text, source, first=first)
            yield line_fault
        else:
            if isinstance(value, dict):
                for code, reason in remarks:
                    yield note(path, number, code, reason)
                yield number, value
            else:
                reason = f"This line is a JSON {type(value).__name__}, not an object. {_AGAIN}"
                yield fault(path, number, "shape", reason, text)
            item = next(source, None)
        first = False


def _whole_object(path: Path) -> dict[str, Any] | None:
    """The JSON object that a whole file is, over several lines, as an API's answer is often saved; None: it is none.
    Rows that take several lines each are reported instead."""
    head = head_of(path).lstrip(b"\xef\xbb\xbf \t\r\n")
    first, _, rest = head.partition(b"\n")
    if not head.startswith(b"{") or not rest.strip() or rest.lstrip().startswith(b"{") or first.rstrip().endswith(b"}"):
        return None
    try:
        with unpacked(path) as stream:
            content = stream.read(MAX_LINE + 1)
    except BROKEN_GZIP:
        return None
    if len(content) > MAX_LINE:
        return None
    try:
        value, _ = StrictJson().read(content.decode("utf-8-sig"))
    except JSON_FAULTS:
        return None
    return value if isinstance(value, dict) else None


def _diagnosed(
    error: Exception, path: Path, number: int, text: str, source: Iterator[_Item], *, first: bool
) -> tuple[Fault, _Item | None]:
    """The fault of a line, and the next item: some faults stand for several lines."""
    following = next(source, None)
    if not isinstance(error, json.JSONDecodeError):
        refusal = described(error)
        return fault(path, number, refusal.code, refusal.reason, text), following
    after = following[1] if isinstance(following, tuple) else None
    if first and not text.lstrip().startswith(("{", "[")) and re.search("[,;\t|]", text):
        last, kept, following = _skip_lines(text, number, following, source, lambda line: not line.startswith("{"))
        reason = (
            f"This line is not JSON: lines {number} to {last} look like CSV; "
            "rename the file to .csv, or export it as JSONL."
        )
        return fault(path, number, "csv", reason, kept, hides_rows=True), following
    if text.startswith("{") and array.unfinished(error, text):
        if following is None:
            reason = f"The last line is cut off: the export or the copy probably stopped early. {_AGAIN}"
            return fault(path, number, "truncated", reason, text), None
        if after is not None and not after.startswith("{"):
            is_one = first

            def belongs(line: str) -> bool:
                nonlocal is_one
                is_one = is_one and not line.startswith("{")
                return _is_no_object(line)

            last, kept, following = _skip_lines(text, number, following, source, belongs)
            key = listed_under(head_of(path).decode("utf-8", "replace")) if is_one else None
            advice = (
                unwrapping(path, key)
                if key
                else f"Write each row on one line. Type: {shell_line('jq -c .', path, 'lines')}"
            )
            reason = (
                f"This line is not JSON: in lines {number} to {last} a row takes several lines (pretty-printed, or "
                f"broken within a text). {advice}"
            )
            return fault(path, number, "pretty-printed", reason, kept, hides_rows=True), following
    if error.msg == "Extra data" and text[error.pos :].startswith("{"):
        reason = "This line is not JSON: it holds more than one object; put a line break between them."
        return fault(path, number, "json", reason, text, hides_rows=True), following
    refusal = _one_row(error, text)
    return fault(path, number, refusal.code, refusal.reason, text), following


def _one_row(error: json.JSONDecodeError, text: str) -> JsonRefusal:
    """The fault of a line that holds one row."""
    rest = text[error.pos :]
    if error.msg == "Extra data" and rest.strip() == ",":
        return JsonRefusal("json", "This line is not JSON: there is a comma after the object; JSONL has none.")
    if re.match(r"\{\s*'", text) or rest.startswith(("None", "True", "False")):
        reason = "This line is not JSON but a Python dict; export it with json.dumps instead of str."
        return JsonRefusal("python", reason)
    if error.msg.startswith("Invalid control character"):
        reason = f"a string holds a raw control character (0x{ord(rest[0]):02x})" if rest else "a control character"
        return JsonRefusal("control", f"This line is not JSON: {reason}, where JSON needs an escape. {_AGAIN}")
    return JsonRefusal("json", f"This line is not JSON: {error.msg} at character {error.pos + 1}. {_AGAIN}")


def _is_no_object(line: str) -> bool:
    # The lines inside a pretty-printed object are indented.
    if not line.startswith("{"):
        return True
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True
    return False


def _skip_lines(
    text: str, number: int, item: _Item | None, source: Iterator[_Item], belongs: Callable[[str], bool]
) -> tuple[int, str, _Item | None]:
    """Skip the lines that belong to one fault: (the last one's number, about RAW_LIMIT characters, the next item)."""
    while isinstance(item, tuple) and belongs(item[1]):
        number = item[0]
        if len(text) < RAW_LIMIT:
            text += "\n" + item[1]
        item = next(source, None)
    return number, text, item
