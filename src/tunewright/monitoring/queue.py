"""The review queue: the priority of captures, clusters of similar ones, and the random audit sample."""

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
from tunewright.monitoring.store.tables import BY_CLIENT, DRAWN, EXPERT, STATES, Capture, Review, SecondOpinion

if TYPE_CHECKING:
    from tunewright.drift.reference import Reference


FLOOR = 0.1
"""The least value of each factor of a priority, so that one low factor does not hide an item."""
MOST_ALIKE = 500
"""The most captures of one cluster to show and answer at once."""
_PLACES = 4
"""Positions of a MinHash signature that similar requests must share: texts with a Jaccard similarity s share them with
a probability of s^4. Figures: docs/review.md."""
_READ = 20_000
"""Characters of a request that count for its similarity to others."""


def appraise(session: Session, captures: Sequence[Capture], reference: Reference | None) -> None:
    """Set the novelty, disagreement, priority and cluster of captures.

    priority = f(uncertainty) x f(novelty) x f(disagreement), f(x) = 0.1 + 0.9 x.

    - uncertainty = 1 - confidence, or 0.5 if the confidence is unknown. If the answer should have been escalated, half
      of
      the difference to 1 is added; if the request was out of scope, again.
    - novelty: by the reference; 1 without one.
    - disagreement: the share of second opinions and of clients' feedback against the answer; 0 without any.

    Captures drawn for the audit stay before all others.

    Call it again for captures whose opinions have changed.

    Args:
        session: a transaction that sees the captures' second opinions and feedback.
        captures: the captures, which are changed in place.
        reference: the data that the model was evaluated on; see `tunewright.drift`.
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
    """A key of 16 letters for each text. Identical texts share a key, and similar texts do so more often, the more
    similar they are. The key depends on the text alone, and is empty for a text without words."""
    normals = [comparable(text[:_READ]) for text in texts]
    if not any(normals):
        return [""] * len(texts)
    hashes, offsets = shingle_hashes([normal or "-" for normal in normals], CHARACTERS, by_words=False)
    keys, _ = sign(hashes, offsets, (1, _PLACES))
    return [f"{key:016x}" if normal else "" for key, normal in zip(keys[:, 0].tolist(), normals, strict=True)]


def _uncertainty(capture: Capture) -> float:
    uncertainty = 0.5 if capture.confidence is None else 1 - min(max(capture.confidence, 0.0), 1.0)
    for doubtful in (capture.escalate is True, capture.in_scope is False):
        if doubtful:
            uncertainty = (1 + uncertainty) / 2
    return uncertainty


def _against(session: Session, captures: Sequence[Capture]) -> dict[str, float]:
    """The share of opinions against the answer, by capture."""
    answers = {capture.id: capture.answer for capture in captures}
    votes: defaultdict[str, list[bool]] = defaultdict(list)
    for some in pieces(list(answers)):
        opinions = select(SecondOpinion.capture_id, SecondOpinion.answer).where(SecondOpinion.capture_id.in_(some))
        for capture_id, answer in session.execute(opinions):
            votes[capture_id].append(answer.strip() != answers[capture_id].strip())
        feedback = select(Review.capture_id, Review.right).where(
            Review.capture_id.in_(some), Review.source == BY_CLIENT, Review.undone.is_(None)
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
    """The most urgent capture that this reviewer has not reviewed.

    Args:
        after: only captures behind this one in the queue.
        without: ids to skip.
        formerly: an earlier name of the reviewer.
    """
    query = (
        _open(select(Capture), model, reviewer, formerly).order_by(Capture.priority.desc(), Capture.id.desc()).limit(1)
    )
    if after is not None:
        query = query.where(tuple_(Capture.priority, Capture.id) < (after.priority, after.id))
    if without:
        query = query.where(Capture.id.not_in(without))
    first: Capture | None = session.scalars(query).first()
    return first


def alike(
    session: Session, capture: Capture, reviewer: str, formerly: str | None = None
) -> list[tuple[str, str, str, float | None]]:
    """(id, start of the request, answer, confidence) of the captures in the same cluster that this reviewer has not
    reviewed, at most `MOST_ALIKE`; empty if the capture has no cluster."""
    if not capture.cluster:
        return []
    columns = select(Capture.id, func.substr(Capture.request, 1, 300), Capture.answer, Capture.confidence)
    query = _open(columns, capture.model, reviewer, formerly).where(Capture.cluster == capture.cluster)
    return [tuple(row) for row in session.execute(query.order_by(Capture.id).limit(MOST_ALIKE))]


def count_alike(session: Session, capture: Capture, reviewer: str, formerly: str | None = None) -> int:
    """The number of captures that `alike` returns, the capture itself included."""
    if not capture.cluster:
        return 0
    query = _open(select(Capture.id), capture.model, reviewer, formerly).where(Capture.cluster == capture.cluster)
    return session.scalar(select(func.count()).select_from(query.limit(MOST_ALIKE).subquery())) or 0


def _open(query: Select[Any], model: str, reviewer: str, formerly: str | None) -> Select[Any]:
    """Restrict a query to open captures that this reviewer has not reviewed."""
    return query.where(Capture.model == model, Capture.state == "open", ~_has_reviewed(reviewer, formerly))


def _has_reviewed(reviewer: str, formerly: str | None) -> ColumnElement[bool]:
    is_theirs = Review.reviewer == reviewer if formerly is None else Review.reviewer.in_((reviewer, formerly))
    return exists().where(
        Review.capture_id == Capture.id, is_theirs, Review.undone.is_(None), Review.source.in_(EXPERT)
    )


def dispute(session: Session, ids: Sequence[str]) -> None:
    """Let a person settle captures that are done, although their own reviews don't differ: alike requests have another
    answer, for example. They wait on the page Agreement, where those who have reviewed them may decide too."""
    _move(session, ids, "done", "conflict")


def end_dispute(session: Session, ids: Sequence[str]) -> None:
    """Close captures that nobody has to settle any more."""
    _move(session, ids, "conflict", "done")


def _move(session: Session, ids: Sequence[str], of: str, to: str) -> None:
    for some in pieces(sorted(ids)):
        session.execute(update(Capture).where(Capture.id.in_(some), Capture.state == of).values(state=to))


A_DAY = 10
"""Captures drawn per day. In four weeks they estimate an accuracy of 95 % to 2.6 points."""
_LATEST = 7
"""Past days to draw from if nobody collected meanwhile."""


def draw(session: Session, model: str, now: datetime) -> None:
    """Draw the audit sample of each of the last whole days in UTC that has none yet; a day with few captures gives all.

    Ids are random, so the first captures in id order are a random sample.
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
