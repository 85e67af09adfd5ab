"""What growth holds back, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tunewright.data.corrections import Correction, Corrections, ReviewerAnswer
from tunewright.data.shown import shown
from tunewright.monitoring.store.database import pieces
from tunewright.monitoring.store.tables import Capture, Review

WAITS = "waits for another reviewer"
DISAGREE = "reviewers disagree"
FEEDBACK = "feedback alone"
NEW_LABEL = "a label that the spec does not have"
UNFIT = "no answer of this task"
UNUSABLE = "can't be trained on"
CONTRADICTS = "contradicts the data"
CHANGED = "contradicts the corrections"
TESTED = "stands in a test"
COPY = "adds nothing"
PULL = "one source pulls an answer"

REMEDIES = {
    WAITS: "Have these reviewed by as many people as you asked for: tunewright review PROJECT",
    DISAGREE: "Settle these on the page Agreement: tunewright review PROJECT",
    FEEDBACK: "Who asked says so, which anybody with a key can: review these, or release a key's that you trust: "
    "--include feedback:KEY",
    NEW_LABEL: "Add the label under task.labels and type this again, or review these anew.",
    UNFIT: "Review these anew, or mend the task in the spec.",
    UNUSABLE: "Nothing to do, or raise train.max_length where they are too long.",
    CONTRADICTS: "Mend the old row where it is wrong, or have a second person review these: two who agree are taken.",
    CHANGED: "To let the reviews decide anew, move the corrections' folder away and type this again.",
    TESTED: "Nothing to do: what a model is tested on is not taught.",
    COPY: "Nothing to do: the data says so already.",
    PULL: "Look at these. Where they are right, release them: --include SOURCE  Or have a second person review them.",
}
"""What to do about each, in the order in which they are told."""
SETTLED = (COPY, TESTED)
"""What need not be looked at again."""


@dataclass(frozen=True)
class RejectedCorrection:
    """A capture that was reviewed and is not taken."""

    reason: str
    """A key of REMEDIES."""
    capture: str
    text: str
    answer: str
    """What people say."""
    said: str
    """What the model said."""
    detail: str = ""
    """What it contradicts, or repeats, and where."""
    source: str = ""
    """Under which name `--include` releases it."""


def reject(reason: str, correction: Correction, detail: str = "", source: str = "") -> RejectedCorrection:
    return RejectedCorrection(
        reason, correction.capture, correction.text, correction.answer, correction.said, detail, source
    )


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


def stamp(time: datetime) -> str:
    return time.astimezone(UTC).isoformat()
