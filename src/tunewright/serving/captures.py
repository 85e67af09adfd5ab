"""What a server was asked and answered, and what people said to that, kept in a folder: for review and retraining.

A server writes files of its own, a JSON line at a time, and tells that something is kept only when its line is in the
operating system's hands: killed at any moment, the server loses nothing that it said it kept. A line that a kill cut
short was not said to be kept, and is passed over when the files are read.
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
"""Of a file, beyond which a new one is begun."""
MOST_SECONDS = 24 * 3600
"""After which a new one is begun."""
MOST_ID = 64
"""Letters of an answer's id at most."""
LEAST_SHARE = 1e-6
"""Of the requests that can be kept."""
Count = Annotated[int, Field(ge=0, lt=2**31)]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore")  # whoever reads may be older than the server that wrote

    id: Annotated[str, Field(min_length=1, max_length=MOST_ID)]
    """The answer's."""
    time: str
    model: str
    by: str | None
    """Who asked, or gives feedback; None where the server asks nobody for a key."""


class CaptureRecord(_Entry):
    """A request that was answered."""

    kind: Literal["capture"] = "capture"
    version: str
    """Of the model's bundle."""
    request: str
    answer: str
    confidence: float | None
    escalate: bool | None
    in_scope: bool | None
    share: Annotated[float, Field(ge=LEAST_SHARE, le=1)] = 1.0
    """Of the requests that are kept: this one stands for 1 / share."""
    prompt_tokens: Count = 0
    answer_tokens: Count = 0
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """From the question to the answer."""


class Feedback(_Entry):
    """What somebody said to an answer."""

    kind: Literal["feedback"] = "feedback"
    right: bool
    answer: str | None
    """The right one, where it was not."""
    comment: str


Entry = Annotated[CaptureRecord | Feedback, Field(discriminator="kind")]
_ENTRY: TypeAdapter[CaptureRecord | Feedback] = TypeAdapter(Entry)


class Redact(Protocol):
    """What takes personal data out of an entry; see `tunewright.serving.redaction`."""

    def __call__(self, entry: CaptureRecord | Feedback, *, chosen: bool) -> CaptureRecord | Feedback: ...


class RequestLog:
    """Where a server keeps them; for many threads. A new file is begun each day and beyond a size, so that old ones can
    be deleted; the one that is written is held by a lock.

    Args:
        folder: is made, for its owner's eyes only.
        share: of the requests that are kept.
        redact: what is done to an entry before it is written.

    Raises:
        UserError: nothing can be written there.
    """

    _size: int
    """Bytes of the file that is written; as many as fill one, where another is to be begun."""
    _begun: float
    """When it was begun, by the monotonic clock."""

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
        """Whether the request with this id is one of the share that is kept. The same id is told the same anywhere."""
        drawn = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8])
        return drawn < self.share * 2**64

    def keep(self, entry: CaptureRecord | Feedback, *, chosen: bool = False) -> bool:
        """Write an entry. Returns whether it is kept: not where the disk is full or gone.

        Args:
            chosen: its answer is one of a fixed set, in which nothing is to be redacted.
        """
        if self._redact:
            entry = self._redact(entry, chosen=chosen)
        line = entry.model_dump_json().encode() + b"\n"
        with self._turn:
            try:
                if self._size >= MOST_BYTES or time.monotonic() - self._begun >= MOST_SECONDS:
                    ended, self._file = self._file, self._begin()
                    os.close(ended)
                written = os.write(self._file, line)
            except OSError:
                return False
            if written < len(line):  # the disk filled up in the middle of it
                try:
                    os.ftruncate(self._file, self._size)
                except OSError:
                    self._size = MOST_BYTES  # half a line stays: the next one must not follow it, but begin a file
                return False
            self._size += written
        return True

    def close(self) -> None:
        os.close(self._file)

    def _begin(self) -> int:
        """Open a new file."""
        file = self._folder / _PATTERN.replace("*", f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}")
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        with suppress(OSError):  # some network folders know no locks; there the age alone tells
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._size, self._begun = 0, time.monotonic()
        return opened


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def request_logs(folder: Path) -> list[Path]:
    """The journals in a folder, and in the folders in it: one for each server."""
    found = [file for pattern in (_PATTERN, f"*/{_PATTERN}") for file in folder.glob(pattern) if file.is_file()]
    return sorted(found, key=lambda file: file.name)


def read_entry(line: bytes) -> CaptureRecord | Feedback:
    """A line of a journal.

    Raises:
        ValueError: it is none.
    """
    return _ENTRY.validate_json(line)


def read_captures(folder: Path) -> Iterator[CaptureRecord | Feedback]:
    """All that is kept in a folder, file by file; a server may be writing on."""
    for file in request_logs(folder):
        with file.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    yield read_entry(line)
