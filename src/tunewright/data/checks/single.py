"""Findings that the scans have counted: single rows, rows that can't be read, and the sizes of tests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tunewright.data.checks.kinds import KINDS, Finding, FindingPlace, places
from tunewright.data.checks.rows import NO_TIME
from tunewright.data.checks.scan import FIRST, Hits, RowTally
from tunewright.data.checks.survey import Split, Survey
from tunewright.data.readers.base import CALL
from tunewright.data.shown import label_shown, shown


@dataclass(frozen=True)
class _RowFinding:
    severity: str
    message: Callable[[str, int, Hits, Survey], str]
    """(split, rows, hits, survey) -> the message."""
    fix: Callable[[Hits, Survey], str] | None = None


def single_rows(survey: Survey) -> Iterator[Finding]:
    """One finding for each split and code with hits of a row check."""
    for name, split in survey.splits.items():
        for code, hits in split.hits.items():
            if hits.rows and code in _ROW_FINDINGS:
                kind = _ROW_FINDINGS[code]
                yield Finding(
                    code,
                    kind.severity,
                    f"{name}: {kind.message(name, hits.rows, hits, survey)}",
                    kind.fix(hits, survey) if kind.fix else KINDS[code].fix,
                    places(split, hits.first_rows()),
                    hits.rows,
                    hits.rows / len(split.table),
                    name,
                )


def listed(kinds: Counter[str]) -> str:
    return ", ".join(f"{shown(kind)} ({count})" for kind, count in kinds.most_common(FIRST))


def quoted(kinds: Counter[str]) -> str:
    return ", ".join(f"{label_shown(kind)} ({count})" for kind, count in kinds.most_common(FIRST))


def _longest(hits: Hits) -> int:
    return max(int(kind) for kind in hits.kinds)


def _too_long(problem: str) -> Callable[[str, int, Hits, Survey], str]:
    def message(_name: str, rows: int, hits: Hits, survey: Survey) -> str:
        assert survey.job.limit
        limit = survey.job.limit
        if limit.is_window:
            limited = f"are longer than the {limit.max_length} tokens that the encoder reads"
        else:
            too_long = "are longer than" if limit.template is None else problem
            limited = f"{too_long} train.max_length = {limit.max_length} tokens"
        return f"{rows} rows {limited}; the longest has at most {_longest(hits)}"

    return message


def _raise_limit(hits: Hits, survey: Survey) -> str:
    if survey.job.limit and survey.job.limit.is_window:
        return "Shorten these rows, or choose an encoder that reads more: tunewright models ls"
    return f"Set train.max_length={_longest(hits)} where the model reads as many, or shorten these rows."


_ROW_FINDINGS = {
    "D001": _RowFinding("error", lambda _n, rows, _h, _s: f"{rows} rows have no text"),
    "D002": _RowFinding("error", lambda _n, rows, h, _s: f"{rows} rows have a label the spec lacks: {quoted(h.kinds)}"),
    "D026": _RowFinding(
        "error", lambda _n, rows, h, _s: f"{rows} rows have an answer that does not fit the task: {listed(h.kinds)}"
    ),
    "D027": _RowFinding("note", lambda _n, rows, h, _s: f"{rows} rows name a label twice: {quoted(h.kinds)}"),
    "D028": _RowFinding("note", lambda n, rows, _h, s: f"{rows} of {len(s.splits[n].table)} rows have no label"),
    "D029": _RowFinding(
        "warning",
        lambda _n, rows, h, _s: f"{rows} rows have turns that the model does not see: {listed(h.kinds)}",
    ),
    "D030": _RowFinding("error", lambda _n, rows, _h, _s: f"{rows} rows have a tool call in the answer's place"),
    "D034": _RowFinding(
        "warning", lambda _n, rows, h, _s: f"{rows} rows offered other tools than the spec's: {listed(h.kinds)}"
    ),
    "D035": _RowFinding(
        "note", lambda _n, rows, h, _s: f"{rows} rows have a text beside their tool call: {listed(h.kinds)}"
    ),
    "D036": _RowFinding(
        "warning", lambda _n, rows, h, _s: f"{rows} rows have fields that the schema lacks: {listed(h.kinds)}"
    ),
    "D037": _RowFinding(
        "warning",
        lambda _n, rows, h, _s: f"{rows} rows have a literal value that is not in their text: {listed(h.kinds)}",
    ),
    "D031": _RowFinding("note", lambda _n, rows, h, _s: f"{rows} rows have a `weight`: {listed(h.kinds)}"),
    "D015": _RowFinding(
        "warning", lambda _n, rows, h, _s: f"{rows} rows hold personal data or secrets: {listed(h.kinds)}"
    ),
    "D016": _RowFinding("warning", lambda _n, rows, h, _s: f"{rows} rows hold template tokens: {listed(h.kinds)}"),
    "D024": _RowFinding("warning", lambda _n, rows, h, _s: f"{rows} rows have damaged characters: {listed(h.kinds)}"),
    "D019": _RowFinding(
        "error", _too_long("would lose the end of their answer: with it they are longer than"), _raise_limit
    ),
    "D020": _RowFinding("error", _too_long("have no space for an answer: their prompt alone reaches"), _raise_limit),
}


_LEAST_MARGIN = 1e-4
_Z95 = 1.959964
"""The normal distribution's 97.5 % quantile."""


def needed(accuracy: float, margin: float) -> int:
    """Independent test examples needed for a 95 % interval of ± `margin` around `accuracy` (normal approximation)."""
    return math.ceil(accuracy * (1 - accuracy) * (_Z95 / margin) ** 2)


def small_tests(survey: Survey) -> Iterator[Finding]:
    """D023: tests too small for the goal's margin."""
    goal = survey.job.goal
    if goal.margin < _LEAST_MARGIN or goal.accuracy >= 1:
        return
    least = needed(goal.accuracy, goal.margin)
    if survey.tests:
        sizes = {name: len(split.table) for name, split in survey.tests.items()}
    else:
        sizes = {"test": int(survey.job.data.test_fraction * len(survey.train.table))}
    for name, size in sizes.items():
        if size < least:
            width = _Z95 * math.sqrt(goal.accuracy * (1 - goal.accuracy) / max(size, 1))
            groups = len(np.unique(survey.tests[name].table.group)) if name in survey.tests else size
            alike = f", and more as these come from {groups} groups" if 1 < groups < size else ""
            what = (
                f"{name}: {size} examples measure an accuracy of {100 * goal.accuracy:g} % to "
                f"± {100 * width:.1f} points; ± {100 * goal.margin:g} need {least}{alike}"
            )
            yield Finding("D023", "note", what, KINDS["D023"].fix, (), least - size, 1 - size / least, name)


_UNREMARKABLE = {"extra-keys"}
"""Notes that are no finding: extra columns are usual, and left out."""


def unreadable(survey: Survey) -> Iterator[Finding]:
    """D009: rows that can't be read. D032: calls of a log from which nothing can be learnt."""
    for name, split in survey.splits.items():
        rows = split.quarantined + len(split.table)
        calls = Counter({code: times for code, times in split.faults.codes.items() if code.startswith(CALL)})
        broken = split.faults.codes - calls
        if broken:
            # Where a fault hides other rows, the share of the faults says nothing about the share that is lost.
            hidden = split.faults.hides_rows
            too_many = broken.total() > survey.job.data.max_unreadable * (rows - calls.total())
            severity = "error" if hidden or too_many else "warning"
            problem = "rows can't be read, and others may be lost with them" if hidden else "rows can't be read"
            yield _of_faults("D009", severity, name, split.faults, broken, rows, problem)
        if calls:
            severity, rest = _left(split)
            found = _of_faults("D032", severity, name, split.faults, calls, rows, "logged calls teach nothing")
            yield replace(found, what=found.what + rest)


def _of_faults(
    code: str, severity: str, split: str, faults: RowTally, codes: Counter[str], rows: int, problem: str
) -> Finding:
    listing = ", ".join(f"{kind.removeprefix(CALL)} ({times})" for kind, times in codes.most_common(FIRST))
    first = [fault for fault in faults.first if fault.code in codes]
    what = f"{split}: {codes.total()} of {rows} {problem}: {listing}. The first: {first[0].reason}"
    places = tuple(FindingPlace(fault.where, fault.reason) for fault in first[:FIRST])
    share = codes.total() / rows
    return Finding(code, severity, what.rstrip("."), KINDS[code].fix, places, codes.total(), share, split)


def _left(split: Split) -> tuple[str, str]:
    """The severity of what left rows out, and what its sentence ends with: nothing can go on without any row."""
    return ("warning", "") if len(split.table) else ("error", "; no row is left")


def remarks(survey: Survey) -> Iterator[Finding]:
    """D010: notes of the readers."""
    for name, split in survey.splits.items():
        for code, times in split.notes.codes.items():
            if code not in _UNREMARKABLE:
                first = [note for note in split.notes.first if note.code == code]
                severity, rest = _left(split)
                count = "once" if times == 1 else f"{times} times"
                what = f"{name}: {first[0].reason.rstrip('.')} ({code}, {count}){rest}"
                share = times / max(len(split.table), times)
                places = tuple(FindingPlace(note.where, note.reason) for note in first)
                yield Finding("D010", severity, what, KINDS["D010"].fix, places, times, share, name)


def times(survey: Survey) -> Iterator[Finding]:
    """D010: rows without a time that can be compared with the others', so that the split can't tell the newest."""
    data, train = survey.job.data, survey.train
    hits = train.hits.get("D010", Hits())
    kinds = Counter({kind: count for kind, count in hits.kinds.items() if kind != NO_TIME})
    usual = max(kinds, key=lambda kind: (kinds[kind], kind), default=None)
    odd = Counter({kind: count for kind, count in hits.kinds.items() if kind != usual})
    cuts_test = data.test_fraction > 0 and not survey.tests
    if not odd or not (data.validation_fraction or cuts_test):
        return
    most = f", and most have {usual}" if usual else ""
    what = f"train: {odd.total()} of {len(train.table)} rows have no time to split by: {listed(odd)}{most}"
    fix = (
        "Write all times the same way, as ISO 8601 (2026-01-31, 2026-01-31T09:30:00Z) or epoch seconds, or leave "
        "data.time out."
    )
    rows = sorted(row for kind in odd for row in hits.first[kind])[:FIRST]
    # A frozen test, of which the checks know nothing, takes the place of the part that would be cut off.
    severity = "error" if data.validation_fraction else "warning"
    yield Finding(
        "D010", severity, what, fix, places(train, rows), odd.total(), odd.total() / len(train.table), "train"
    )
