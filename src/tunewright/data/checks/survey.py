"""The survey of the data: the scans of all its parts together, by split, which the checks judge."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO

from tunewright.data.checks.scan import Hits, RowTally, Scan, Table
from tunewright.data.dedup.near import THRESHOLD, NearPair, pairs_within
from tunewright.data.job import Job
from tunewright.data.readers.parts import Piece
from tunewright.data.shown import shown
from tunewright.data.text import request_text
from tunewright.tasks import Example
from tunewright.tasks.base import labels_of


class Split:
    """The survey of "train" or of one test."""

    def __init__(self, job: Job, scans: Sequence[Scan], tables: Sequence[Table], sizes: Sequence[int], examples: Path):
        """`sizes`: bytes of each scan's examples, which lie in the file `examples` one after the other."""
        self._job, self._file = job, examples
        self.table = Table.joined(tables, [sum(sizes[:number]) for number in range(len(sizes))])
        self.hits: dict[str, Hits] = {}
        self.faults, self.notes = RowTally(), RowTally()
        self.answers: Counter[str] = Counter()
        row = 0
        for part, table in zip(scans, tables, strict=True):
            for code, hits in part.hits.items():
                self.hits.setdefault(code, Hits()).join(hits, row)
            self.faults.join(part.faults)
            self.notes.join(part.notes)
            self.answers += part.answers
            row += len(table)

    @property
    def quarantined(self) -> int:
        return self.faults.codes.total()

    @cached_property
    def _stream(self) -> IO[bytes]:
        return self._file.open("rb")

    def example(self, row: int) -> Example:
        self._stream.seek(int(self.table.offsets[row]))
        return Example.model_validate_json(self._stream.readline())

    def text(self, row: int) -> str:
        """The request of row `row`."""
        return self._job.request_of(self.example(row))

    def examples(self) -> Iterator[Example]:
        with self._file.open("rb") as stream:
            for line in stream:
                yield Example.model_validate_json(line)

    @cached_property
    def near_pairs(self) -> list[NearPair]:
        """The near copies within the split."""
        return pairs_within(self.table.sketches, self.text, THRESHOLD)


@dataclass(frozen=True)
class Survey:
    """The survey of all the data."""

    job: Job
    splits: dict[str, Split]
    """"train" first, then the tests."""
    pieces: dict[str, list[Piece]] = field(default_factory=dict)
    """The pieces of files that each split was read from, in order."""

    @property
    def train(self) -> Split:
        return self.splits["train"]

    @property
    def tests(self) -> dict[str, Split]:
        return {name: split for name, split in self.splits.items() if name != "train"}

    @cached_property
    def labels(self) -> list[str]:
        """The labels: the spec's, or without a spec the answers in train if they repeat; else empty."""
        if self.job.task:
            return labels_of(self.job.task.constraint)
        answers = self.train.answers
        different = len({bare(answer) for answer in answers})
        return sorted(answers) if 0 < different <= min(LABELS, len(self.train.table) / 2) else []


LABELS = 300
"""Most different answers that count as labels without a spec."""


def bare(label: str) -> str:
    """A label without the differences between spellings of one label: case, spaces, quotes, a full stop, a plural s.

    Signs and numbers count: A+ is not A-, -1 is not 1, C++ is not C.
    """
    text = re.sub(r"(?<=[^\W\d_])[\s_-]+(?=[^\W\d_])", "", label.casefold().strip(" \t\r\n\"'`.,:;!"))
    return text.removesuffix("s") if len(text) > 3 else text


def excerpt(example: Example) -> str:
    """The beginning of an example's request and answer."""
    return f"{shown(request_text(example), 160)} → {shown(example.answer)}"
