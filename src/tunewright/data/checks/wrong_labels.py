"""Labels that are probably wrong, by confident learning."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from tunewright.data.checks.kinds import KINDS, Finding, Place
from tunewright.data.checks.places import places
from tunewright.data.checks.survey import FIRST, Split, Survey
from tunewright.data.label_noise import likely_mislabelled

MOST_WRONG = 0.2
"""Share of suspected labels above which it is the classifier that is weak, and nothing is said about the labels."""
LOOKED_AT = 30_000
"""Rows that are looked at; of more, a sample."""


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
    """The rows of train whose label is probably wrong, most probable first, and how many rows were looked at."""
    if not survey.labels:
        return [], 0
    train = survey.train
    rows: list[int] = list(range(len(train.table)))
    if len(rows) > LOOKED_AT:
        rows = sorted(random.Random(survey.job.seed).sample(rows, LOOKED_AT))
    chosen = set(rows)
    examples = [example for row, example in enumerate(train.examples()) if row in chosen]
    groups = [example.meta.group for example in examples]
    found = likely_mislabelled(
        [train.text(row) for row in rows],
        [example.answer for example in examples],
        None if None in groups else groups,
    )
    if len(found) > MOST_WRONG * len(rows):
        return [], len(rows)
    return [_described(train, rows[suspect.index], suspect.given, suspect.suggested, suspect.score)
            for suspect in found], len(rows)  # fmt: skip


def _described(train: Split, row: int, given: str, suggested: str, score: float) -> SuspectRow:
    (place,) = places(train, [row])
    return SuspectRow(place.where, place.text.rsplit(" → ", 1)[0], given, suggested, round(score, 3))


def wrong_labels(found: list[SuspectRow], looked_at: int, rows: int) -> Iterator[Finding]:
    """D014."""
    if not found:
        return
    changes = Counter(f"{suspect.given} to {suspect.suggested}" for suspect in found).most_common(FIRST)
    listing = ", ".join(f"{change} ({count})" for change, count in changes)
    sampled = f" of a sample of {looked_at:,}" if looked_at < rows else ""
    what = f"train: {len(found)} rows{sampled} look mislabelled: {listing}"
    shown = tuple(Place(s.where, f"{s.text} → {s.given}, rather {s.suggested}") for s in found[:FIRST])
    yield Finding("D014", "warning", what, KINDS["D014"].fix, shown, len(found), len(found) / looked_at, "train")
