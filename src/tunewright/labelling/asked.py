"""Which requests teachers were asked about, so that paid answers are found without a look at every request."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from tunewright.labelling.requests import Unlabelled

ASKED = "asked.txt"


class Asked:
    """The requests that were asked about, whatever came of it.

    Personal data are looked for in these alone where an earlier run's answers are wanted: it takes milliseconds for
    each request, and so half an hour for 100,000.

    Args:
        file: their ids, one in a line; it need not exist.
    """

    def __init__(self, file: Path):
        self._file = file
        self._ids = set(file.read_text("utf-8").split()) if file.exists() else set[str]()

    def __contains__(self, row: Unlabelled) -> bool:
        return row.id in self._ids

    def note(self, rows: Sequence[Unlabelled]) -> None:
        """Keep requests that will be asked about; they are on disk when this returns."""
        if not (new := [row.id for row in rows if row not in self]):
            return
        self._ids.update(new)
        with self._file.open("a", encoding="utf-8") as file:
            # A line that was cut off by a crash ends before these.
            file.write("".join(f"\n{each}" for each in new) + "\n")
            file.flush()
            os.fsync(file.fileno())
