"""Everything that was ever said, who said it, and when.

Reviews don't know whose model they are about, their captures do. What is wanted are always the latest reviews, so these
are read first, and then their captures by their ids: joined, databases prefer to go through all captures of the model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Subquery, func, select
from sqlalchemy.orm import Session

from tunewright.monitor.store.database import pieces
from tunewright.monitor.store.tables import Capture, Review

PAGE = 50
RECENT = 2000
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
    entries: list[Entry] = []
    while len(entries) < PAGE:
        found = select(Review).order_by(Review.number.desc()).limit(PAGE)
        reviews = session.scalars(found if before is None else found.where(Review.number < before)).all()
        if not reviews:
            break
        before = reviews[-1].number
        columns = select(Capture.id, func.substr(Capture.request, 1, 200), Capture.answer)
        captures = {row[0]: row[1:] for row in by_id(session, columns, model, {each.capture_id for each in reviews})}
        entries += [Entry(each, *captures[each.capture_id]) for each in reviews if each.capture_id in captures]
    return entries[:PAGE]


def recent(sources: Sequence[str]) -> Subquery:
    """The latest reviews from some sources that nobody has taken back, whatever they are about."""
    found = select(Review).where(Review.undone.is_(None), Review.source.in_(sources))
    return found.order_by(Review.number.desc()).limit(RECENT).subquery()


def by_id(session: Session, columns: Select[*tuple[Any, ...]], model: str, ids: Collection[str]) -> list[Any]:
    """Columns of those captures that are a model's."""
    rows: list[Any] = []
    for some in pieces(sorted(ids)):
        found = columns.where(Capture.id.in_(some)).add_columns(Capture.model)
        rows += [row for row in session.execute(found) if row[-1] == model]
    return [row[:-1] for row in rows]
