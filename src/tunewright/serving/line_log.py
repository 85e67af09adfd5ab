"""A folder of files to which one process appends JSON lines, such that a kill loses no line that was reported as kept.

Each process writes its own files. A line counts as kept only when the operating system has it. Readers skip a line that
a kill cut short; the process has not reported it.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from tunewright.core.errors import UserError

MOST_BYTES = 64 << 20
"""Size of a file at which the process begins a new one."""
MOST_SECONDS = 24 * 3600
"""Age of a file at which the process begins a new one."""


class LineLog:
    """Appends lines to the files of a folder. Thread-safe.

    It begins a new file each day and at `MOST_BYTES`, so that old ones can be deleted. It holds a lock on the file that
    it writes.

    Args:
        folder: created if absent, with access for its owner only.
        stem: the beginning of the files' names.

    Raises:
        UserError: the folder can't be written to.
    """

    _size: int
    """Bytes of the current file; `MOST_BYTES` where the next line must begin a new one."""
    _begun: float
    """When the current file was begun, by the monotonic clock."""

    def __init__(self, folder: Path, stem: str):
        self._folder, self._stem = folder, stem
        self._turn = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._file = self._begin()
        except OSError as error:
            raise UserError("Captures can't be written.", where=folder, why=error.strerror) from None

    def append(self, line: bytes) -> bool:
        """Append a line, which ends with a line feed. Returns whether it is kept; False where the disk is full or
        gone."""
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
        file = self._folder / f"{self._stem}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:8]}.jsonl"
        opened = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        with suppress(OSError):  # some network folders have no locks; there readers go by the file's age alone
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._size, self._begun = 0, time.monotonic()
        return opened


def files_of(folder: Path, stem: str) -> list[Path]:
    """The files in a folder and in its subfolders, one subfolder a process, the oldest first."""
    found = [
        file for pattern in (f"{stem}-*.jsonl", f"*/{stem}-*.jsonl") for file in folder.glob(pattern) if file.is_file()
    ]
    return sorted(found, key=lambda file: file.name)
