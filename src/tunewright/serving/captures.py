"""The request log: questions, answers and feedback, kept in a folder for review and retraining.

Each server writes its own files, a JSON line at a time. It reports an entry as kept only when the operating system has
the line, so a server that is killed at any moment loses nothing that it reported as kept. Readers skip a line that a
kill cut short; the server has not reported it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from tunewright.core.errors import UserError

_PATTERN = "captures-*.jsonl"
MOST_BYTES = 64 << 20
"""Size of a file at which the server begins a new one."""
MOST_SECONDS = 24 * 3600
"""Age of a file at which the server begins a new one."""
MOST_ID = 64
"""Letters that an answer's id may have."""
LEAST_SHARE = 1e-6
"""The smallest share of the requests that can be kept."""
Count = Annotated[int, Field(ge=0, lt=2**31)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore")  # the reader may be older than the server that wrote the entry

    id: Annotated[str, Field(min_length=1, max_length=MOST_ID)]
    """The answer's id."""
    time: str
    model: str
    by: str | None
    """The client's key name; None: the server has no keys."""


class CaptureRecord(_Entry):
    """A request and its answer."""

    kind: Literal["capture"] = "capture"
    version: str
    """The version of the model's bundle."""
    request: str
    answer: str
    confidence: float | None
    escalate: bool | None
    in_scope: bool | None
    share: Annotated[float, Field(ge=LEAST_SHARE, le=1)] = 1.0
    """The share of the requests that the server keeps: this one stands for 1 / share."""
    prompt_tokens: Count = 0
    answer_tokens: Count = 0
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """Time from the request to the answer."""


class Feedback(_Entry):
    """A client's feedback to an answer."""

    kind: Literal["feedback"] = "feedback"
    right: bool
    answer: str | None
    """The right answer, if the model's was wrong and the client gives it."""
    comment: str


Entry = Annotated[CaptureRecord | Feedback, Field(discriminator="kind")]
_ENTRY: TypeAdapter[CaptureRecord | Feedback] = TypeAdapter(Entry)


class Redact(Protocol):
    """A function that takes personal data out of an entry; see `tunewright.serving.redaction`."""

    def __call__(self, entry: CaptureRecord | Feedback, *, from_fixed_set: bool) -> CaptureRecord | Feedback: ...


class RequestLog:
    """Writes a server's entries to a folder. Thread-safe.

    It begins a new file each day and at `MOST_BYTES`, so that old ones can be deleted. It holds a lock on the file that
    it writes.

    Args:
        folder: created if absent, with access for its owner only.
        share: the share of the requests to keep.
        redact: applied to each entry before it is written.

    Raises:
        UserError: the folder can't be written to.
    """

    _size: int
    """Bytes of the current file; `MOST_BYTES` where the next entry must begin a new one."""
    _begun: float
    """When the current file was begun, by the monotonic clock."""

    def __init__(self, folder: Path, share: float = 1.0, redact: Redact | None = None):
        self.share = share
        self._folder, self._redact = folder, redact
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = self._begin()
        except OSError as error:
            raise UserError("Captures can't be written.", where=folder, why=error.strerror) from None
        self._turn = threading.Lock()

    def takes(self, identity: str) -> bool:
        """Whether the request with this id belongs to the share to keep. The id alone decides, on every server."""
        drawn = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8])
        return drawn < self.share * 2**64

    def keep(self, entry: CaptureRecord | Feedback, *, from_fixed_set: bool = False) -> bool:
        """Write an entry. Returns whether it is kept; False where the disk is full or gone.

        Args:
            from_fixed_set: the answer is a label, which needs no redaction.
        """
        if self._redact:
            entry = self._redact(entry, from_fixed_set=from_fixed_set)
        line = entry.model_dump_json().encode() + b"\n"
        with self._turn:
            try:
                if self._size >= MOST_BYTES or time.monotonic() - self._begun >= MOST_SECONDS:
                    ended, self._file = self._file, self._begin()
                    os.close(ended)
                written = os.write(self._file, line)
            except OSError:
                return False
            if written < len(line):  # the disk filled up within the line
                try:
                    os.ftruncate(self._file, self._size)
                except OSError:
                    self._size = MOST_BYTES  # half a line stays, so the next one must begin a new file
                return False
            self._size += written
        return True

    def close(self) -> None:
        os.close(self._file)

    def _begin(self) -> int:
        """Open a new file."""
        file = self._folder / _PATTERN.replace("*", f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}")
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        with suppress(OSError):  # some network folders have no locks; there readers go by the file's age alone
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._size, self._begun = 0, time.monotonic()
        return opened


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def request_logs(folder: Path) -> list[Path]:
    """The request logs in a folder and in its subfolders, one subfolder a server."""
    found = [file for pattern in (_PATTERN, f"*/{_PATTERN}") for file in folder.glob(pattern) if file.is_file()]
    return sorted(found, key=lambda file: file.name)


def read_entry(line: bytes) -> CaptureRecord | Feedback:
    """A line of a request log.

    Raises:
        ValueError: the line is no entry.
    """
    return _ENTRY.validate_json(line)


def read_captures(folder: Path) -> Iterator[CaptureRecord | Feedback]:
    """All entries in a folder, file by file. A server may still be writing to it."""
    for file in request_logs(folder):
        with file.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    yield read_entry(line)
