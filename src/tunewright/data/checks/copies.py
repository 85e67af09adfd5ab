"""Rows that occur more than once, exactly or nearly, within a split or in two splits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tunewright.data.checks.kinds import KINDS, Finding, FindingPlace, pair_places, places
from tunewright.data.checks.scan import Indices, Table
from tunewright.data.checks.survey import Split, Survey
from tunewright.data.dedup.near import THRESHOLD, NearPair, first_rows, pairs_between


@dataclass(frozen=True)
class _Copies:
    """Rows of a split that are copies, each with its original in another split or the same one."""

    rows: Indices
    originals: Indices
    of: Split
    """The split of the originals."""


def repeats(survey: Survey) -> Iterator[Finding]:
    """D006 and D007: rows that repeat an earlier row's text, with another label or the same one."""
    label = "label" if survey.labels else "answer"
    for name, split in survey.splits.items():
        firsts = first_rows(split.table.text)
        for code, rows in zip(("D007", "D006"), repeated(split.table, firsts), strict=True):
            copies = _Copies(rows, firsts[rows], split)
            original = "another row" if code == "D007" else f"a text with another {label}"
            yield from _finding(
                code,
                f"{len(rows)} rows repeat {original}",
                name,
                split,
                copies,
                severity="note" if code == "D006" and not survey.labels else "warning",
            )


def leaks(survey: Survey) -> Iterator[Finding]:
    """D008: test texts that are in train."""
    train = survey.train.table.text
    order = np.argsort(train, kind="stable")
    for name, split in survey.tests.items():
        leaked = np.flatnonzero(np.isin(split.table.text, train))
        originals = order[np.searchsorted(train, split.table.text[leaked], sorter=order)]
        copies = _Copies(leaked, originals, survey.train)
        yield from _finding("D008", f"{len(leaked)} test texts are also in train", name, split, copies)


def near_repeats(survey: Survey) -> Iterator[Finding]:
    """D011: near copies within a split."""
    for name, split in survey.splits.items():
        copies = nearly_repeated(split)
        yield from _finding("D011", f"{len(copies.rows)} rows nearly repeat another row", name, split, copies)


def near_leaks(survey: Survey) -> Iterator[Finding]:
    """D012: test texts with a near copy in train, or of a group that is in train."""
    for name, split in survey.tests.items():
        near, related = nearly_known(survey.train, split), related_rows(survey.train, split)
        count = len(np.union1d(near.rows, related))
        what = f"{len(near.rows)} test texts have a near copy in train, {len(related)} share a group with it"
        yield from _finding("D012", what, name, split, near, count, places(split, related.tolist()))


def repeated(table: Table, firsts: Indices) -> tuple[Indices, Indices]:
    """(rows that repeat an earlier row's text and answer, other rows that repeat a text with another answer).

    Args:
        firsts: for each row the first row with its text.
    """
    both = table.text * np.uint64(0x9E3779B97F4A7C15) ^ table.answer
    again = first_rows(both) != np.arange(len(table))
    differs = (firsts != np.arange(len(table))) & (table.answer != table.answer[firsts])
    return np.flatnonzero(again), np.flatnonzero(differs & ~again)


def nearly_repeated_pairs(split: Split) -> list[NearPair]:
    """Near copies that aren't equal. Rows of one group are expected to be alike, so their pairs don't count."""
    text, group = split.table.text, split.table.group
    return [
        pair
        for pair in split.near_pairs
        if text[pair.first] != text[pair.second] and (not group[pair.first] or group[pair.first] != group[pair.second])
    ]


def nearly_repeated(split: Split) -> _Copies:
    """The rows that nearly repeat an earlier one."""
    earlier = {pair.second: pair.first for pair in reversed(nearly_repeated_pairs(split))}
    rows = sorted(earlier)
    return _Copies(np.array(rows, np.int64), np.array([earlier[row] for row in rows], np.int64), split)


def nearly_known(known: Split, other: Split) -> _Copies:
    """The rows of `other` that have a near copy in `known`, except equal texts."""
    pairs = pairs_between(known.table.sketches, other.table.sketches, known.text, other.text, THRESHOLD)
    rows = np.array([pair.second for pair in pairs], np.int64)
    originals = np.array([pair.first for pair in pairs], np.int64)
    unequal = ~np.isin(other.table.text[rows], known.table.text)
    return _Copies(rows[unequal], originals[unequal], known)


def related_rows(known: Split, other: Split) -> Indices:
    """The rows of `other` whose group is in `known`."""
    groups = known.table.group[known.table.group > 0]
    return np.flatnonzero(np.isin(other.table.group, groups))


def _finding(
    code: str,
    what: str,
    name: str,
    split: Split,
    copies: _Copies,
    count: int | None = None,
    otherwise: Sequence[FindingPlace] = (),
    severity: str = "warning",
) -> Iterator[Finding]:
    """A finding, if any row is concerned.

    Args:
        count: rows concerned, if those are more than the copies.
        otherwise: the examples to show where there is no copy.
    """
    count = len(copies.rows) if count is None else count
    if count:
        shown = pair_places(split, copies.rows.tolist(), copies.of, copies.originals.tolist()) or otherwise
        yield Finding(
            code, severity, f"{name}: {what}", KINDS[code].fix, tuple(shown), count, count / len(split.table), name
        )
