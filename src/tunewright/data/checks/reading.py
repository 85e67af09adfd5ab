"""Findings on what could not be read, and on what was read with a remark."""

from __future__ import annotations

from collections.abc import Iterator

from tunewright.data.checks.kinds import KINDS, Finding, FindingPlace
from tunewright.data.checks.survey import FIRST, Survey

_FOR_MANY = ("array", "csv", "empty", "encoding", "format", "gzip", "header", "long", "parquet", "pretty-printed")
"""Faults that may stand for more than a row, so that a share of rows says nothing about them."""
_UNREMARKABLE = {"extra-keys"}
"""Notes that are no finding: other columns than those the spec names are usual, and left out."""


def unreadable(survey: Survey) -> Iterator[Finding]:
    for name, split in survey.splits.items():
        count, rows = split.quarantined, split.quarantined + len(split.table)
        if not count:
            continue
        many = any(split.faults.codes[code] for code in _FOR_MANY)
        severity = "error" if many or count > survey.job.data.max_unreadable * rows else "warning"
        listing = ", ".join(f"{kind} ({times})" for kind, times in split.faults.codes.most_common(FIRST))
        what = f"{name}: {count} of {rows} rows can't be read: {listing}. The first: {split.faults.first[0].reason}"
        places = tuple(FindingPlace(fault.where, fault.reason) for fault in split.faults.first[:FIRST])
        yield Finding("D009", severity, what.rstrip("."), KINDS["D009"].fix, places, count, count / rows, name)


def remarks(survey: Survey) -> Iterator[Finding]:
    for name, split in survey.splits.items():
        for code, times in split.notes.codes.items():
            if code not in _UNREMARKABLE:
                noted = [note for note in split.notes.first if note.code == code]
                what = f"{name}: {noted[0].reason.rstrip('.')} ({code}, {'once' if times == 1 else f'{times} times'})"
                share = times / max(len(split.table), times)
                places = tuple(FindingPlace(note.where, note.reason) for note in noted)
                yield Finding("D010", "warning", what, KINDS["D010"].fix, places, times, share, name)
