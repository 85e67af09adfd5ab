"""Labels that are probably wrong, by confident learning."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from tunewright.data.checks.kinds import KINDS, Finding, FindingPlace, place_of
from tunewright.data.checks.label_noise import likely_mislabelled
from tunewright.data.checks.survey import FIRST, Survey
from tunewright.data.shown import shown
from tunewright.tasks.base import SomeOf

LEAST = 100
"""Rows below which nothing is said: a classifier of so few is wrong too often itself."""
LOOKED_AT = 30_000
"""Rows that are looked at; of more, a sample."""
CHARACTERS = 1_500_000
"""Characters that are looked at, about: time and memory go with them."""


@dataclass(frozen=True)
class SuspectRow:
    where: str
    text: str
    given: str
    suggested: str
    score: float

    def row(self) -> dict[str, object]:
        return asdict(self)


def suspects(survey: Survey) -> tuple[list[SuspectRow], int]:
    """The rows of train whose label is probably wrong, most probable first, and how many rows could be judged."""
    train = survey.train
    if not survey.labels or len(train.table) < LEAST or _several(survey):
        return [], 0
    rows: list[int] = list(range(len(train.table)))
    characters = int(train.table.characters.sum())
    most = min(LOOKED_AT, len(rows) * CHARACTERS // max(characters, 1))
    if len(rows) > most:
        rows = sorted(random.Random(0).sample(rows, most))
    examples = [train.example(row) for row in rows]
    groups = [example.meta.group for example in examples]
    found = likely_mislabelled(
        [survey.job.asked(example) for example in examples],
        [example.answer for example in examples],
        None if None in groups else groups,
    )
    if found is None:
        return [], 0
    described = [
        SuspectRow(
            place_of(example),
            shown(survey.job.asked(example), 160),
            suspect.given,
            suspect.suggested,
            round(suspect.score, 3),
        )
        for suspect in found
        for example in [examples[suspect.index]]
    ]
    return described, len(rows)


def _several(survey: Survey) -> bool:
    """Whether a row may have several labels, which confident learning knows no answer to."""
    return survey.job.task is not None and isinstance(survey.job.task.constraint, SomeOf)


def wrong_labels(survey: Survey, found: list[SuspectRow], looked_at: int) -> Iterator[Finding]:
    """D014, or D025 where nothing could be judged.

    Args:
        looked_at: rows that could be judged.
    """
    rows = len(survey.train.table)
    if _several(survey):
        what = "train: the labels were not checked for mistakes, which is done where a row has one label"
        yield Finding("D025", "note", what, "Look at a sample of the labels yourself.", split="train")
        return
    if not looked_at and rows >= LEAST:
        what = "train: the labels were not checked for mistakes: a linear classifier can't tell them apart well enough"
        yield Finding("D025", "note", what, "Look at a sample of the labels yourself.", split="train")
    if not found:
        return
    changes = Counter(f"{shown(suspect.given)} to {shown(suspect.suggested)}" for suspect in found).most_common(FIRST)
    listing = ", ".join(f"{change} ({count})" for change, count in changes)
    sampled = f" of a sample of {looked_at:,}" if looked_at < rows else ""
    what = f"train: {len(found)} rows{sampled} look mislabelled: {listing}"
    first = tuple(
        FindingPlace(s.where, f"{s.text} → {shown(s.given)}, rather {shown(s.suggested)}") for s in found[:FIRST]
    )
    yield Finding("D014", "warning", what, KINDS["D014"].fix, first, len(found), len(found) / looked_at, "train")
