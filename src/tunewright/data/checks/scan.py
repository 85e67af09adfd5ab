"""Scanning a part of the data: a few numbers a row, and counts of what the row checks find.

Any process can scan a part on its own; the scans of a split, joined in order, are its survey (`survey.py`). The texts
themselves go to a file of examples, from which one can be read again by its offset.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from tunewright.config.literal import literal_fields
from tunewright.data.checks.rows import is_untaught_call, other_tools, row_checks
from tunewright.data.corrections import version_of_correction
from tunewright.data.dedup.near import THRESHOLD, Sketcher, Sketches
from tunewright.data.job import Job
from tunewright.data.label_sets import counted
from tunewright.data.readers import Fault, Note, quarantine_line, read_piece
from tunewright.data.readers.forms import LOGGED
from tunewright.data.readers.lines import typed
from tunewright.data.readers.parts import Piece
from tunewright.data.text import normal, system_prompt
from tunewright.logs.beside import Neighbours
from tunewright.tasks import Example, Meta, MultiLabelTask
from tunewright.tasks.base import JsonRecord, OneOf, ToolCall, Unfit, labels_of
from tunewright.tasks.literal import not_literal
from tunewright.tasks.multi_label import UnknownLabels
from tunewright.tasks.record_form import left_out
from tunewright.tasks.turns import turns_left_out

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

FIRST = 5
"""Examples that a finding shows."""
_KINDS = 1000
"""Most kinds that are counted separately."""
_OF_A_FILE = ("extra-keys", "role", "bom", "gzip", "cr", "array", "left-out")
"""Notes on a whole file, which the reader repeats for each of its pieces."""
_REMEMBERED = 1000
"""Most notes that are remembered, to count each once a file."""


@dataclass
class Hits:
    """The rows in which a check found something."""

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
    """Numbers of n rows. 64-bit hashes stand for texts."""

    text: Hashes
    """Hash of the request in its normal form, (n,)."""
    answer: Hashes
    group: Hashes
    """0: no group."""
    system: Hashes
    """Hash of the data's system prompt; 0: none."""
    words: Indices
    """Words of the request."""
    characters: Indices
    answer_words: Indices
    offsets: Indices
    """Start of each row in the file of examples, in bytes."""
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
    """Faults or notes: the number of each code, and the first ones."""

    codes: Counter[str] = field(default_factory=Counter)
    first: list[Fault | Note] = field(default_factory=list)
    of_files: set[tuple[str, str, str]] = field(default_factory=set)
    """Notes that count once a file: (file, code, reason)."""
    hides_rows: bool = False
    """Whether an unknown number of other rows is lost with a fault."""

    def add(self, item: Fault | Note) -> None:
        if isinstance(item, Note) and item.code in _OF_A_FILE and len(self.of_files) < _REMEMBERED:
            if (key := _key(item)) in self.of_files:
                return
            self.of_files.add(key)
        self.hides_rows |= isinstance(item, Fault) and item.hides_rows
        self.codes[item.code] += 1
        self._show(item)

    def join(self, later: RowTally) -> None:
        self.codes += later.codes - Counter(code for _, code, _ in later.of_files & self.of_files)
        for item in later.first:
            if _key(item) not in self.of_files:
                self._show(item)
        self.of_files |= later.of_files
        self.hides_rows |= later.hides_rows

    def _show(self, item: Fault | Note) -> None:
        if sum(item.code == other.code for other in self.first) < FIRST:
            self.first.append(item)


def _key(item: Fault | Note) -> tuple[str, str, str]:
    return item.where.rsplit(":", 1)[0], item.code, item.reason


@dataclass
class Scan:
    """Counts over some rows of one split. Small, because it goes from process to process."""

    hits: dict[str, Hits]
    faults: RowTally
    notes: RowTally
    answers: Counter[str]
    """Rows of each answer, or of each label where a row has several; of more than ANSWERS, only the first ones."""


ANSWERS = 5000
"""Most different answers that are counted; a job with more has no fixed set of them."""


def scan(pieces: Sequence[Piece], split: str, alone: bool, job: Job, folder: Path) -> Scan:
    """Read some pieces. Examples go to `folder`/examples.jsonl, rows that can't be read to quarantine.jsonl.

    Args:
        alone: whether the split is one file (and corrections), whose rows need no file name in their ids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scanner = Scanner(job, split, alone=alone)
    # Large results go by file: a process killed while it sends one would leave the receiver waiting.
    examples, quarantine = folder / "examples.jsonl", folder / "quarantine.jsonl"
    neighbours = Neighbours()
    with examples.open("wb") as stream, quarantine.open("w", encoding="utf-8") as unreadable:
        for piece in pieces:
            for item in read_piece(piece, job.data.form, job.columns, neighbours):
                if isinstance(item, Example) and item.importance:
                    scanner.add(item, stream)
                    continue
                if isinstance(item, Example):
                    item = _left_out(item, piece)
                relative = _relative(item, piece, has_project=job.task is not None)
                if isinstance(relative, Fault):
                    scanner.faults.add(relative)
                    unreadable.write(quarantine_line(relative))
                else:
                    scanner.notes.add(relative)
    scanner.table().save(folder / "table.npz")
    return scanner.scan()


def _relative(item: Fault | Note, piece: Piece, *, has_project: bool) -> Fault | Note:
    """A fault or a note that, like examples, names the file by its path within the data. A project's outputs must not
    depend on the folder of its data; without a project, commands keep the path that the user can type."""
    file = piece.file
    where = file.name + item.where.removeprefix(str(file.path))
    reason = item.reason.replace(typed(file.path), typed(file.name)) if has_project else item.reason
    return replace(item, where=where, reason=reason)


def _left_out(example: Example, piece: Piece) -> Note:
    """The note on a row of weight 0."""
    number = str(example.meta.source).rpartition(":")[2]
    return Note(f"{piece.file.path}:{number}", "weight-0", "The row has the weight 0, so it is left out.")


class Scanner:
    """Scans examples as they come and writes them to a stream.

    Args:
        alone: whether the split is one file (and corrections), whose rows need no file name in their ids.
    """

    def __init__(self, job: Job, split: str, *, alone: bool):
        self._job, self._split, self._alone = job, split, alone
        self._last_line, self._last_number = "", 0
        self._checks = row_checks(job)
        self._columns = {name: array("Q") for name in ("text", "answer", "group", "system")}
        self._numbers = {name: array("q") for name in ("words", "characters", "answer_words", "offsets")}
        self._sketcher = Sketcher(THRESHOLD)
        self._hits = {code: Hits() for code in (*self._checks, "D026", "D027", "D029", "D034", "D035", "D036", "D037")}
        self._answers: Counter[str] = Counter()
        self._allowed = frozenset(labels_of(job.task.constraint) if job.task else ())
        constraint = job.task.constraint if job.task else None
        self._is_record = isinstance(constraint, JsonRecord) and not isinstance(constraint, ToolCall)
        self._literal = list(literal_fields(constraint.schema)) if isinstance(constraint, JsonRecord) else []
        self._rows = self._offset = 0
        self.faults, self.notes = RowTally(), RowTally()

    def add(self, example: Example, stream: IO[bytes]) -> None:
        self._count_tools(example)
        example = self._canonical(self._with_input(example))
        line = self._with_id(example).model_dump_json(exclude_defaults=True).encode() + b"\n"
        stream.write(line)
        request, answer, system = self._job.request_of(example), example.answer, system_prompt(example)
        system_hash = hash_of(system) if system else 0
        columns, numbers = self._columns, self._numbers
        columns["text"].append(hash_of(normal(request)))
        columns["answer"].append(hash_of(answer))
        columns["group"].append(hash_of(example.meta.group) if example.meta.group else 0)
        columns["system"].append(system_hash)
        numbers["words"].append(request.count(" ") + 1)
        numbers["characters"].append(len(request))
        numbers["answer_words"].append(len(answer.split()))
        numbers["offsets"].append(self._offset)
        self._sketcher.add(request)
        for label in counted(self._job.task, answer):
            if label in self._answers or len(self._answers) < ANSWERS or label in self._allowed:
                self._answers[label] += 1
        for code, check in self._checks.items():
            if kinds := check(example):
                self._hits[code].add(self._rows, kinds)
        self._rows += 1
        self._offset += len(line)

    def _with_input(self, example: Example) -> Example:
        """The example with its input as its request, with those earlier turns that belong there. Counts D029 for the
        others."""
        form = self._job.input_form
        if left_out := turns_left_out(example, form.earlier_turns):
            self._hits["D029"].add(self._rows, (f"{left_out} turns" if left_out > 1 else "1 turn",))
        return form.of_example(example)

    def _count_tools(self, example: Example) -> None:
        """Count D034, and D035. Afterwards the row has neither its own tools nor two answers."""
        task, last = self._job.task, example.messages[-1]
        if task is None:
            return
        if isinstance(task.constraint, ToolCall) and (kinds := other_tools(task.constraint, example)):
            self._hits["D034"].add(self._rows, kinds)
        if last.tool_calls and last.content.strip():
            taught = "text" if task.answer_in(last) == last.content else "call"
            self._hits["D035"].add(self._rows, (f"the {taught} is taught",))

    def _canonical(self, example: Example) -> Example:
        """The example with its answer in the one form in which it is taught.

        Counts D026 where the answer has no such form, D027 where it names a label twice, D036 where a record loses
        fields, and D037 where a literal value is not in the text. These are not among the row checks, because finding
        them and rewriting the answer are one computation.
        """
        task = self._job.task
        if task is None or isinstance(task.constraint, OneOf):
            return example
        *before, last = example.messages
        try:
            if isinstance(task, MultiLabelTask):
                labels = Counter(task.parsed(example.answer))
                if twice := [label[:60] for label, count in labels.items() if count > 1]:
                    self._hits["D027"].add(self._rows, twice)
            answer = task.canonical(task.answer_in(last))
            if not answer:
                raise Unfit("nothing is left of the answer where its stop text is cut off")
        except UnknownLabels:
            return example  # D002, or D030
        except Unfit as reason:
            if is_untaught_call(task, example):
                return example  # D030
            self._hits["D026"].add(self._rows, (str(reason)[:80],))
            return example
        if self._literal and (names := list(not_literal(answer, example.request, self._literal))):
            self._hits["D037"].add(self._rows, names)
        if answer == example.answer:
            return example
        if self._is_record and (names := list(left_out(example.answer, answer))):
            self._hits["D036"].add(self._rows, names)
        plain = last.model_copy(update={"content": answer, "tool_calls": None})
        # The tools are the task's: a log repeats them in each row.
        tools = None if isinstance(task.constraint, ToolCall) else example.tools
        return example.model_copy(update={"messages": [*before, plain], "tools": tools})

    def _with_id(self, example: Example) -> Example:
        """The example with a short unique id. Of the columns that the spec does not name, only what a log knows of its
        call is kept."""
        place = str(example.meta.source)
        file, _, numbers = place.rpartition(":")
        number_of_line, _, in_row = numbers.partition(".")
        line, number = f"{file}:{number_of_line}", int(in_row or 0)
        # All elements of a JSON array may stand in one line, each with several calls.
        if line == self._last_line:
            number = max(number, self._last_number + 1)
        self._last_line, self._last_number = line, number
        alone = self._alone and not version_of_correction(place)
        key = (number_of_line if alone else line) + (f".{number}" if number else "")
        known = example.meta
        call = {LOGGED: known.extra[LOGGED]} if LOGGED in known.extra else {}
        meta = Meta(id=f"{self._split}-{key}", source=place, group=known.group, time=known.time, extra=call)
        return example.model_copy(update={"meta": meta})

    def scan(self) -> Scan:
        """The counts so far."""
        return Scan(self._hits, self.faults, self.notes, self._answers)

    def table(self) -> Table:
        """The numbers of all rows so far."""
        text, answer, group, system = (np.frombuffer(values.tobytes(), np.uint64) for values in self._columns.values())
        numbers = [np.frombuffer(values.tobytes(), np.int64) for values in self._numbers.values()]
        words, characters, answer_words, offsets = numbers
        sketches = self._sketcher.sketches()
        return Table(text, answer, group, system, words, characters, answer_words, offsets, sketches)


def hash_of(text: str) -> int:
    """A 64-bit hash of a text, never 0. Two of a million texts share one in about one of 40 million data sets."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()) or 1
