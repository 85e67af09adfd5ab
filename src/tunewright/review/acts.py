"""The actions of a reviewer: save a review of one capture or many, and undo it.

A transaction that changes a capture's reviews locks its row. If two people save at once, the second one sees what the
first has done.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import and_, case, distinct, func, or_, select, update
from sqlalchemy.orm import Session, defer

from tunewright.monitoring.store.database import pieces
from tunewright.monitoring.store.tables import EXPERT, PAIRED, Capture, Review
from tunewright.review.history import of_model

_PAIR = 2
"""The least people who review a capture of the priority `PAIRED`."""


class NotYours(Exception):
    """The review is another person's, and only an admin may undo it."""


@dataclass(frozen=True)
class ReviewChoice:
    """A reviewer's decision about an answer."""

    answer: str | None = None
    """The right answer in canonical form; None: no answer is right, or nobody can tell."""
    own: bool = False
    """The model's answer is right, whatever it is."""

    def of(self, capture: Capture) -> tuple[str | None, bool]:
        """(the right answer, whether the model's answer is right)."""
        return (capture.answer, True) if self.own else (self.answer, self.answer == capture.answer)


@dataclass(frozen=True)
class Saved:
    """The result of `save`."""

    act: str
    count: int
    before: list[Review] = field(default_factory=list)
    """Earlier reviews, of others or of the same person, because of which a capture was skipped."""


def save(
    session: Session,
    ids: Sequence[str],
    model: str,
    reviewer: str,
    verdict: ReviewChoice,
    *,
    source: str,
    wanted: int,
    comment: str = "",
    formerly: str | None = None,
) -> Saved:
    """Save a review of some captures. Captures that no longer wait, or that the reviewer has reviewed, are skipped.

    Args:
        source: review or bulk for open captures, settle for conflicts.
        wanted: how many people review each capture.
        formerly: an earlier name of the reviewer.
    """
    captures = _locked(session, ids, model)
    live = _live(session, [capture.id for capture in captures])
    expected = "conflict" if source == "settle" else "open"
    act, now = secrets.token_hex(8), datetime.now(UTC)
    saved: list[Capture] = []
    before: list[Review] = []
    for capture in captures:
        mine = [each for each in live[capture.id] if each.reviewer in (reviewer, formerly) and source != "settle"]
        if mine or capture.state != expected:
            before += (mine or live[capture.id])[-1:]
            continue
        answer, right = verdict.of(capture)
        review = Review(
            capture_id=capture.id,
            reviewer=reviewer,
            time=now,
            source=source,
            act=act,
            answer=answer,
            right=right,
            comment=comment,
        )
        session.add(review)
        live[capture.id].append(review)
        saved.append(capture)
    _set_states(saved, live, wanted)
    return Saved(act, len(saved), before)


def undo(session: Session, act: str, by: str, model: str, *, admin: bool, wanted: int) -> list[Review]:
    """Undo the reviews of a model's captures that were saved together. Returns those that were not undone before.

    Raises:
        NotYours: another person saved them.
    """
    query = of_model(select(Review), model).where(Review.act == act, Review.source.in_(EXPERT), Review.undone.is_(None))
    captures = _locked(session, [review.capture_id for review in session.scalars(query)], model)
    reviews = list(session.scalars(query.execution_options(populate_existing=True)))  # read again under the lock
    if any(review.reviewer != by for review in reviews) and not admin:
        raise NotYours
    for review in reviews:
        review.undone, review.undone_by = datetime.now(UTC), by
    session.flush()
    _set_states(captures, _live(session, [capture.id for capture in captures]), wanted)
    return reviews


def count_anew(session: Session, model: str, wanted: int) -> None:
    """Set the states of a model's reviewed captures by another number of people than before. Captures that a person has
    to settle stay so, and what the corrections contain is not asked again."""
    people = func.count(distinct(Review.reviewer))
    enough = case((Capture.priority >= PAIRED, max(wanted, _PAIR)), else_=wanted)
    is_final = func.max(case((or_(Review.source == "settle", Review.dataset.is_not(None)), 1), else_=0))
    query = (
        select(Capture.id)
        .join(Review, Review.capture_id == Capture.id)
        .where(Capture.model == model, Review.source.in_(EXPERT), Review.undone.is_(None))
        .group_by(Capture.id, Capture.state, Capture.priority)
        .having(
            or_(
                and_(Capture.state == "open", people >= enough),
                and_(Capture.state == "done", people < enough, is_final == 0),
            )
        )
    )
    for some in pieces(session.scalars(query).all()):
        _set_states(_locked(session, some, model), _live(session, some), wanted)


def latest_act(session: Session, reviewer: str, model: str) -> str | None:
    """A reviewer's last action on a model's captures that is not undone. The order is by number, because clocks may be
    set back."""
    query = of_model(select(Review.act), model).where(
        Review.reviewer == reviewer, Review.undone.is_(None), Review.source.in_(EXPERT), Review.act != ""
    )
    act: str | None = session.scalar(query.order_by(Review.number.desc()).limit(1))
    return act


def reviews_of(session: Session, capture_id: str) -> list[Review]:
    """All reviews of a capture, including feedback and undone reviews."""
    return list(session.scalars(select(Review).where(Review.capture_id == capture_id).order_by(Review.number)))


def _locked(session: Session, ids: Sequence[str], model: str) -> list[Capture]:
    """A model's captures, locked until the transaction ends, and always in the same order to avoid deadlocks."""
    query = select(Capture).where(Capture.id.in_(ids), Capture.model == model)
    query = query.order_by(Capture.id).options(defer(Capture.request))
    if session.get_bind().dialect.name == "sqlite":  # SQLite has no row locks; a write takes its only write lock
        session.execute(update(Capture).where(Capture.id.in_(ids)).values(state=Capture.state))
    return list(session.scalars(query.with_for_update().execution_options(populate_existing=True)))


def _live(session: Session, ids: Sequence[str]) -> defaultdict[str, list[Review]]:
    """The experts' reviews that are not undone, by capture, oldest first."""
    query = select(Review).where(Review.capture_id.in_(ids), Review.undone.is_(None), Review.source.in_(EXPERT))
    live: defaultdict[str, list[Review]] = defaultdict(list)
    for review in session.scalars(query.order_by(Review.number)):
        live[review.capture_id].append(review)
    return live


def _set_states(captures: Sequence[Capture], live: defaultdict[str, list[Review]], wanted: int) -> None:
    for capture in captures:
        reviews = live[capture.id]
        if any(each.source == "settle" for each in reviews):
            capture.state = "done"
        elif len({each.reviewer for each in reviews}) < (max(wanted, _PAIR) if capture.priority >= PAIRED else wanted):
            capture.state = "open"
        else:
            capture.state = "done" if len({each.answer for each in reviews}) == 1 else "conflict"
