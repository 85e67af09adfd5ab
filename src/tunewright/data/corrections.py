"""Corrections by reviewers, as data: a chain of folders that are read after `data.train`.

    corrections/1/version.json   the list of this version's files, with a SHA-256 for each
    corrections/1/rows.jsonl     rows of a fixed form: text, answer, the reviews and the capture behind them
    corrections/1/settled.jsonl  reviewed captures that add no row, and the reason
    corrections/2/...

`tunewright.monitoring.corrections` writes a version once, with the SHA-256 of the one before.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter

from tunewright.config import CORRECTIONS
from tunewright.core.artifacts import read_jsonl, sha256_file, write_json, write_jsonl
from tunewright.core.errors import UserError
from tunewright.data.chain import VERSION, Chain, file_hashes, new_version, versions_in
from tunewright.data.readers.sources import SourceFile

ROWS = "rows.jsonl"
SETTLED = "settled.jsonl"
FIX = (
    "Restore the folder as it was written (from version control, say). Or move all of it away and type: tunewright "
    "monitor corrections PROJECT  It writes the corrections again from the current reviews."
)
_CHAIN = Chain("the corrections", FIX)
_Line = TypeVar("_Line")
_PLACE = re.compile(rf"{CORRECTIONS}/(\d+)/{re.escape(ROWS)}:\d+")


@dataclass(frozen=True)
class ReviewerAnswer:
    """A review that a row rests on, or that it outvoted."""

    reviewer: str
    time: str
    """ISO 8601, in UTC."""
    source: str
    """review, bulk or feedback."""


@dataclass(frozen=True)
class Correction:
    """A row: a client's request with the answer that reviewers gave."""

    text: str
    answer: str
    """In the task's canonical form."""
    capture: str
    time: str
    """Time of the request: ISO 8601, in UTC."""
    model: str
    version: str
    """Version of the bundle that answered."""
    by: str | None
    """The client's key."""
    said: str
    """The model's own answer."""
    reviews: list[ReviewerAnswer]
    """The reviews that gave this answer."""
    outvoted: list[ReviewerAnswer] = field(default_factory=list)
    """The reviews that gave another answer."""


@dataclass(frozen=True)
class Settled:
    """A reviewed capture that adds no row, because the data has it already."""

    capture: str
    why: str
    answer: str
    reviews: list[ReviewerAnswer]


@dataclass(frozen=True)
class _Version:
    """The content of `version.json`."""

    number: int
    previous: str | None
    files: dict[str, str]
    made: str
    """Time of writing: ISO 8601."""
    rows: int
    settled: int
    held: dict[str, int]
    """Number of rejected captures by reason."""


@dataclass(frozen=True)
class Corrections:
    """All versions together."""

    rows: list[Correction] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """The version of each row."""
    settled: dict[int, list[Settled]] = field(default_factory=dict)
    """By version."""
    number: int = 0
    """Number of the last version."""
    sha256: str | None = None
    """SHA-256 of the last `version.json`, which pins all versions before it."""


def corrections_in(folder: Path | None) -> Corrections:
    """All corrections. Every file must be as it was written.

    Raises:
        UserError: something was edited, removed or added by hand.
    """
    corrections = Corrections()
    for file, sha256 in _verified(folder):
        number = corrections.number + 1
        rows = _listed(file, Correction)
        settled = _listed(file.with_name(SETTLED), Settled)
        corrections = Corrections(
            [*corrections.rows, *rows],
            [*corrections.numbers, *[number] * len(rows)],
            {**corrections.settled, number: settled},
            number,
            sha256,
        )
    return corrections


def correction_files(folder: Path | None) -> list[SourceFile]:
    """The files with the rows of all versions, which are read like the user's own files.

    Raises:
        UserError: something was edited, removed or added by hand.
    """
    files = (file for file, _ in _verified(folder))
    return [SourceFile(file, f"{CORRECTIONS}/{file.parent.name}/{ROWS}", corrected=True) for file in files]


def with_corrections(train: list[SourceFile], folder: Path | None) -> list[SourceFile]:
    """The files of the training data, then the corrections; each once, even where the corrections lie inside the data.

    Raises:
        UserError: something in the corrections was edited, removed or added by hand.
    """
    if folder is None or not (added := correction_files(folder)):
        return train
    return [file for file in train if not file.path.resolve().is_relative_to(folder)] + added


def version_of_correction(place: str | None) -> int:
    """The version of the corrections that a row was read from; 0 for a row that is no correction.

    Args:
        place: file and line of the row, as in `meta.source`.
    """
    match = _PLACE.fullmatch(place or "")
    return int(match[1]) if match else 0


def write_corrections(
    folder: Path,
    before: Corrections,
    rows: Sequence[Correction],
    settled: Sequence[Settled],
    rejected: Mapping[str, int],
    written: str,
) -> Corrections:
    """Write the next version, whole or not at all. Returns all versions together.

    Args:
        rejected: number of rejected captures by reason.
        written: time of writing, ISO 8601.
    """
    number = before.number + 1
    with new_version(folder, number) as partial:
        write_jsonl(partial / ROWS, map(asdict, rows))
        write_jsonl(partial / SETTLED, map(asdict, settled))
        hashes = file_hashes(partial)
        version = _Version(number, before.sha256, hashes, written, len(rows), len(settled), dict(rejected))
        write_json(partial / VERSION, asdict(version))
        sha256 = sha256_file(partial / VERSION)
    return replace(
        before,
        rows=[*before.rows, *rows],
        numbers=[*before.numbers, *[number] * len(rows)],
        settled={**before.settled, number: list(settled)},
        number=number,
        sha256=sha256,
    )


def _listed(file: Path, kind: type[_Line]) -> list[_Line]:
    """The lines of a file whose hash is the one in its version.

    Raises:
        UserError: the lines have another form, so both the file and its version were edited.
    """
    try:
        return TypeAdapter(list[kind]).validate_python(read_jsonl(file))  # type: ignore[valid-type]
    except (ValueError, RecursionError):
        raise UserError(f"This file of {_CHAIN.name} was edited.", where=file, fix=FIX) from None


def _verified(folder: Path | None) -> list[tuple[Path, str]]:
    """For each version the file of its rows and the SHA-256 of its `version.json`, after checking all of it."""
    numbers = versions_in(folder) if folder else []
    versions: list[tuple[Path, str]] = []
    for number in range(1, max(numbers, default=0) + 1):
        assert folder
        path, previous = folder / str(number), versions[-1][1] if versions else None
        version = _CHAIN.read(path, _Version)
        _CHAIN.require_link(path, (version.number, version.previous), number, previous)
        _CHAIN.require_files(path, version.files)
        versions.append((path / ROWS, sha256_file(path / VERSION)))
    return versions
