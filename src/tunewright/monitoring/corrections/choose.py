"""From reviews to the answer that people agree on, capture by capture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunewright.data.corrections import Correction, ReviewerAnswer
from tunewright.monitoring.corrections.rejected import (
    DISAGREE,
    FEEDBACK,
    NEW_LABEL,
    UNFIT,
    WAITS,
    RejectedCorrection,
    stamp,
)
from tunewright.monitoring.store.database import pieces
from tunewright.monitoring.store.tables import BY_WHO_ASKED, EXPERT, Capture, Review
from tunewright.tasks import Task
from tunewright.tasks.base import Unfit, labels_of

SETTLED_BY = "settle"
"""That of one who settled a conflict."""


@dataclass(frozen=True)
class AgreedAnswer:
    """What reviews that are not yet in a dataset come to."""

    agreed: list[Correction]
    rejected: list[RejectedCorrection]


def choose(session: Session, task: Task, model: str, include: Collection[str] = ()) -> AgreedAnswer:
    """The agreed answers to a model's captures that have a review in no dataset yet, the oldest capture first.

    A person has one vote on a capture, the last that was not undone: for the model's answer where they called it right,
    else for their own, or for none ("nobody can tell"). More than half of the votes decide, or who settled a conflict.
    What still waits for another reviewer is left to wait. Feedback of who asked is
    no vote, unless `include` says so of its key.

    Args:
        include: `feedback:KEY` for each key whose feedback counts as a review.
    """
    agreed, rejected = [], []
    for capture, reviews in _reviewed(session, model):
        votes = {review.reviewer: review for review in reviews if _is_vote(review, include)}
        if not votes:
            if feedback := [review for review in reviews if not (review.right and review.answer is None)]:
                rejected.append(_feedback_alone(capture, feedback[-1]))
            continue
        if capture.state == "open" and any(review.source in EXPERT for review in votes.values()):
            rejected.append(RejectedCorrection(WAITS, capture.id, capture.request, "", capture.answer))
            continue
        answers = {reviewer: _answer(task, capture, review) for reviewer, review in votes.items()}
        answer, decided = _decision(votes.values(), answers)
        if not decided:
            said = " | ".join(f"{reviewer}: {_told(each)}" for reviewer, (each, _) in sorted(answers.items()))
            rejected.append(RejectedCorrection(DISAGREE, capture.id, capture.request, said, capture.answer))
        elif answer is not None:
            unfit = next(why for each, why in answers.values() if each == answer)
            if unfit:
                rejected.append(_unfit(task, capture, answer, unfit))
            else:
                agreed.append(_correction(task, capture, answer, answers, reviews))
    return AgreedAnswer(agreed, rejected)


def confidences(session: Session, captures: Sequence[str]) -> dict[str, float | None]:
    """How sure the model was of its answers, by capture."""
    found: dict[str, float | None] = {}
    for some in pieces(captures):
        for name, sure in session.execute(select(Capture.id, Capture.confidence).where(Capture.id.in_(some))):
            found[name] = sure
    return found


def _decision(votes: Iterable[Review], answers: Mapping[str, tuple[str | None, str]]) -> tuple[str | None, bool]:
    """(the answer of who settled it or of more than half, whether there is one)."""
    for vote in votes:
        if vote.source == SETTLED_BY:
            return answers[vote.reviewer][0], True
    answer, most = Counter(answer for answer, _ in answers.values()).most_common(1)[0]
    return answer, 2 * most > len(answers)


def _is_vote(review: Review, include: Collection[str]) -> bool:
    return review.source != BY_WHO_ASKED or f"{BY_WHO_ASKED}:{review.reviewer}" in include


def _answer(task: Task, capture: Capture, review: Review) -> tuple[str | None, str]:
    """(the answer a review is for, in canonical form where it has one; why it has none)."""
    answer = capture.answer if review.right else review.answer
    if answer is None:
        return None, ""
    try:
        canonical = task.canonical(answer)
    except Unfit as reason:
        return answer, str(reason)
    return (canonical, "") if canonical else (answer, "nothing is left of the answer in the task's form")


def _correction(
    task: Task, capture: Capture, answer: str, answers: dict[str, tuple[str | None, str]], reviews: Sequence[Review]
) -> Correction:
    said: dict[bool, list[ReviewerAnswer]] = {True: [], False: []}
    for review in reviews:
        vote = answers.get(review.reviewer) if review.source != BY_WHO_ASKED else _answer(task, capture, review)
        said[vote is not None and vote[0] == answer].append(said_by(review))
    return Correction(
        capture.request,
        answer,
        capture.id,
        stamp(capture.time),
        capture.model,
        capture.version,
        capture.by,
        capture.answer,
        said[True],
        said[False],
    )


def people(correction: Correction) -> int:
    """How many agree on it, feedback of who asked aside."""
    return len({review.reviewer for review in correction.reviews if review.source != BY_WHO_ASKED})


def said_by(review: Review) -> ReviewerAnswer:
    return ReviewerAnswer(review.reviewer, stamp(review.time), review.source)


def _feedback_alone(capture: Capture, review: Review) -> RejectedCorrection:
    answer = capture.answer if review.right else _told(review.answer)
    source = f"{BY_WHO_ASKED}:{review.reviewer}"
    return RejectedCorrection(FEEDBACK, capture.id, capture.request, answer, capture.answer, source=source)


def _unfit(task: Task, capture: Capture, answer: str, why: str) -> RejectedCorrection:
    reason = NEW_LABEL if labels_of(task.constraint) else UNFIT
    return RejectedCorrection(reason, capture.id, capture.request, answer, capture.answer, why)


def _told(answer: str | None) -> str:
    return "nobody can tell" if answer is None else answer


def _reviewed(session: Session, model: str) -> Iterable[tuple[Capture, list[Review]]]:
    """Captures with a review in no dataset, each with all that was not undone, the oldest first."""
    pending = (
        select(Review.capture_id)
        .join(Capture, Capture.id == Review.capture_id)
        .where(Capture.model == model, Review.dataset.is_(None), Review.undone.is_(None))
        .distinct()
    )
    ids = list(session.scalars(pending))
    captures: list[Capture] = []
    reviews: dict[str, list[Review]] = {}
    for some in pieces(ids):
        captures += session.scalars(select(Capture).where(Capture.id.in_(some)))
        said = select(Review).where(Review.capture_id.in_(some), Review.undone.is_(None)).order_by(Review.number)
        for review in session.scalars(said):
            reviews.setdefault(review.capture_id, []).append(review)
    for capture in sorted(captures, key=lambda capture: (capture.time, capture.id)):
        yield capture, reviews[capture.id]
