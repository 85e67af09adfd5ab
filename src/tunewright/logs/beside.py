"""Requests in files beside their answers: those of OpenAI's batches, and the messages of stored completions."""

from __future__ import annotations

import gzip
import io
import json
import sqlite3
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from tunewright.core.limits import BATCH_LINE_BYTES

_SUFFIXES = (".jsonl", ".ndjson", ".json", ".gz")
_LARGEST_PAGE = 64 << 20
"""Bytes of a file that may be one JSON value, over several lines or in one."""
_PAGE_KEYS = ("data", "traces")
"""Under which an API's answer has its list."""
_PAGE_MARKS = ("object", "meta", "error", "next_cursor", "next_page_token", "has_more", "total")
"""Keys of such an answer, of which one at least is there."""


def unwrapped(row: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """The rows in an API's answer, which is a page of a list; None: the row is none."""
    for key in _PAGE_KEYS:
        listed = row.get(key)
        if isinstance(listed, list) and any(mark in row for mark in _PAGE_MARKS) and len(row) <= 10:
            return [each for each in listed if isinstance(each, dict)]
    return None


def is_batch_output(row: Mapping[str, Any]) -> bool:
    return "custom_id" in row and "response" in row and "body" not in row


def is_batch_input(row: Mapping[str, Any]) -> bool:
    return "custom_id" in row and isinstance(row.get("body"), Mapping) and "url" in row


def is_stored_message(row: Mapping[str, Any]) -> bool:
    """Whether a row is a message of a stored completion: its id is the completion's with a number."""
    identity = row.get("id")
    is_numbered = isinstance(identity, str) and identity.rpartition("-")[2].isdecimal()
    return is_numbered and "role" in row and "content" in row and "choices" not in row


class RequestsBeside:
    """The requests in the files of a folder, kept in a file of their own, so that memory stays bounded.

    Nothing is read before something is asked for.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self._index: sqlite3.Connection | None = None
        self._answered: dict[str, bool] = {}

    def of_batch(self, identity: str) -> list[dict[str, Any]]:
        """The body of a batch's request, by its `custom_id`; empty: no file has it. Two: it is not known which one it
        is, because the ids are unique only within a batch."""
        query = "SELECT body FROM requests WHERE id = ? LIMIT 2"
        return [json.loads(body) for (body,) in self._opened().execute(query, (_key(identity),))]

    def messages_of(self, identity: str) -> list[dict[str, Any]]:
        """The messages of a stored completion, in their order; empty: no file has them."""
        query = "SELECT body FROM messages WHERE id = ? ORDER BY number"
        return [json.loads(body) for (body,) in self._opened().execute(query, (_key(identity),))]

    def _opened(self) -> sqlite3.Connection:
        if self._index is None:
            # An empty name is a temporary file, which SQLite deletes at the end.
            self._index = sqlite3.connect("", check_same_thread=False)
            self._index.execute("CREATE TABLE requests (id TEXT, body TEXT, PRIMARY KEY (id, body)) WITHOUT ROWID")
            self._index.execute(
                "CREATE TABLE messages (id TEXT, number INTEGER, body TEXT, PRIMARY KEY (id, number)) WITHOUT ROWID"
            )
            for file in _files(self.folder):
                self._add(self._index, file)
        return self._index

    def have_answers(self, form: str) -> bool:
        """Whether the folder has the answers to requests of this form, a name in REQUESTS_ALONE."""
        if form not in self._answered:
            is_answer = is_batch_output if form == "openai-batch-input" else is_stored_alone
            firsts = (next(rows_of(file), None) for file in _files(self.folder))
            self._answered[form] = any(row is not None and is_answer(row) for row in firsts)
        return self._answered[form]

    @staticmethod
    def _add(index: sqlite3.Connection, file: Path) -> None:
        first = next(rows_of(file), None)
        if first is not None and is_batch_input(first):
            rows = filter(is_batch_input, rows_of(file))
            requests = ((_key(str(row["custom_id"])), json.dumps(row["body"])) for row in rows)
            index.executemany("INSERT OR IGNORE INTO requests VALUES (?, ?)", requests)
        elif first is not None and is_stored_message(first):
            messages = (_numbered(row) for row in rows_of(file) if is_stored_message(row))
            index.executemany("INSERT OR IGNORE INTO messages VALUES (?, ?, ?)", messages)


class Neighbours:
    """The requests beside files that are read one after the other. Those of one folder are read once for all its files,
    and kept until another folder comes."""

    def __init__(self) -> None:
        self._last: RequestsBeside | None = None

    def of(self, file: Path) -> RequestsBeside:
        if self._last is None or self._last.folder != file.parent:
            self._last = RequestsBeside(file.parent)
        return self._last


def is_stored_alone(row: Mapping[str, Any]) -> bool:
    """Whether a row is a stored completion without its messages, as the API's list has it. Azure's has no `object`."""
    has_request = any(isinstance(row.get(name), list | str) for name in ("messages", "input", "prompt"))
    choices = row.get("choices")
    if (
        has_request
        or "request" in row
        or not isinstance(choices, list)
        or row.get("object") not in ("chat.completion", None)
    ):
        return False
    return isinstance(row.get("id"), str) and all(isinstance(each, Mapping) and "message" in each for each in choices)


def rows_of(file: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file: of its lines, or of the page that the whole file is. What is neither is left out:
    whoever reads the file itself reports it."""
    is_packed = file.suffix.lower() == ".gz"
    broken = (OSError, EOFError, zlib.error)
    with suppress(*broken), gzip.open(file, "rb") if is_packed else file.open("rb") as stream:
        is_first = True
        for line in _lines(stream):
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = _whole(line, stream) if is_first else None
            is_first = False
            for each in row if isinstance(row, list) else [row]:
                if isinstance(each, dict):
                    yield from unwrapped(each) or [each]


def _lines(stream: io.BufferedIOBase) -> Iterator[bytes]:
    """The lines that are not too long; the first may be a whole page."""
    for most in chain([_LARGEST_PAGE], repeat(BATCH_LINE_BYTES)):
        line = stream.readline(most)
        if not line:
            return
        if len(line) < most or line.endswith(b"\n"):
            yield line
            continue
        while (rest := stream.readline(most)) and not rest.endswith(b"\n"):
            pass


def _whole(line: bytes, stream: io.BufferedIOBase) -> Any:
    """The value of a file whose first line is not one by itself."""
    try:
        return json.loads(line + stream.read(_LARGEST_PAGE))
    except (ValueError, RecursionError):
        return None


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())


def _key(identity: str) -> str:
    """An id as the index has it: JSON may escape half a character, which SQLite does not take."""
    return json.dumps(identity)


def _numbered(row: Mapping[str, Any]) -> tuple[str, int, str]:
    completion, _, number = str(row["id"]).rpartition("-")
    parts = row.get("content_parts")
    content = parts if row.get("content") is None and isinstance(parts, list) else row.get("content")
    known = {name: row[name] for name in ("role", "name", "tool_calls", "tool_call_id") if row.get(name)}
    return _key(completion), int(number[:9]), json.dumps({**known, "content": content})
