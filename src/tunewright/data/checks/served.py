"""Findings on the difference between training data and what will be served: prompts, languages, long answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from tunewright.data.checks.kinds import KINDS, Finding, places
from tunewright.data.checks.scan import hash_of
from tunewright.data.checks.single import listed
from tunewright.data.checks.survey import Survey
from tunewright.data.shown import shown

FEW_FOREIGN = 0.01
"""Share of rows up to which another language is only a note."""
_SAMPLE = 300
"""Answers that are searched for a common beginning."""
_LEAST_LEAD = 8
"""Fewest characters of a common beginning for a finding."""


def prompts(survey: Survey) -> Iterator[Finding]:
    """D017: system prompts that differ from the task's or, without a spec, from the most frequent one."""
    expected = expected_prompt(survey)
    if expected is None:
        return
    for name, split in survey.splits.items():
        systems = split.table.system
        other = np.flatnonzero((systems != expected) & ((systems > 0) | (survey.job.task is None)))
        if len(other):
            different = len(np.unique(systems[other]))
            than = "the spec's" if survey.job.task else "train's most frequent one"
            what = f"{name}: {len(other)} rows have another system prompt than {than} ({different} different)"
            first = places(split, other[:5].tolist())
            yield Finding(
                "D017", "warning", what, KINDS["D017"].fix, first, len(other), len(other) / len(systems), name
            )


def expected_prompt(survey: Survey) -> int | None:
    """The hash of the expected system prompt: the task's, else train's most frequent one; None without any."""
    if survey.job.task:
        return hash_of(survey.job.task.untaught().prompt("")[0].content)
    values, counts = np.unique(survey.train.table.system, return_counts=True)
    return int(values[counts.argmax()]) if values.any() else None


def languages(survey: Survey) -> Iterator[Finding]:
    """D021: rows in another language than most of train."""
    rows_of = survey.train.hits["D021"].kinds
    if not rows_of:
        return
    main = max(rows_of, key=lambda language: rows_of[language])
    for name, split in survey.splits.items():
        hits = split.hits["D021"]
        others = Counter({language: count for language, count in hits.kinds.items() if language != main})
        if others:
            count = others.total()
            what = f"{name}: {count} rows are in another language than most ({main}): {listed(others)}"
            rows = sorted(row for language in others for row in hits.first[language])
            # A few rows in a thousand are names and titles that only look foreign.
            severity = "warning" if count > FEW_FOREIGN * hits.rows else "note"
            share = count / len(split.table)
            yield Finding("D021", severity, what, KINDS["D021"].fix, places(split, rows), count, share, name)


def long_answers(survey: Survey) -> Iterator[Finding]:
    """D022: answers that nearly all begin alike, or are far longer than most."""
    train = survey.train
    lengths = train.table.answer_words
    if not len(lengths):
        return
    rows = np.linspace(0, len(lengths) - 1, min(_SAMPLE, len(lengths))).astype(int)
    lead = _common_lead([train.example(int(row)).answer for row in rows])
    if len(lead) >= _LEAST_LEAD and lead[0] not in "{[":  # a record's first key costs no model call
        what = f"train: nearly all answers begin with '{shown(lead)}', which carries no information"
        fix = "Leave it out of the answers, and let the program that reads them add it."
        yield Finding("D022", "warning", what, fix, places(train, rows[:3].tolist()), len(lengths), 1.0, "train")
    usual = float(np.median(lengths))
    far = np.flatnonzero(lengths > max(4 * usual, usual + 50))
    if len(far) and not survey.labels:
        what = (
            f"train: {len(far)} answers are more than four times as long as most: up to {lengths.max()} words, "
            f"the median has {usual:.0f}"
        )
        first = places(train, far[:5].tolist())
        yield Finding("D022", "note", what, KINDS["D022"].fix, first, len(far), len(far) / len(lengths), "train")


def _common_lead(answers: list[str]) -> str:
    """The words with which nine of ten answers begin, where answers differ after them."""
    if len(set(answers)) < 3:
        return ""
    beginning = Counter(answer[:_LEAST_LEAD] for answer in answers).most_common(1)[0][0]
    alike = [answer for answer in answers if answer.startswith(beginning)]
    if len(alike) < 0.9 * len(answers) or len(set(alike)) < 3:
        return ""
    first, last = min(alike), max(alike)  # all between these two share their common beginning
    lead = first[: next((place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))]
    return lead[: max((place + 1 for place, c in enumerate(lead) if not c.isalnum()), default=0)]
