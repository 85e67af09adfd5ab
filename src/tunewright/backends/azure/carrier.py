"""Copies the files that a step may resume from between a node's own disk and a mount that outlives the node.

A mount can't be trusted to rename, to keep times, or to finish what it was writing when the node went away. So a file
on it counts only beside a mark that was written after it, and nothing depends on its times.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from tunewright.core.artifacts import FINGERPRINT
from tunewright.core.progress import say

_MARK = ".whole"
"""Suffix of the file that holds the size of the file beside it."""
_SECONDS = 3.0
"""Between two scans of the node's disk; a node goes away with half a minute's notice, or with none."""


class Carrier:
    """Keeps a folder of the mount equal to an unfinished output.

    Args:
        partial: the output, on the node's disk.
        kept: the folder on the mount.
        names: the parts of the output that a step may resume from.
    """

    def __init__(self, partial: Path, kept: Path, names: Sequence[str]):
        self._partial, self._kept, self._names = partial, kept, (FINGERPRINT, *names)
        self._carried: dict[Path, tuple[int, int]] = {}
        """The stamp (`_stamp`) of each file when it was copied, by name."""

    def fetch(self) -> None:
        """Copy back the files that an earlier node left there whole."""
        for mark in sorted(self._kept.rglob(f"*{_MARK}")):
            source = mark.with_name(mark.name.removesuffix(_MARK))
            name = source.relative_to(self._kept)
            target = self._partial / name
            try:
                if mark.read_text("ascii") != str(source.stat().st_size):
                    continue
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            except (FileNotFoundError, UnicodeError):  # another node clears the folder, or the mark itself is torn
                continue
            self._carried[name] = _stamp(target)

    def until(self, ended: threading.Event) -> None:
        """Copy new files now and then, and once more at the end. A mount that fails must not fail a step."""
        reported = False
        while True:
            last = ended.wait(_SECONDS)
            try:
                self.carry()
            except FileNotFoundError:
                pass  # an old checkpoint was removed during the scan: the next scan will do
            except OSError as error:
                if not reported:
                    say(f"  the progress so far could not be copied to the storage ({error}); still trying")
                reported = True
            if last:
                return

    def carry(self) -> None:
        """Copy new files in the order in which they were written: a checkpoint's last file, which marks it as whole,
        comes last.

        A copied file that is gone here is deleted there too, with two exceptions. If all files are gone, the step is at
        its end and its output not yet handed over. If anything changed meanwhile, the scan may have seen half of a new
        checkpoint and no longer the old one: the next scan will show.
        """
        here = self._here()
        for name in sorted(here, key=lambda name: (here[name][1], name)):
            if self._carried.get(name) != here[name]:
                self._send(name, here[name])
        lasting = {Path(FINGERPRINT)}
        if here.keys() - lasting and self._here() == here:
            for name in self._carried.keys() - here.keys() - lasting:
                self._drop(name)

    def _here(self) -> dict[Path, tuple[int, int]]:
        """The files to copy, by name, with their stamps."""
        roots = [self._partial / name for name in self._names]
        files = [path for root in roots for path in (root, *root.rglob("*")) if path.is_file()]
        return {path.relative_to(self._partial): _stamp(path) for path in files if ".tmp" not in path.suffixes}

    def clear(self) -> None:
        """Empty the folder on the mount: the output is whole."""
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
        # A file that was written during the copy has another stamp, and is copied again.
        self._carried[name] = stamp

    def _drop(self, name: Path) -> None:
        for path in (_mark(self._kept / name), self._kept / name):
            path.unlink(missing_ok=True)
        del self._carried[name]


def _stamp(path: Path) -> tuple[int, int]:
    """A file's stamp, which changes with its content: (size, time)."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _mark(path: Path) -> Path:
    return path.with_name(path.name + _MARK)
