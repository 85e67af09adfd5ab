"""The checks of the data. Each gives findings with a stable code (see kinds.py).

scan.py          reads a part of the data: numbers for each row, and counts of what rows.py finds
survey.py        the scans of all parts together, which the other modules judge
rows.py          checks of one row alone, made while it is read
single.py        findings from those; rows that can't be read; tests that are too small
labels.py        labels without rows, with few, with most; spellings of one label
copies.py        repeats and near repeats, within a split and across splits
wrong_labels.py  labels that are probably wrong (by label_noise.py)
fixed_text.py    text that nearly all inputs have around them
served.py        training prompts, languages and answers compared with what will be served
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tunewright.data.checks import copies, fixed_text, labels, served, single
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
    single.unreadable,
    single.remarks,
    single.times,
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
    fixed_text.fixed_text,
    single.small_tests,
)


def judge(survey: Survey) -> tuple[list[Finding], list[SuspectRow]]:
    """All findings, the most severe first, and the rows that are probably mislabelled, the most probable first."""
    checks = _CHECKS if len(survey.train.table) else (single.unreadable, single.remarks)
    findings = [finding for check in checks for finding in check(survey)]
    if survey.job.limit_unknown:
        what = f"token lengths were not checked: {survey.job.limit_unknown.rstrip('.')}"
        findings.append(Finding("D025", "note", what, KINDS["D025"].fix))
    suspect_rows, judged = suspects(survey)
    if survey.labels:
        findings += wrong_labels(survey, suspect_rows, judged)
    return sorted(findings, key=lambda finding: (SEVERITIES.index(finding.severity), finding.code)), suspect_rows
