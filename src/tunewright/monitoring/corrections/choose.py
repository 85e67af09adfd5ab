"""Find the answer that reviewers agree on, capture by capture."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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
from tunewright.monitoring.store.tables import BY_CLIENT, EXPERT, Capture, Review
from tunewright.tasks import Task
from tunewright.tasks.base import Unfit, labels_of

SETTLED_BY = "settle"
"""The source of a review that settled a conflict."""


@dataclass(frozen=True)
class AgreedAnswer:
    """The agreed answers of reviews that are not yet in a dataset, and the rejected ones."""

    agreed: list[Correction]
    rejected: list[RejectedCorrection]


def choose(session: Session, task: Task, model: str, include: Collection[str] = ()) -> AgreedAnswer:
    """The agreed answers to a model's captures with a review in no dataset yet, oldest capture first.

    Each person has one vote per capture, their last review that was not undone: for the model's answer if they called
    it right, else for their own, or for none ("nobody can tell"). More than half of the votes decide, or the person who
    settled a conflict. Captures that still wait for another reviewer keep waiting. A client's feedback is not a vote,
    unless `include` names its key.

    Args:
        include: `feedback:KEY` for each key whose feedback counts as a review.
    """
    agreed, rejected = [], []
    for capture, reviews in _reviewed(session, model):
        votes = {_voter(review): review for review in reviews if _is_vote(review, include)}
        if not votes:
            if feedback := [review for review in reviews if not (review.right and review.answer is None)]:
                rejected.append(_feedback_alone(capture, feedback[-1]))
            continue
        if capture.state == "open" and any(review.source in EXPERT for review in votes.values()):
            rejected.append(RejectedCorrection(WAITS, capture.id, capture.request, "", capture.answer))
            continue
        answers = {voter: _answer(task, capture, review) for voter, review in votes.items()}
        answer, decided = _decision(votes, answers)
        if not decided:
            votes_text = " | ".join(f"{voter.name}: {_as_text(each)}" for voter, (each, _) in sorted(answers.items()))
            rejected.append(RejectedCorrection(DISAGREE, capture.id, capture.request, votes_text, capture.answer))
        elif answer is not None:
            unfit = next(why for each, why in answers.values() if each == answer)
            if unfit:
                rejected.append(_unfit(task, capture, answer, unfit))
            else:
                agreed.append(_correction(task, capture, answer, answers, reviews))
    return AgreedAnswer(agreed, rejected)


def confidences(session: Session, captures: Sequence[str]) -> dict[str, float | None]:
    """The model's confidence in its answers, by capture."""
    by_capture: dict[str, float | None] = {}
    for some in pieces(captures):
        for name, confidence in session.execute(select(Capture.id, Capture.confidence).where(Capture.id.in_(some))):
            by_capture[name] = confidence
    return by_capture


class Voter(NamedTuple):
    """Who says something about a capture. A client's key may have the name of a reviewer, and is somebody else."""

    name: str
    is_client: bool


def _voter(review: Review) -> Voter:
    return Voter(review.reviewer, review.source == BY_CLIENT)


def _decision(
    votes: Mapping[Voter, Review], answers: Mapping[Voter, tuple[str | None, str]]
) -> tuple[str | None, bool]:
    """(the answer of the last person who settled it or of more than half, whether there is one)."""
    settled = [voter for voter, vote in votes.items() if vote.source == SETTLED_BY]
    if settled:  # the last one saw what the others had said
        return answers[max(settled, key=lambda voter: votes[voter].number)][0], True
    answer, most = Counter(answer for answer, _ in answers.values()).most_common(1)[0]
    return answer, 2 * most > len(answers)


def _is_vote(review: Review, include: Collection[str]) -> bool:
    return review.source != BY_CLIENT or f"{BY_CLIENT}:{review.reviewer}" in include


def _answer(task: Task, capture: Capture, review: Review) -> tuple[str | None, str]:
    """(the answer that a review votes for, in canonical form if it has one; the reason if it has none)."""
    answer = capture.answer if review.right else review.answer
    if answer is None:
        return None, ""
    try:
        canonical = task.canonical(answer)
    except Unfit as reason:
        return answer, str(reason)
    return (canonical, "") if canonical else (answer, "nothing is left of the answer in the task's form")


def _correction(
    task: Task,
    capture: Capture,
    answer: str,
    answers: Mapping[Voter, tuple[str | None, str]],
    reviews: Sequence[Review],
) -> Correction:
    sides: dict[bool, list[ReviewerAnswer]] = {True: [], False: []}
    for review in reviews:
        vote = answers.get(_voter(review)) if review.source != BY_CLIENT else _answer(task, capture, review)
        sides[vote is not None and vote[0] == answer].append(_as_vote(review))
    return Correction(
        capture.request,
        answer,
        capture.id,
        stamp(capture.time),
        capture.model,
        capture.version,
        capture.by,
        capture.answer,
        sides[True],
        sides[False],
    )


def people(correction: Correction) -> int:
    """How many people agree on a correction, without clients' feedback."""
    return len(supporters(correction))


def supporters(correction: Correction) -> set[str]:
    """The people who agree on a correction, without clients."""
    return {review.reviewer for review in correction.reviews if review.source != BY_CLIENT}


def _as_vote(review: Review) -> ReviewerAnswer:
    return ReviewerAnswer(review.reviewer, stamp(review.time), review.source)


def _feedback_alone(capture: Capture, review: Review) -> RejectedCorrection:
    answer = capture.answer if review.right else _as_text(review.answer)
    source = f"{BY_CLIENT}:{review.reviewer}"
    return RejectedCorrection(FEEDBACK, capture.id, capture.request, answer, capture.answer, source=source)


def _unfit(task: Task, capture: Capture, answer: str, why: str) -> RejectedCorrection:
    reason = NEW_LABEL if labels_of(task.constraint) else UNFIT
    return RejectedCorrection(reason, capture.id, capture.request, answer, capture.answer, why)


def _as_text(answer: str | None) -> str:
    return "nobody can tell" if answer is None else answer


def _reviewed(session: Session, model: str) -> Iterable[tuple[Capture, list[Review]]]:
    """The captures with a review in no dataset, oldest first, each with its reviews that were not undone."""
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
        query = select(Review).where(Review.capture_id.in_(some), Review.undone.is_(None)).order_by(Review.number)
        for review in session.scalars(query):
            reviews.setdefault(review.capture_id, []).append(review)
    for capture in sorted(captures, key=lambda capture: (capture.time, capture.id)):
        yield capture, reviews[capture.id]
