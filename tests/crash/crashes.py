"""A crash at every operation: what was there is there, and the same again ends as if nothing had happened.

A process that is killed leaves behind what it had written by then, and nothing else. So one run is enough for all
kills: the folder is copied before each operation, and in the middle of each write. A disk that is full has to be met,
and each N has a run of its own. All runs are forks of a process that has imported what they need.
"""

from __future__ import annotations

import errno
import gc
import hashlib
import itertools
import os
import pickle
import shutil
import sqlite3
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from tests.crash.counted import GROWING, tell
from tunewright.core.errors import UserError


@dataclass
class Case:
    """An operation that may be cut off anywhere."""

    root: Path
    """All that it reads and changes, as it is before."""
    operation: Callable[[], object]
    kept: Callable[[], Mapping[str, Any]]
    """What is there, by name: each must be found as it was before, or as it is afterwards."""
    result: Callable[[], Any] | None = None
    """What the operation comes to; by default what is there afterwards."""
    again: Callable[[], object] | None = None
    """What is typed after the crash; by default the same."""

    def outcome(self) -> Any:
        return self.result() if self.result else self.kept()

    def repeated(self) -> None:
        (self.again or self.operation)()


@dataclass
class Crashes:
    """What was tried."""

    kills: int = 0
    """At how many operations and middles of writes."""
    full: int = 0
    """At how many operations the disk was full."""
    states: int = 0
    """In how many different states the folder was then."""
    faults: list[str] = field(default_factory=list)


def crash_everywhere(case: Case, home: Path, *, hiccups: bool = True) -> Crashes:
    """Kill an operation, and let the disk be full, at each of its steps in turn.

    Args:
        home: an empty folder for copies.
        hiccups: whether the disk also fails for a moment.
    """
    template, states = home / "template", home / "states"
    shutil.copytree(case.root, template, symlinks=True)
    states.mkdir()
    # Done here first, so that the forks have at hand what it loads; with one thread, because threads can't be forked.
    with threadpool_limits(1):
        case.operation()
    restore(template, case.root)
    gc.collect()
    gc.freeze()  # what a fork never looks at stays shared
    try:
        return _everywhere(case, template, states, hiccups=hiccups)
    finally:
        gc.unfreeze()


def _everywhere(case: Case, template: Path, states: Path, *, hiccups: bool) -> Crashes:
    before = in_fork(case.kept)

    def undisturbed() -> tuple[Any, Any]:
        tell(case.root, _Copier(case.root, states))
        case.operation()
        return case.kept(), case.outcome()

    after, outcome = in_fork(undisturbed)
    found, seen = Crashes(), set[str]()

    def look(name: str, state: str) -> None:
        if state in seen:
            return
        seen.add(state)
        found.states += 1

        def recovered() -> tuple[Any, Any]:
            kept = case.kept()
            case.repeated()
            return kept, case.outcome()

        kept, again = in_fork(recovered)
        if isinstance(kept, Failed):
            found.faults.append(f"{name}: it does not recover: {kept.told}")
            return
        for key in {*before, *after, *kept}:
            if kept.get(key) not in (before.get(key), after.get(key)):
                found.faults.append(
                    f"{name}: {key} is {kept.get(key)!r}: neither as before, {before.get(key)!r}, "
                    f"nor as afterwards, {after.get(key)!r}"
                )
        if again != outcome:
            found.faults.append(f"{name}: the same again ends otherwise: {_difference(again, outcome)}")

    for copied in sorted(states.iterdir()):
        restore(copied, case.root)
        name, _, state = copied.name.rpartition("-")
        look(f"killed at {name}", state)
        found.kills += 1
    restore(template, case.root)
    whole = digest(case.root)
    shutil.rmtree(states)
    for kind in (_FullDisk, _Hiccup) if hiccups else (_FullDisk,):
        for number in itertools.count(1):
            met, done = in_fork(partial(_cut_off, case, kind(number)))
            name = f"{kind.__name__} at operation {number}, {met}"
            if isinstance(met, Failed):
                found.faults.append(f"{name}: no message for it")
            elif not met:
                break
            elif done is not None and done != outcome:
                found.faults.append(f"{name}: it ended as if it were done: {_difference(done, outcome)}")
            found.full += 1
            if (state := digest(case.root)) != whole:
                look(name, state)
                restore(template, case.root)
        restore(template, case.root)
    return found


def _cut_off(case: Case, disk: _FullDisk) -> tuple[str, Any]:
    """(what the disk refused first, what the operation came to where it ended all the same)."""
    tell(case.root, disk)
    try:
        case.operation()
    except (OSError, UserError):
        return disk.met, None
    disk.at = 1 << 62
    return disk.met, case.outcome()


class _Copier:
    """Copies a folder before each operation, and in the middle of each write."""

    def __init__(self, root: Path, states: Path):
        self._root, self._states, self._count, self._last = root, states, 0, ""

    def before(self, kind: str) -> None:
        self._count += 1
        if (state := digest(self._root)) != self._last:  # else a kill here is a kill at the one before
            self._last = state
            shutil.copytree(self._root, self._states / f"{self._count:05d}-{kind}-{state}", symlinks=True)

    def write(self, data: memoryview, write: Callable[[memoryview], int]) -> int:
        self.before("write")
        if len(data) > 1:
            write(data[: len(data) // 2])
            self.before("half")
            write(data[len(data) // 2 :])
        else:
            write(data)
        return len(data)


class _FullDisk:
    """Refuses an operation, whatever it is, and from then on all that take room. Of a write a half still fits."""

    def __init__(self, at: int):
        self.at, self.met, self._count = at, "", 0

    def refuses(self, kind: str) -> bool:
        return self._count == self.at or (self._count > self.at and kind in GROWING)

    def before(self, kind: str) -> None:
        self._count += 1
        if self.refuses(kind):
            self.met = self.met or kind
            if kind == "commit":
                error = sqlite3.OperationalError("database or disk is full")
                error.sqlite_errorcode, error.sqlite_errorname = sqlite3.SQLITE_FULL, "SQLITE_FULL"
                raise error
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def write(self, data: memoryview, write: Callable[[memoryview], int]) -> int:
        if self._count + 1 == self.at and len(data) > 1:
            self._count += 1
            self.met = "write"
            return write(data[: len(data) // 2])
        self.before("write")
        return write(data)


class _Hiccup(_FullDisk):
    """Refuses two operations, the one that cleans up after the first among them, and is well again."""

    def refuses(self, kind: str) -> bool:  # noqa: ARG002 (whatever it is)
        return self.at <= self._count <= self.at + 1


@dataclass
class Failed:
    """In place of what a fork was to find."""

    told: str


def in_fork(work: Callable[[], Any]) -> Any:
    """What a function returns in a fork of this process; (Failed, Failed) where it raises."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(reading)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            gc.disable()
            try:
                done = work()
            except BaseException as error:  # noqa: BLE001 (told by the parent)
                failed = Failed("".join(traceback.format_exception(error, limit=-4)))
                done = failed, failed
            with os.fdopen(writing, "wb") as stream:
                pickle.dump(done, stream)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        said = stream.read()
    os.waitpid(child, 0)
    return pickle.loads(said)


def restore(copied: Path, root: Path) -> None:
    shutil.rmtree(root)
    shutil.copytree(copied, root, symlinks=True)


def digest(root: Path) -> str:
    """A hash of all that lies in a folder."""
    found = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        found.update(f"{path.relative_to(root)}\0".encode())
        if path.is_symlink():
            found.update(str(path.readlink()).encode())
        elif path.is_file():
            found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _difference(found: Any, expected: Any) -> str:
    if isinstance(found, Mapping) and isinstance(expected, Mapping):
        keys = [key for key in {*found, *expected} if found.get(key) != expected.get(key)]
        return "; ".join(f"{key}: {found.get(key)!r}, not {expected.get(key)!r}" for key in keys[:3])
    return f"{found!r}, not {expected!r}"
