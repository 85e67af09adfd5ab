"""The lock for changes of `serving.json`. A change reads what serves, decides, and writes; under the lock nobody else
changes it between these."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK_FILE = ".serving.lock"
"""Not `serving.json` itself, because each change replaces that file."""


@contextmanager
def changing_what_serves(runs: Path) -> Iterator[None]:
    """Wait for the lock and hold it. The kernel releases it when the process ends, however it ends.

    Hold it for moments only, because `tunewright monitor rollback` waits for it. A process that holds it must not take
    it again.

    Args:
        runs: the folder of outputs.
    """
    runs.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(runs / _LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
