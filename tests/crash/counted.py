"""Every operation that changes something below a folder, told before it happens: the clock of the tests of crashes.

Files are opened, renamed, linked, removed and cut, folders made and removed, through the interpreter's audit events,
which cover every way to it. Writes, which have none, go through `open` and `os.write`. Of SQLite each commit is told;
that it survives a kill within one is its own promise (sqlite.org/atomiccommit.html).

It can't be taken back, so it is done in a fork.
"""

from __future__ import annotations

import _io
import builtins
import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy.engine.default import DefaultDialect

_CHANGING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
_EVENTS = {
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((0, 2), (1, 3)),
    "os.symlink": ((1, 2),),
    "os.remove": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.truncate": ((0, None),),
}
"""Of each event, where its paths stand, and the folders that these are relative to (docs.python.org, audit_events)."""
GROWING = ("open", "mkdir", "link", "symlink", "write", "fsync", "commit")
"""What a full disk refuses."""


class Watcher(Protocol):
    """Whom operations are told to."""

    def before(self, kind: str) -> None:
        """An operation comes that either happens or does not; what this raises, it raises."""

    def write(self, data: memoryview, write: Callable[[memoryview], int]) -> int:
        """Bytes are to be written to a file; `write` does it. Returns how many were."""


def tell(root: Path, watcher: Watcher) -> None:
    """Tell a watcher of all that this process does below a folder from now on."""
    top = root.resolve()

    def inside(path: Any, folder: Any = -1) -> bool:
        if isinstance(path, int):
            return Path(f"/proc/self/fd/{path}").readlink().is_relative_to(top)
        base = Path(f"/proc/self/fd/{folder}").readlink() if isinstance(folder, int) and folder >= 0 else Path.cwd()
        return Path(os.path.normpath(base / os.fsdecode(path))).is_relative_to(top)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & _CHANGING and not isinstance(path, int) and inside(path):
                watcher.before("open")
        elif any(inside(arguments[path], -1 if at is None else arguments[at]) for path, at in _EVENTS.get(event, ())):
            watcher.before(event.removeprefix("os."))

    class Raw(io.FileIO):
        def write(self, data: Any, /) -> int:
            return watcher.write(memoryview(data).cast("B"), super().write)

    really, write, fsync = io.open, os.write, os.fsync

    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: str | None = None,
        errors: str | None = None,
        newline: str | None = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if not set(mode) & set("wax+") or not inside(file):
            return really(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = Raw(file, mode.replace("b", "").replace("t", ""), closefd, opener)
        if "b" in mode and not buffering:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffer if "b" in mode else io.TextIOWrapper(buffer, encoding, errors, newline, buffering == 1)

    def written(descriptor: int, data: Any, /) -> int:
        if not inside(descriptor):
            return write(descriptor, data)
        return watcher.write(memoryview(data).cast("B"), lambda part: write(descriptor, part))

    def synced(descriptor: int) -> None:
        if inside(descriptor):
            watcher.before("fsync")
        fsync(descriptor)

    for module in (builtins, io, _io):
        module.open = opened
    os.write, os.fsync = written, synced
    shutil._USE_CP_SENDFILE = False  # so that copies are written like all else
    _tell_of_databases(watcher)
    sys.addaudithook(hook)


def _tell_of_databases(watcher: Watcher) -> None:
    commit = DefaultDialect.do_commit

    def committed(self: DefaultDialect, connection: Any) -> None:
        watcher.before("commit")
        commit(self, connection)

    DefaultDialect.do_commit = committed
