"""What a step may resume from, carried between a node's own disk and a mount that outlives the node.

A mount can't be trusted to rename, to keep times, or to have written what was being written when the node went. So a
file on it counts only beside a mark that was made after it, and nothing is told from its times.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from tunewright.core.artifacts import FINGERPRINT
from tunewright.core.progress import say

_MARK = ".whole"
"""Ends the name of the file that tells the size of its neighbour."""
_SECONDS = 3.0
"""Between two looks at the node's disk; a node goes with half a minute's notice, or with none."""


class Carrier:
    """Keeps a folder of the mount like an unfinished output.

    Args:
        partial: the output, on the node's disk.
        kept: the folder of the mount.
        names: what of the output a step may resume from.
    """

    def __init__(self, partial: Path, kept: Path, names: Sequence[str]):
        self._partial, self._kept, self._names = partial, kept, (FINGERPRINT, *names)
        self._carried: dict[Path, tuple[int, int]] = {}
        """By name, what a file was like when it was carried over."""

    def fetch(self) -> None:
        """Bring back whatever an earlier node left there whole."""
        for mark in sorted(self._kept.rglob(f"*{_MARK}")):
            source = mark.with_name(mark.name.removesuffix(_MARK))
            name = source.relative_to(self._kept)
            target = self._partial / name
            try:
                if mark.read_text("ascii") != str(source.stat().st_size):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            except (FileNotFoundError, UnicodeError):  # another node clears away, or the mark itself is torn
                continue
            self._carried[name] = _like(target)

    def until(self, ended: threading.Event) -> None:
        """Carry over what is new now and then, and once more at the end. A mount that fails must not fail a step."""
        told = False
        while True:
            last = ended.wait(_SECONDS)
            try:
                self.carry()
            except FileNotFoundError:
                pass  # an old checkpoint was removed while it was looked at: the next time will do
            except OSError as error:
                if not told:
                    say(f"  what was done so far could not be carried to the storage ({error}); trying on")
                told = True
            if last:
                return

    def carry(self) -> None:
        """Carry over what is new, in the order it was written: a checkpoint's last file, which tells that it is whole,
        comes last. What was carried and is gone here goes there too, with two exceptions. Where all of it is gone, the
        step is at its end, and its output not yet handed over. And where anything changed meanwhile, a new checkpoint
        may have been seen half and the old one not any more: the next time will tell."""
        here = self._here()
        for name in sorted(here, key=lambda name: (here[name][1], name)):
            if self._carried.get(name) != here[name]:
                self._send(name, here[name])
        lasting = {Path(FINGERPRINT)}
        if here.keys() - lasting and self._here() == here:
            for name in self._carried.keys() - here.keys() - lasting:
                self._drop(name)

    def _here(self) -> dict[Path, tuple[int, int]]:
        """What there is to carry, by name, and what it is like."""
        found = [self._partial / name for name in self._names]
        files = [path for each in found for path in (each, *each.rglob("*")) if path.is_file()]
        return {path.relative_to(self._partial): _like(path) for path in files if ".tmp" not in path.suffixes}

    def clear(self) -> None:
        """Leave nothing there: the output is whole."""
        for path in [path for path in self._kept.rglob("*") if path.is_file()]:
            path.unlink(missing_ok=True)

    def _send(self, name: Path, stamp: tuple[int, int]) -> None:
        target = self._kept / name
        target.parent.mkdir(parents=True, exist_ok=True)
        _mark(target).unlink(missing_ok=True)
        try:
            shutil.copyfile(self._partial / name, target)
        except FileNotFoundError:
            return
        _mark(target).write_text(str(target.stat().st_size), "ascii")
        # What was written while it was copied makes another stamp, and is carried again.
        self._carried[name] = stamp

    def _drop(self, name: Path) -> None:
        for path in (_mark(self._kept / name), self._kept / name):
            path.unlink(missing_ok=True)
        del self._carried[name]


def _like(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _mark(path: Path) -> Path:
    return path.with_name(path.name + _MARK)
