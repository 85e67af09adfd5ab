"""The review queue: which captures are worth a person's time first, and which are alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Select, exists, func, select, tuple_, update
from sqlalchemy.orm import Session

from tunewright.data.dedup.minhash import shingle_hashes, sign
from tunewright.data.dedup.near import CHARACTERS, comparable
from tunewright.monitoring.captured import midnight
from tunewright.monitoring.store.database import pieces
from tunewright.monitoring.store.tables import BY_WHO_ASKED, DRAWN, EXPERT, STATES, Capture, Review, SecondOpinion

if TYPE_CHECKING:
    from tunewright.drift.reference import Reference


FLOOR = 0.1
"""What each factor of a priority is at least, so that one that says nothing does not hide an item."""
MOST_ALIKE = 500
"""Of one cluster that are shown and answered at once."""
_PLACES = 4
"""Of a MinHash signature that requests must share to be called alike: texts of a Jaccard similarity s do with a
probability of s^4. Figures: docs/review.md."""
_READ = 20_000
"""Characters of a request that tell whether another is alike."""


def appraise(session: Session, captures: Sequence[Capture], reference: Reference | None) -> None:
    """Set how novel captures are, how much opinions on them differ, how urgent a review is, and what they are alike.

    priority = f(uncertainty) x f(novelty) x f(disagreement), f(x) = 0.1 + 0.9 x.

    - uncertainty = 1 - confidence, 0.5 where none is known; where the answer was to be escalated, and again where the
      request was out of scope, half of what is missing to 1 is added.
    - novelty: the reference's; 1 without one.
    - disagreement: the share of second opinions and of askers' feedback that is against the answer; 0 without any.

    Captures that were drawn for the audit stay before all others.

    Call it again for captures whose opinions have changed.

    Args:
        session: a transaction that sees the captures' second opinions and feedback.
        captures: those to appraise, changed in place.
        reference: what the model was judged on; see `tunewright.drift`.
    """
    if not captures:
        return
    texts = [capture.request for capture in captures]
    novelties = reference.novelty(texts).tolist() if reference else [1.0] * len(texts)
    against = _against(session, captures)
    for capture, novelty, cluster in zip(captures, novelties, clusters(texts), strict=True):
        capture.novelty = min(max(float(novelty), 0.0), 1.0)
        capture.disagreement = against.get(capture.id, 0.0)
        capture.cluster = cluster
        if (capture.priority or 0) < DRAWN:
            capture.priority = 1.0
            for factor in (_uncertainty(capture), capture.novelty, capture.disagreement):
                capture.priority *= FLOOR + (1 - FLOOR) * factor


def clusters(texts: Sequence[str]) -> list[str]:
    """For each text a key of 16 letters that texts share which are alike: word for word always, others the more often
    the more alike they are. A text's key depends on nothing but the text; empty for one without words."""
    normals = [comparable(text[:_READ]) for text in texts]
    if not any(normals):
        return [""] * len(texts)
    hashes, offsets = shingle_hashes([normal or "-" for normal in normals], CHARACTERS, by_words=False)
    keys, _ = sign(hashes, offsets, (1, _PLACES))
    return [f"{key:016x}" if normal else "" for key, normal in zip(keys[:, 0].tolist(), normals, strict=True)]


def _uncertainty(capture: Capture) -> float:
    found = 0.5 if capture.confidence is None else 1 - min(max(capture.confidence, 0.0), 1.0)
    for alarming in (capture.escalate is True, capture.in_scope is False):
        if alarming:
            found = (1 + found) / 2
    return found


def _against(session: Session, captures: Sequence[Capture]) -> dict[str, float]:
    """By capture the share of opinions that are against its answer."""
    answers = {capture.id: capture.answer for capture in captures}
    votes: defaultdict[str, list[bool]] = defaultdict(list)
    for some in pieces(list(answers)):
        opinions = select(SecondOpinion.capture_id, SecondOpinion.answer).where(SecondOpinion.capture_id.in_(some))
        for capture_id, answer in session.execute(opinions):
            votes[capture_id].append(answer.strip() != answers[capture_id].strip())
        feedback = select(Review.capture_id, Review.right).where(
            Review.capture_id.in_(some), Review.source == BY_WHO_ASKED, Review.undone.is_(None)
        )
        for capture_id, right in session.execute(feedback):
            votes[capture_id].append(not right)
    return {capture_id: sum(cast) / len(cast) for capture_id, cast in votes.items()}


def waiting(
    session: Session,
    model: str,
    reviewer: str,
    after: Capture | None = None,
    without: Collection[str] = (),
    formerly: str | None = None,
) -> Capture | None:
    """The next capture that waits for this reviewer, the most urgent first; one that he has reviewed never does.

    Args:
        formerly: what else his reviews may stand under.
        after: only what stands behind this one in the queue.
        without: ids to pass over.
    """
    found = (
        _open(select(Capture), model, reviewer, formerly).order_by(Capture.priority.desc(), Capture.id.desc()).limit(1)
    )
    if after is not None:
        found = found.where(tuple_(Capture.priority, Capture.id) < (after.priority, after.id))
    if without:
        found = found.where(Capture.id.not_in(without))
    first: Capture | None = session.scalars(found).first()
    return first


def alike(
    session: Session, capture: Capture, reviewer: str, formerly: str | None = None
) -> list[tuple[str, str, str, float | None]]:
    """(id, the request's beginning, answer, confidence) of the captures of a cluster that wait for this reviewer, at
    most `MOST_ALIKE`; none where the capture is alike nothing."""
    if not capture.cluster:
        return []
    columns = select(Capture.id, func.substr(Capture.request, 1, 300), Capture.answer, Capture.confidence)
    found = _open(columns, capture.model, reviewer, formerly).where(Capture.cluster == capture.cluster)
    return [tuple(row) for row in session.execute(found.order_by(Capture.id).limit(MOST_ALIKE))]


def count_alike(session: Session, capture: Capture, reviewer: str, formerly: str | None = None) -> int:
    """How many `alike` would find, a capture that waits itself counted."""
    if not capture.cluster:
        return 0
    found = _open(select(Capture.id), capture.model, reviewer, formerly).where(Capture.cluster == capture.cluster)
    return session.scalar(select(func.count()).select_from(found.limit(MOST_ALIKE).subquery())) or 0


def _open(of: Select[Any], model: str, reviewer: str, formerly: str | None) -> Select[Any]:
    """What waits for this reviewer."""
    return of.where(Capture.model == model, Capture.state == "open", ~_has_reviewed(reviewer, formerly))


def _has_reviewed(reviewer: str, formerly: str | None) -> ColumnElement[bool]:
    is_his = Review.reviewer == reviewer if formerly is None else Review.reviewer.in_((reviewer, formerly))
    return exists().where(Review.capture_id == Capture.id, is_his, Review.undone.is_(None), Review.source.in_(EXPERT))


A_DAY = 10
"""In four weeks they tell an accuracy of 95 % to 2.6 points."""
_LATEST = 7
"""Days that are still drawn from, if nobody collected meanwhile."""


def draw(session: Session, model: str, now: datetime) -> None:
    """Draw from each of the last whole days in UTC of which none was drawn yet, all of them where there are few.

    Ids are random, so those that come first in their order are taken.
    """
    until = midnight(now)
    since = until - timedelta(days=_LATEST)
    of_model = (Capture.model == model, Capture.time >= since, Capture.time < until)
    drawn = select(Capture.time).where(*of_model, Capture.state.in_(STATES), Capture.priority >= DRAWN)
    done = {time.date() for time in session.scalars(drawn)}
    for age in range(_LATEST):
        day = since + timedelta(days=age)
        if day.date() not in done:
            of_day = (Capture.model == model, Capture.time >= day, Capture.time < day + timedelta(days=1))
            first = select(Capture.id).where(*of_day).order_by(Capture.id).limit(A_DAY)
            if ids := session.scalars(first).all():
                session.execute(update(Capture).where(Capture.id.in_(ids)).values(priority=DRAWN))
