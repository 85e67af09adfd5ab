"""What is noted on reviews, and what the corrections still say of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tunewright.data.corrections import Correction, Corrections, ReviewerAnswer
from tunewright.data.shown import shown
from tunewright.monitoring.corrections.choose import stamp
from tunewright.monitoring.corrections.rejected import CHANGED, RejectedCorrection, reject
from tunewright.monitoring.store.database import pieces
from tunewright.monitoring.store.tables import Capture, Review

Key = tuple[str, str, str]
"""Capture, reviewer and time, which name a review wherever its database lies."""


def reconcile(session: Session, corrections: Corrections, model: str) -> tuple[int, int]:
    """Mark each review with the version of the corrections that names it, and none with one that does not.

    Returns:
        (reviews marked that were not, rows whose reviews were all undone since).
    """
    written = _written(corrections)
    columns = (Review.number, Review.capture_id, Review.reviewer, Review.time, Review.dataset, Review.undone)
    of_model = select(*columns).join(Capture, Capture.id == Review.capture_id).where(Capture.model == model)
    moved: dict[int | None, list[int]] = defaultdict(list)
    marked, undone = 0, set[Key]()
    for number, capture, reviewer, time, dataset, taken_back in session.execute(of_model):
        key = (capture, reviewer, stamp(time))
        if dataset != (version := written.get(key)):
            moved[version].append(number)
            marked += dataset is None
        if taken_back:
            undone.add(key)
    for version, numbers in moved.items():
        for some in pieces(numbers):
            session.execute(update(Review).where(Review.number.in_(some)).values(dataset=version))
    retracted = [row for row in corrections.rows if all(_key(row.capture, each) in undone for each in row.reviews)]
    return marked, len(retracted)


def without_known(
    corrections: Corrections, agreed: Sequence[Correction]
) -> tuple[list[Correction], list[RejectedCorrection]]:
    """(corrections, those to a capture that the corrections so far answer otherwise)."""
    answers = {row.capture: row.answer for row in corrections.rows}
    changed = [each for each in agreed if answers.get(each.capture, each.answer) != each.answer]
    rejected = [reject(CHANGED, each, f"they say {shown(answers[each.capture])}") for each in changed]
    return [each for each in agreed if answers.get(each.capture, each.answer) == each.answer], rejected


def _written(corrections: Corrections) -> dict[Key, int]:
    """The version of each review that the corrections name."""
    written: dict[Key, int] = {}
    for number, row in zip(corrections.numbers, corrections.rows, strict=True):
        written |= {_key(row.capture, said): number for said in (*row.reviews, *row.outvoted)}
    for number, settled in corrections.settled.items():
        written |= {_key(each.capture, said): number for each in settled for said in each.reviews}
    return written


def _key(capture: str, said: ReviewerAnswer) -> Key:
    return capture, said.reviewer, said.time
