"""Rejected corrections with their reasons and remedies, and the marks that tie reviews to the corrections."""

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
TIED = "a tie on alike requests"
OUTVOTED = "outvoted on alike requests"
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
    WAITS: "Let as many people review these as --reviewers-per-item requires, or start the review with a smaller "
    "number: tunewright review PROJECT",
    DISAGREE: "Settle these on the page Agreement: tunewright review PROJECT",
    TIED: "As many people gave one answer as another. Give them one answer on the page Agreement: tunewright review "
    "PROJECT",
    OUTVOTED: "More people gave another answer. Settle these on the page Agreement: tunewright review PROJECT",
    FEEDBACK: "Any client with a key can send feedback. Review these, or accept the feedback of a key that you trust: "
    "--include feedback:KEY",
    NEW_LABEL: "Add the label to task.labels and repeat this command, or give these another one on the page "
    "Agreement: tunewright review PROJECT",
    UNFIT: "Fix the task in the spec, or give these another answer on the page Agreement: tunewright review PROJECT",
    UNUSABLE: "Nothing to do, or raise train.max_length if they are too long.",
    CONTRADICTS: "Fix the old row if it is wrong, or let a second person review these, because two who agree are "
    "accepted: tunewright review PROJECT --reviewers-per-item 2",
    CHANGED: "To start again from the reviews, move the corrections' folder away and repeat this command.",
    TESTED: "Nothing to do: a model must not learn its test.",
    COPY: "Nothing to do: the data already contain it.",
    PULL: "Look at these. If they are right, accept them: --include SOURCE  Or let a second person review them: "
    "tunewright review PROJECT --reviewers-per-item 2",
}
"""The advice for each reason, in the order in which they are printed."""
DISPUTED = (DISAGREE, TIED, OUTVOTED, NEW_LABEL, UNFIT)
"""Reasons after which a person has to settle what the answer is."""
SETTLED = (COPY, TESTED)
"""Reasons that never need another look."""


@dataclass(frozen=True)
class RejectedCorrection:
    """A reviewed capture that does not become a correction."""

    reason: str
    """A key of REMEDIES."""
    capture: str
    text: str
    answer: str
    """The reviewers' answer."""
    said: str
    """The model's answer."""
    detail: str = ""
    """The row that it contradicts or repeats, and its source."""
    source: str = ""
    """The source's name for `--include`."""


def reject(reason: str, correction: Correction, detail: str = "", source: str = "") -> RejectedCorrection:
    """Reject a correction for a reason."""
    return RejectedCorrection(
        reason, correction.capture, correction.text, correction.answer, correction.said, detail, source
    )


Key = tuple[str, str, str]
"""(capture, reviewer, time), which identifies a review in any database."""


def reconcile(session: Session, corrections: Corrections, model: str) -> tuple[int, int]:
    """Mark each review with the version of the corrections that names it, and remove all other marks.

    Returns:
        (reviews that were not marked before, rows whose reviews were all undone since).
    """
    written = _written(corrections)
    columns = (Review.number, Review.capture_id, Review.reviewer, Review.time, Review.dataset, Review.undone)
    of_model = select(*columns).join(Capture, Capture.id == Review.capture_id).where(Capture.model == model)
    moved: dict[int | None, list[int]] = defaultdict(list)
    marked, undone = 0, set[Key]()
    for number, capture, reviewer, time, dataset, undone_at in session.execute(of_model):
        key = (capture, reviewer, stamp(time))
        if dataset != (version := written.get(key)):
            moved[version].append(number)
            marked += dataset is None
        if undone_at:
            undone.add(key)
    for version, numbers in moved.items():
        for some in pieces(numbers):
            session.execute(update(Review).where(Review.number.in_(some)).values(dataset=version))
    retracted = [row for row in corrections.rows if all(_key(row.capture, each) in undone for each in row.reviews)]
    return marked, len(retracted)


def without_known(
    corrections: Corrections, agreed: Sequence[Correction]
) -> tuple[list[Correction], list[RejectedCorrection]]:
    """(the corrections, those of captures to which earlier corrections have another answer)."""
    answers = {row.capture: row.answer for row in corrections.rows}
    changed = [each for each in agreed if answers.get(each.capture, each.answer) != each.answer]
    rejected = [reject(CHANGED, each, f"an earlier correction: {shown(answers[each.capture])}") for each in changed]
    return [each for each in agreed if answers.get(each.capture, each.answer) == each.answer], rejected


def _written(corrections: Corrections) -> dict[Key, int]:
    """The version of each review that the corrections name."""
    written: dict[Key, int] = {}
    for number, row in zip(corrections.numbers, corrections.rows, strict=True):
        written |= {_key(row.capture, vote): number for vote in (*row.reviews, *row.outvoted)}
    for number, settled in corrections.settled.items():
        written |= {_key(each.capture, vote): number for each in settled for vote in each.reviews}
    return written


def _key(capture: str, vote: ReviewerAnswer) -> Key:
    return capture, vote.reviewer, vote.time


def stamp(time: datetime) -> str:
    """A time in UTC as text."""
    return time.astimezone(UTC).isoformat()
