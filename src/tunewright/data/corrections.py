"""What people corrected, as data: a chain of folders that are read behind `data.train`.

    corrections/1/version.json   what this version holds: a SHA-256 for each file
    corrections/1/rows.jsonl     rows of a fixed form: text, answer, and who said so of what
    corrections/1/settled.jsonl  what people said that adds no row, and why
    corrections/2/...

A version is written once, by `tunewright.monitoring.corrections`, and names the SHA-256 of the one before.
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
MEND = (
    "Get the folder back as it was written (from version control, say). Or move all of it away and type: tunewright "
    "monitor corrections PROJECT  It writes anew what the reviews say now."
)
_CHAIN = Chain("the corrections", MEND)
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
    """A row: what was asked, and what people say is the answer."""

    text: str
    answer: str
    """In the task's canonical form."""
    capture: str
    time: str
    """When it was asked: ISO 8601, in UTC."""
    model: str
    version: str
    """Of the bundle that answered."""
    by: str | None
    """The key that asked."""
    said: str
    """The model's own answer."""
    reviews: list[ReviewerAnswer]
    """Those that say so."""
    outvoted: list[ReviewerAnswer] = field(default_factory=list)
    """Those that say otherwise."""


@dataclass(frozen=True)
class Settled:
    """A capture that was reviewed and adds no row, because the data has it already."""

    capture: str
    why: str
    answer: str
    reviews: list[ReviewerAnswer]


@dataclass(frozen=True)
class _Version:
    """What `version.json` says."""

    number: int
    previous: str | None
    files: dict[str, str]
    made: str
    rows: int
    settled: int
    held: dict[str, int]
    """What was held back then: how many captures for which reason."""


@dataclass(frozen=True)
class Corrections:
    """All versions together."""

    rows: list[Correction] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """The version of each row."""
    settled: dict[int, list[Settled]] = field(default_factory=dict)
    """By version."""
    number: int = 0
    """The last version."""
    sha256: str | None = None
    """That of the last `version.json`, which pins all before it."""


def corrections_in(folder: Path | None) -> Corrections:
    """All corrections, every file as it was written.

    Raises:
        UserError: something was edited, removed or added by hand.
    """
    found = Corrections()
    for file, sha256 in _verified(folder):
        number = found.number + 1
        rows = _listed(file, Correction)
        settled = _listed(file.with_name(SETTLED), Settled)
        found = Corrections(
            [*found.rows, *rows],
            [*found.numbers, *[number] * len(rows)],
            {**found.settled, number: settled},
            number,
            sha256,
        )
    return found


def correction_files(folder: Path | None) -> list[SourceFile]:
    """The rows of all versions, as files that are read like the user's own.

    Raises:
        UserError: something was edited, removed or added by hand.
    """
    files = (file for file, _ in _verified(folder))
    return [SourceFile(file, f"{CORRECTIONS}/{file.parent.name}/{ROWS}", corrected=True) for file in files]


def with_corrections(train: list[SourceFile], folder: Path | None) -> list[SourceFile]:
    """The files of the training data, the corrections behind them; once, where they lie in a folder of that data.

    Raises:
        UserError: something in the corrections was edited, removed or added by hand.
    """
    if folder is None or not (added := correction_files(folder)):
        return train
    return [file for file in train if not file.path.resolve().is_relative_to(folder)] + added


def version_of_correction(place: str | None) -> int:
    """The version of the corrections that a row was read from, by the file and line that its example names; 0 of one
    that is no correction."""
    found = _PLACE.fullmatch(place or "")
    return int(found[1]) if found else 0


def write_corrections(
    folder: Path,
    before: Corrections,
    rows: Sequence[Correction],
    settled: Sequence[Settled],
    held: Mapping[str, int],
    made: str,
) -> Corrections:
    """Write the next version, whole or not at all. Returns all versions together.

    Args:
        held: what was held back: how many captures for which reason.
        made: when, ISO 8601.
    """
    number = before.number + 1
    with new_version(folder, number) as partial:
        write_jsonl(partial / ROWS, map(asdict, rows))
        write_jsonl(partial / SETTLED, map(asdict, settled))
        version = _Version(number, before.sha256, file_hashes(partial), made, len(rows), len(settled), dict(held))
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
    """What the lines of a file say, whose hash is the one that its version tells.

    Raises:
        UserError: they say something else: the file and the version were both edited.
    """
    try:
        return TypeAdapter(list[kind]).validate_python(read_jsonl(file))  # type: ignore[valid-type]
    except (ValueError, RecursionError):
        raise UserError(f"This file of {_CHAIN.name} was edited.", where=file, fix=MEND) from None


def _verified(folder: Path | None) -> list[tuple[Path, str]]:
    """For each version the file of its rows, and the SHA-256 of its `version.json`."""
    numbers = versions_in(folder) if folder else []
    found: list[tuple[Path, str]] = []
    for number in range(1, max(numbers, default=0) + 1):
        assert folder
        place, previous = folder / str(number), found[-1][1] if found else None
        version = _CHAIN.read(place, _Version)
        _CHAIN.require_link(place, (version.number, version.previous), number, previous)
        _CHAIN.require_files(place, version.files)
        found.append((place / ROWS, sha256_file(place / VERSION)))
    return found
