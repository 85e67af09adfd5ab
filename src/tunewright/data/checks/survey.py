"""What one pass over the data leaves behind: a few numbers a row, and counts of what single rows show.

A part of the data is scanned on its own, in any process; the scans of a split, joined in order, are its survey. The
texts themselves go to a file of examples, from which one can be read again by its offset.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from tunewright.data.checks.rows import row_checks
from tunewright.data.corrections import version_of_correction
from tunewright.data.dedup.near import THRESHOLD, NearPair, Sketcher, Sketches, pairs_within
from tunewright.data.job import Job
from tunewright.data.label_sets import counted
from tunewright.data.readers import Fault, Note, quarantine_line, read_piece
from tunewright.data.readers.parts import Piece
from tunewright.data.shown import shown
from tunewright.data.text import asked, normal, system_prompt
from tunewright.tasks import Example, Meta, MultiLabelTask
from tunewright.tasks.base import OneOf, Unfit, labels_of
from tunewright.tasks.multi_label import UnknownLabels

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

FIRST = 5
"""Examples that a finding shows."""
_KINDS = 1000
"""Kinds that are counted apart, at most."""
_OF_A_FILE = ("extra-keys", "role", "bom", "gzip", "cr", "array")
"""Remarks on a file, which the reader of each of its pieces makes."""
_TOLD = 1000
"""Remarks that are remembered as told, at most."""


@dataclass
class Hits:
    """The rows a check found something in."""

    rows: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    first: dict[str, list[int]] = field(default_factory=dict)
    """The first rows of each kind."""

    def add(self, row: int, kinds: Iterable[str]) -> None:
        self.rows += 1
        for kind in kinds:
            if kind in self.kinds or len(self.kinds) < _KINDS:
                self.kinds[kind] += 1
                rows = self.first.setdefault(kind, [])
                if len(rows) < FIRST and row not in rows:
                    rows.append(row)

    def join(self, later: Hits, offset: int) -> None:
        """Add the hits of a later part, whose rows begin at `offset`."""
        self.rows += later.rows
        for kind, count in later.kinds.items():
            if kind in self.kinds or len(self.kinds) < _KINDS:
                self.kinds[kind] += count
                rows = self.first.setdefault(kind, [])
                rows += [row + offset for row in later.first[kind]][: FIRST - len(rows)]

    def first_rows(self) -> list[int]:
        return sorted({row for rows in self.first.values() for row in rows})[:FIRST]


@dataclass(frozen=True)
class Table:
    """Numbers of n rows. Texts are known by 64-bit hashes."""

    text: Hashes
    """Of what is asked, in its normal form, (n,)."""
    answer: Hashes
    group: Hashes
    """0: no group."""
    system: Hashes
    """Of the data's system prompt; 0: none."""
    words: Indices
    """Words of what is asked."""
    characters: Indices
    answer_words: Indices
    offsets: Indices
    """Where each row begins in the file of examples, in bytes."""
    sketches: Sketches

    def __len__(self) -> int:
        return len(self.text)

    def save(self, path: Path) -> None:
        """Write the table as an .npz file."""
        own = {name: getattr(self, name) for name in self._columns()}
        near = self.sketches
        np.savez(
            path,
            **own,
            sketch_digests=near.digests,
            sketch_words=near.words,
            short_keys=near.keys[0],
            long_keys=near.keys[1],
            short_signs=near.signs[0],
            long_signs=near.signs[1],
        )

    @classmethod
    def load(cls, path: Path) -> Table:
        """The table that `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            own = {name: file[name] for name in cls._columns()}
            keys, signs = (file["short_keys"], file["long_keys"]), (file["short_signs"], file["long_signs"])
            return cls(**own, sketches=Sketches(file["sketch_digests"], file["sketch_words"], keys, signs))

    @classmethod
    def joined(cls, parts: Sequence[Table], shifts: Sequence[int]) -> Table:
        """One table of all parts' rows; `shifts` is added to each part's offsets."""

        own = {name: np.concatenate([getattr(part, name) for part in parts]) for name in cls._columns()}
        own["offsets"] += np.repeat(np.array(shifts, np.int64), [len(part) for part in parts])
        return cls(**own, sketches=Sketches.joined([part.sketches for part in parts]))

    @classmethod
    def _columns(cls) -> list[str]:
        return [column.name for column in fields(cls) if column.name != "sketches"]


@dataclass
class RowTally:
    """Faults or notes: how many of each code, and the first."""

    codes: Counter[str] = field(default_factory=Counter)
    first: list[Fault | Note] = field(default_factory=list)
    told: set[tuple[str, str, str]] = field(default_factory=set)
    """What is told once a file: (file, code, reason)."""

    def add(self, item: Fault | Note) -> None:
        if isinstance(item, Note) and item.code in _OF_A_FILE and len(self.told) < _TOLD:
            if (key := _key(item)) in self.told:
                return
            self.told.add(key)
        self.codes[item.code] += 1
        self._show(item)

    def join(self, later: RowTally) -> None:
        self.codes += later.codes - Counter(code for _, code, _ in later.told & self.told)
        for item in later.first:
            if _key(item) not in self.told:
                self._show(item)
        self.told |= later.told

    def _show(self, item: Fault | Note) -> None:
        if sum(item.code == other.code for other in self.first) < FIRST:
            self.first.append(item)


def _key(item: Fault | Note) -> tuple[str, str, str]:
    return item.where.rsplit(":", 1)[0], item.code, item.reason


@dataclass
class Scan:
    """What is counted over some rows of one split. Small: it goes from process to process."""

    hits: dict[str, Hits]
    faults: RowTally
    notes: RowTally
    answers: Counter[str]
    """How often each answer stands, of several labels each label; of more than a few thousand, the first ones."""


ANSWERS = 5000
"""Different answers that are counted; a job with more has no fixed set of them."""


def scan(pieces: Sequence[Piece], split: str, alone: bool, job: Job, folder: Path) -> Scan:
    """Read some pieces: examples go to `folder`/examples.jsonl, rows that can't be read to quarantine.jsonl.

    Args:
        alone: whether the split is one file (and corrections), whose rows need no file name in their ids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scanner = Scanner(job, split, alone=alone)
    # Large results go by file: a process that is ended while it sends one would leave the receiver waiting.
    examples, quarantine = folder / "examples.jsonl", folder / "quarantine.jsonl"
    with examples.open("wb") as stream, quarantine.open("w", encoding="utf-8") as aside:
        for piece in pieces:
            for item in read_piece(piece, job.data.form, job.columns):
                if isinstance(item, Example):
                    scanner.add(item, stream)
                    continue
                # As examples do, by the name that the file has wherever the data lies: outputs must not tell that.
                here = replace(item, where=piece.file.name + item.where.removeprefix(str(piece.file.path)))
                if isinstance(here, Fault):
                    scanner.faults.add(here)
                    aside.write(quarantine_line(here))
                else:
                    scanner.notes.add(here)
    scanner.table().save(folder / "table.npz")
    return scanner.scan()


class Scanner:
    """Scans examples as they come, and writes them down.

    Args:
        alone: whether the split is one file (and corrections), whose rows need no file name in their ids.
    """

    def __init__(self, job: Job, split: str, *, alone: bool):
        self._job, self._split, self._alone = job, split, alone
        self._last, self._alike = "", 0
        self._checks = row_checks(job)
        self._columns = {name: array("Q") for name in ("text", "answer", "group", "system")}
        self._numbers = {name: array("q") for name in ("words", "characters", "answer_words", "offsets")}
        self._sketcher = Sketcher(THRESHOLD)
        self._hits = {code: Hits() for code in (*self._checks, "D026", "D027")}
        self._answers: Counter[str] = Counter()
        self._allowed = frozenset(labels_of(job.task.constraint) if job.task else ())
        self._rows = self._offset = 0
        self.faults, self.notes = RowTally(), RowTally()

    def add(self, example: Example, stream: IO[bytes]) -> None:
        example = self._canonical(example)
        named = self._named(example)
        line = named.model_dump_json(exclude_defaults=True).encode() + b"\n"
        stream.write(line)
        question, answer, system = self._job.asked(example), example.answer, system_prompt(example)
        system_hash = hash_of(system) if system else 0
        columns, numbers = self._columns, self._numbers
        columns["text"].append(hash_of(normal(question)))
        columns["answer"].append(hash_of(answer))
        columns["group"].append(hash_of(example.meta.group) if example.meta.group else 0)
        columns["system"].append(system_hash)
        numbers["words"].append(question.count(" ") + 1)
        numbers["characters"].append(len(question))
        numbers["answer_words"].append(len(answer.split()))
        numbers["offsets"].append(self._offset)
        self._sketcher.add(question)
        for name in counted(self._job.task, answer):
            if name in self._answers or len(self._answers) < ANSWERS or name in self._allowed:
                self._answers[name] += 1
        for code, check in self._checks.items():
            if kinds := check(example):
                self._hits[code].add(self._rows, kinds)
        self._rows += 1
        self._offset += len(line)

    def _canonical(self, example: Example) -> Example:
        """The example with its answer in the one form in which it is taught; D026 where it has none, D027 where it
        names a label twice.

        No check of single rows like the others, because what finds it also writes it, and is not done twice.
        """
        if self._job.task is None or isinstance(self._job.task.constraint, OneOf):
            return example
        try:
            if isinstance(self._job.task, MultiLabelTask):
                named = Counter(self._job.task.said(example.answer))
                if twice := [label[:60] for label, count in named.items() if count > 1]:
                    self._hits["D027"].add(self._rows, twice)
            answer = self._job.task.canonical(example.answer)
            if not answer:
                raise Unfit("nothing is left of the answer where its stop text is cut off")
        except UnknownLabels:
            return example  # D002
        except Unfit as reason:
            self._hits["D026"].add(self._rows, (str(reason)[:80],))
            return example
        if answer == example.answer:
            return example
        *before, last = example.messages
        return example.model_copy(update={"messages": [*before, last.model_copy(update={"content": answer})]})

    def _named(self, example: Example) -> Example:
        """The example under a short id of its own, without the columns that the spec does not name."""
        place = str(example.meta.source)
        self._alike = self._alike + 1 if place == self._last else 0
        self._last = place
        # The elements of a JSON array may all stand in one line.
        alone = self._alone and not version_of_correction(place)
        key = (place.rsplit(":", 1)[1] if alone else place) + (f".{self._alike}" if self._alike else "")
        meta = Meta(id=f"{self._split}-{key}", source=place, group=example.meta.group, time=example.meta.time)
        return example.model_copy(update={"meta": meta})

    def scan(self) -> Scan:
        """What was counted so far."""
        return Scan(self._hits, self.faults, self.notes, self._answers)

    def table(self) -> Table:
        """The numbers of all rows so far."""
        text, answer, group, system = (np.frombuffer(values.tobytes(), np.uint64) for values in self._columns.values())
        numbers = [np.frombuffer(values.tobytes(), np.int64) for values in self._numbers.values()]
        words, characters, answer_words, offsets = numbers
        sketches = self._sketcher.sketches()
        return Table(text, answer, group, system, words, characters, answer_words, offsets, sketches)


def hash_of(text: str) -> int:
    """64 bits of a text, never 0; among a million texts two share them once in 40 million data sets."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()) or 1


class Split:
    """All that is known of "train" or of one test."""

    def __init__(self, job: Job, scans: Sequence[Scan], tables: Sequence[Table], sizes: Sequence[int], examples: Path):
        """`sizes`: bytes of each scan's examples, which `examples` holds one after the other."""
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
        """What row `row` asks."""
        return self._job.asked(self.example(row))

    def examples(self) -> Iterator[Example]:
        with self._file.open("rb") as stream:
            for line in stream:
                yield Example.model_validate_json(line)

    @cached_property
    def near_pairs(self) -> list[NearPair]:
        """Near copies within the split."""
        return pairs_within(self.table.sketches, self.text, THRESHOLD)


@dataclass(frozen=True)
class Survey:
    """What is known of all the data."""

    job: Job
    splits: dict[str, Split]
    """"train" first, then the tests."""
    pieces: dict[str, list[Piece]] = field(default_factory=dict)
    """What each split was read from, in order."""

    @property
    def train(self) -> Split:
        return self.splits["train"]

    @property
    def tests(self) -> dict[str, Split]:
        return {name: split for name, split in self.splits.items() if name != "train"}

    @cached_property
    def labels(self) -> list[str]:
        """The labels: the spec's, or without a spec the answers of train where they repeat; empty where they don't."""
        if self.job.task:
            return labels_of(self.job.task.constraint)
        answers = self.train.answers
        kinds = len({bare(answer) for answer in answers})
        return sorted(answers) if 0 < kinds <= min(LABELS, len(self.train.table) / 2) else []


LABELS = 300
"""Labels that answers can be taken for without a spec."""


def bare(label: str) -> str:
    """A label without what spellings of one label differ in: case, spaces, quotes, a full stop, a plural s.

    Signs and numbers count: A+ is not A-, -1 is not 1, C++ is not C.
    """
    text = re.sub(r"(?<=[^\W\d_])[\s_-]+(?=[^\W\d_])", "", label.casefold().strip(" \t\r\n\"'`.,:;!"))
    return text.removesuffix("s") if len(text) > 3 else text


def excerpt(example: Example) -> str:
    """The beginning of what an example asks and answers."""
    return f"{shown(asked(example), 160)} → {shown(example.answer)}"
