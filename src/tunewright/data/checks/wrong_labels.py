"""Findings on labels that are probably wrong, by confident learning."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from tunewright.data.checks.kinds import KINDS, Finding, FindingPlace, place_of
from tunewright.data.checks.label_noise import likely_mislabelled
from tunewright.data.checks.scan import FIRST
from tunewright.data.checks.survey import Survey
from tunewright.data.shown import shown
from tunewright.data.text import normal
from tunewright.tasks.base import SomeOf

FEWEST_ROWS = 100
"""Fewest rows for a judgement: a classifier trained on fewer is wrong too often itself."""
LOOKED_AT = 30_000
"""Most rows that are judged; of more, a sample."""
CHARACTERS = 1_500_000
"""About the most characters that are judged: time and memory grow with them."""


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
    """The rows of train whose label is probably wrong, most probable first, and the number of rows judged."""
    train = survey.train
    if not survey.labels or len(train.table) < FEWEST_ROWS or _several(survey):
        return [], 0
    rows: list[int] = list(range(len(train.table)))
    characters = int(train.table.characters.sum())
    most = min(LOOKED_AT, len(rows) * CHARACTERS // max(characters, 1))
    if len(rows) > most:
        rows = sorted(random.Random(0).sample(rows, most))
    examples = [train.example(row) for row in rows]
    texts = [survey.job.request_of(example) for example in examples]
    mislabelled = likely_mislabelled(
        texts,
        [example.answer for example in examples],
        # As everywhere, a row without a group belongs to those of its text.
        [example.meta.group or normal(text) for example, text in zip(examples, texts, strict=True)],
    )
    if mislabelled is None:
        return [], 0
    suspect_rows = [
        SuspectRow(
            place_of(example),
            shown(texts[suspect.index], 160),
            suspect.given,
            suspect.suggested,
            round(suspect.score, 3),
        )
        for suspect in mislabelled
        for example in [examples[suspect.index]]
    ]
    return suspect_rows, len(rows)


def _several(survey: Survey) -> bool:
    """Whether a row may have several labels, which confident learning can't judge."""
    return survey.job.task is not None and isinstance(survey.job.task.constraint, SomeOf)


def wrong_labels(survey: Survey, suspect_rows: list[SuspectRow], judged: int) -> Iterator[Finding]:
    """D014, or D025 where nothing could be judged.

    Args:
        judged: number of rows that could be judged.
    """
    rows = len(survey.train.table)
    if _several(survey):
        what = "train: the labels were not checked for mistakes; only tasks with one label a row are"
        yield Finding("D025", "note", what, "Look at a sample of the labels yourself.", split="train")
        return
    if not judged and rows >= FEWEST_ROWS:
        what = "train: the labels were not checked for mistakes: a linear classifier can't tell them apart well enough"
        yield Finding("D025", "note", what, "Look at a sample of the labels yourself.", split="train")
    if not suspect_rows:
        return
    changes = Counter(f"{shown(row.given)} to {shown(row.suggested)}" for row in suspect_rows)
    listing = ", ".join(f"{change} ({count})" for change, count in changes.most_common(FIRST))
    sampled = f" of a sample of {judged:,}" if judged < rows else ""
    what = f"train: {len(suspect_rows)} rows{sampled} look mislabelled: {listing}"
    first = tuple(
        FindingPlace(row.where, f"{row.text} → {shown(row.given)}, rather {shown(row.suggested)}")
        for row in suspect_rows[:FIRST]
    )
    count = len(suspect_rows)
    yield Finding("D014", "warning", what, KINDS["D014"].fix, first, count, count / judged, "train")
