"""Rows that are there more than once, exactly or nearly, within a split or on both sides of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tunewright.data.checks.kinds import KINDS, Finding
from tunewright.data.checks.places import places
from tunewright.data.checks.survey import NEAR, Indices, Split, Survey, Table
from tunewright.data.near import NearPair, pairs_between


def repeats(survey: Survey) -> Iterator[Finding]:
    """D006 and D007: rows that repeat an earlier row's text, with its label or another."""
    for name, split in survey.splits.items():
        rows = len(split.table)
        same, conflicting = repeated(split.table)
        if len(conflicting) and survey.labels:
            what = f"{name}: {len(conflicting)} rows repeat a text with another label"
            yield _finding("D006", what, split, name, conflicting, rows)
        elif len(conflicting):
            what = f"{name}: {len(conflicting)} rows repeat a text with another answer"
            yield _finding("D006", what, split, name, conflicting, rows, severity="note")
        if len(same):
            yield _finding("D007", f"{name}: {len(same)} rows repeat another row", split, name, same, rows)


def leaks(survey: Survey) -> Iterator[Finding]:
    """D008: tests' texts that are in train."""
    for name, split in survey.tests.items():
        leaked = np.flatnonzero(np.isin(split.table.text, survey.train.table.text))
        if len(leaked):
            what = f"{name}: {len(leaked)} test texts are also in train"
            yield _finding("D008", what, split, name, leaked, len(split.table))


def near_repeats(survey: Survey) -> Iterator[Finding]:
    """D011."""
    for name, split in survey.splits.items():
        near = nearly_repeated(split)
        if len(near):
            what = f"{name}: {len(near)} rows nearly repeat another row"
            yield _finding("D011", what, split, name, near, len(split.table))


def near_leaks(survey: Survey) -> Iterator[Finding]:
    """D012: tests' texts with a near copy in train, or of a group that is in train."""
    for name, split in survey.tests.items():
        near, related = nearly_known(survey.train, split), related_rows(survey.train, split)
        both = np.union1d(near, related)
        if len(both):
            what = f"{name}: {len(near)} test texts have a near copy in train, {len(related)} share a group with it"
            yield _finding("D012", what, split, name, near if len(near) else related, len(split.table), count=len(both))


def repeated(table: Table) -> tuple[Indices, Indices]:
    """The rows whose text an earlier row has: (with its answer, with another)."""
    _, first, inverse = np.unique(table.text, return_index=True, return_inverse=True)
    firsts = first[inverse]
    again = firsts != np.arange(len(table))
    alike = table.answer == table.answer[firsts]
    return np.flatnonzero(again & alike), np.flatnonzero(again & ~alike)


def nearly_repeated_pairs(split: Split) -> list[NearPair]:
    """Near copies that aren't equal. Within one group that is what the group says, so those don't count."""
    text, group = split.table.text, split.table.group
    return [
        pair
        for pair in split.near_pairs
        if text[pair.first] != text[pair.second] and (not group[pair.first] or group[pair.first] != group[pair.second])
    ]


def nearly_repeated(split: Split) -> Indices:
    """The rows that nearly repeat an earlier one."""
    return np.array([pair.second for pair in nearly_repeated_pairs(split)], np.int64)


def nearly_known(known: Split, other: Split) -> Indices:
    """The rows of `other` that have a near copy in `known`, equal texts aside."""
    pairs = pairs_between(known.table.sketches, other.table.sketches, known.text, other.text, NEAR)
    near = np.array([pair.second for pair in pairs], np.int64)
    return near[~np.isin(other.table.text[near], known.table.text)]


def related_rows(known: Split, other: Split) -> Indices:
    """The rows of `other` whose group is in `known`."""
    groups = known.table.group[known.table.group > 0]
    return np.flatnonzero(np.isin(other.table.group, groups))


def _finding(
    code: str, what: str, split: Split, name: str, rows: Indices, of: int, severity: str = "warning", count: int = 0
) -> Finding:
    count = count or len(rows)
    return Finding(code, severity, what, KINDS[code].fix, places(split, rows[:5].tolist()), count, count / of, name)
