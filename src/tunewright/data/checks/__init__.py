"""The data's checks: a finding each, with a stable code (see kinds.py).

survey.py        what one pass over the data leaves behind, for the others to judge
rows.py          what one row shows, asked while it is read; told by single.py
reading.py       what could not be read
labels.py        labels without rows, with few, with most; spellings of one label
copies.py        repeats and near repeats, within a split and across
wrong_labels.py  labels that are probably wrong
served.py        prompts and answers beside what is served
size.py          whether the tests are large enough
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tunewright.data.checks import copies, labels, served, single
from tunewright.data.checks import single as reading
from tunewright.data.checks import single as size
from tunewright.data.checks.kinds import (
    DIMENSIONS,
    KINDS,
    SEVERITIES,
    Finding,
    FindingKind,
    FindingPlace,
    scores,
    sentence,
)
from tunewright.data.checks.survey import Survey
from tunewright.data.checks.wrong_labels import SuspectRow, suspects, wrong_labels

__all__ = [
    "DIMENSIONS",
    "KINDS",
    "SEVERITIES",
    "Finding",
    "FindingKind",
    "FindingPlace",
    "SuspectRow",
    "judge",
    "scores",
    "sentence",
]

_CHECKS: tuple[Callable[[Survey], Iterator[Finding]], ...] = (
    reading.unreadable,
    reading.remarks,
    single.single_rows,
    labels.balance,
    labels.spellings,
    copies.repeats,
    copies.leaks,
    copies.near_repeats,
    copies.near_leaks,
    served.prompts,
    served.languages,
    served.long_answers,
    size.small_tests,
)


def judge(survey: Survey) -> tuple[list[Finding], list[SuspectRow]]:
    """All findings, the gravest first, and the rows that are probably mislabelled, the most probable first."""
    checks = _CHECKS if len(survey.train.table) else (reading.unreadable, reading.remarks)
    found = [finding for check in checks for finding in check(survey)]
    if survey.job.limit_unknown:
        what = f"token lengths were not checked: {survey.job.limit_unknown.rstrip('.')}"
        found.append(Finding("D025", "note", what, KINDS["D025"].fix))
    doubtful, judged = suspects(survey)
    if survey.labels:
        found += wrong_labels(survey, doubtful, judged)
    return sorted(found, key=lambda finding: (SEVERITIES.index(finding.severity), finding.code)), doubtful
