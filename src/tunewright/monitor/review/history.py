"""Everything that was ever said, who said it, and when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Subquery, func, select
from sqlalchemy.orm import Session

from tunewright.monitor.store.tables import Capture, Review

PAGE = 50
RECENT = 5000
"""Reviews that agreement and accuracy are measured on, the latest: so many tell enough, and a page stays fast."""


@dataclass(frozen=True)
class Entry:
    """A review, and what it is of."""

    review: Review
    request: str
    """Its beginning."""
    given: str
    """What the model had answered."""


def history(session: Session, model: str, before: int | None = None) -> list[Entry]:
    """A page of it, the latest first; by number, because clocks may be set back.

    Args:
        before: the number of the review that the page begins behind.
    """
    found = (
        select(Review, func.substr(Capture.request, 1, 200), Capture.answer)
        .join(Capture, Capture.id == Review.capture_id)
        .where(is_of(model))
        .order_by(Review.number.desc())
        .limit(PAGE)
    )
    if before is not None:
        found = found.where(Review.number < before)
    return [Entry(*row) for row in session.execute(found)]


def recent(sources: Sequence[str]) -> Subquery:
    """The latest reviews from some sources that nobody has taken back."""
    found = select(Review).where(Review.undone.is_(None), Review.source.in_(sources))
    return found.order_by(Review.number.desc()).limit(RECENT).subquery()


def is_of(model: str) -> ColumnElement[bool]:
    """Whether a capture that was found by a review is this model's. Written so that databases don't go through all of
    the model's captures instead."""
    return func.coalesce(Capture.model, "") == model
