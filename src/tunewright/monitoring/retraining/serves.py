"""The lock for changes of `serving.json`. A change reads what serves, decides, and writes; under the lock nobody else
changes it between these."""

from __future__ import annotations

from pathlib import Path

from filelock import FileLock

_LOCK_FILE = ".serving.lock"
"""Not `serving.json` itself, because each change replaces that file."""


def changing_what_serves(runs: Path) -> FileLock:
    """The lock, to be held in a `with` statement, which waits for it. It is free again when the process ends, however
    it ends.

    Hold it for moments only, because `tunewright monitor rollback` waits for it. A process that holds it must not take
    it again.

    Args:
        runs: the folder of outputs.
    """
    runs.mkdir(parents=True, exist_ok=True)
    return FileLock(runs / _LOCK_FILE)
