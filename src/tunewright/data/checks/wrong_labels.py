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
from tunewright.data.text import asked

MOST_WRONG = 0.2
"""Share of suspected labels above which it is the classifier that is weak, and nothing is said about the labels."""
LEAST = 100
"""Rows below which nothing is said: a classifier of so few is wrong too often itself."""
LOOKED_AT = 30_000
"""Rows that are looked at; of more, a sample."""
CHARACTERS = 1_500_000
"""Characters that are looked at, about: time and memory go with them."""
_CHARACTERS_A_WORD = 6


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
    train = survey.train
    if not survey.labels or len(train.table) < LEAST:
        return [], 0
    rows: list[int] = list(range(len(train.table)))
    characters = _CHARACTERS_A_WORD * int(train.table.words.sum())
    most = min(LOOKED_AT, len(rows) * CHARACTERS // max(characters, 1))
    if len(rows) > most:
        rows = sorted(random.Random(survey.job.seed).sample(rows, most))
    examples = [train.example(row) for row in rows]
    groups = [example.meta.group for example in examples]
    found = likely_mislabelled(
        [asked(example) for example in examples],
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
