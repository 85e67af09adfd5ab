"""What a reviewer does: saying what is right, of one capture or many, and taking it back.

Whoever changes a capture's reviews holds its row, so that of two people who save at once the second sees what the first
has done.
"""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session, defer

from tunewright.monitoring.store.tables import EXPERT, Capture, Review


class NotYours(Exception):
    """It is somebody else's, and only an admin may undo that."""


@dataclass(frozen=True)
class ReviewChoice:
    """What a reviewer says of an answer."""

    answer: str | None = None
    """The right one in canonical form; None: none is right, or nobody can tell."""
    own: bool = False
    """The model's answer is right, whatever it is."""

    def of(self, capture: Capture) -> tuple[str | None, bool]:
        """The right answer, and whether the model's is."""
        return (capture.answer, True) if self.own else (self.answer, self.answer == capture.answer)


@dataclass(frozen=True)
class Saved:
    """What became of an act."""

    act: str
    count: int
    before: list[Review] = field(default_factory=list)
    """Reviews by others, or by oneself, that were there before and are not changed."""


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
    """Save a review of some captures, those aside that wait for nobody any more or that the reviewer has reviewed.

    Args:
        source: review or bulk of what is open, settle of what is in conflict.
        wanted: people who are to review each capture.
        formerly: what else his reviews may stand under.
    """
    captures = _held(session, ids, model)
    live = _live(session, [capture.id for capture in captures])
    expected = "conflict" if source == "settle" else "open"
    act, now = secrets.token_hex(8), datetime.now(UTC)
    saved: list[Capture] = []
    before: list[Review] = []
    for capture in captures:
        mine = [said for said in live[capture.id] if said.reviewer in (reviewer, formerly) and source != "settle"]
        if mine or capture.state != expected:
            before += (mine or live[capture.id])[-1:]
            continue
        answer, right = verdict.of(capture)
        said = Review(
            capture_id=capture.id,
            reviewer=reviewer,
            time=now,
            source=source,
            act=act,
            answer=answer,
            right=right,
            comment=comment,
        )
        session.add(said)
        live[capture.id].append(said)
        saved.append(capture)
    _set_states(saved, live, wanted)
    return Saved(act, len(saved), before)


def undo(session: Session, act: str, by: str, *, admin: bool, wanted: int) -> list[Review]:
    """Take back what was saved together. Returns the reviews that were; none where all were already.

    Raises:
        NotYours: somebody else saved it.
    """
    found = select(Review).where(Review.act == act, Review.source.in_(EXPERT), Review.undone.is_(None))
    captures = _held(session, [said.capture_id for said in session.scalars(found)], None)
    reviews = list(session.scalars(found.execution_options(populate_existing=True)))  # as they are, now they are held
    if any(said.reviewer != by for said in reviews) and not admin:
        raise NotYours
    for said in reviews:
        said.undone, said.undone_by = datetime.now(UTC), by
    session.flush()
    _set_states(captures, _live(session, [capture.id for capture in captures]), wanted)
    return reviews


def latest_act(session: Session, reviewer: str) -> str | None:
    """What a reviewer saved last and has not taken back. By number, because clocks may be set back."""
    found = select(Review.act).where(
        Review.reviewer == reviewer, Review.undone.is_(None), Review.source.in_(EXPERT), Review.act != ""
    )
    return session.scalar(found.order_by(Review.number.desc()).limit(1))


def reviews_of(session: Session, capture_id: str) -> list[Review]:
    """All that was ever said to a capture, feedback and what was undone as well."""
    return list(session.scalars(select(Review).where(Review.capture_id == capture_id).order_by(Review.number)))


def _held(session: Session, ids: Sequence[str], model: str | None) -> list[Capture]:
    """Captures, held until the transaction ends; always in one order, so that two never wait for each other."""
    found = select(Capture).where(Capture.id.in_(ids)).order_by(Capture.id).options(defer(Capture.request))
    if model is not None:
        found = found.where(Capture.model == model)
    if session.get_bind().dialect.name == "sqlite":  # one writer, and no rows to hold: a write makes it us
        session.execute(update(Capture).where(Capture.id.in_(ids)).values(state=Capture.state))
    return list(session.scalars(found.with_for_update().execution_options(populate_existing=True)))


def _live(session: Session, ids: Sequence[str]) -> defaultdict[str, list[Review]]:
    """By capture what reviewers say, the first first."""
    found = select(Review).where(Review.capture_id.in_(ids), Review.undone.is_(None), Review.source.in_(EXPERT))
    live: defaultdict[str, list[Review]] = defaultdict(list)
    for said in session.scalars(found.order_by(Review.number)):
        live[said.capture_id].append(said)
    return live


def _set_states(captures: Sequence[Capture], live: defaultdict[str, list[Review]], wanted: int) -> None:
    for capture in captures:
        said = live[capture.id]
        if any(each.source == "settle" for each in said):
            capture.state = "done"
        elif len({each.reviewer for each in said}) < wanted:
            capture.state = "open"
        else:
            capture.state = "done" if len({each.answer for each in said}) == 1 else "conflict"
