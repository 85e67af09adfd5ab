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

from tunewright.monitoring.store.database import pieces
from tunewright.monitoring.store.tables import EXPERT, Capture, Review

PAGE = 50
RECENT = 2000
"""Reviews that agreement and accuracy are measured on, the latest: so many tell enough, and a page stays fast."""


@dataclass(frozen=True)
class HistoryEntry:
    """A review, and what it is of."""

    review: Review
    request: str
    """Its beginning."""
    given: str
    """What the model had answered."""
    hidden: bool
    """Whether it would tell somebody what another says of a capture that he has yet to review."""


def history(
    session: Session, model: str, reviewer: str, before: int | None = None, *, blind: bool
) -> list[HistoryEntry]:
    """A page of it, the latest first; by number, because clocks may be set back.

    Args:
        reviewer: who looks at it.
        before: the number of the review that the page begins behind.
        blind: hide what was said and taken back, too.
    """
    entries: list[HistoryEntry] = []
    while len(entries) < PAGE:
        found = select(Review).order_by(Review.number.desc()).limit(PAGE)
        reviews = session.scalars(found if before is None else found.where(Review.number < before)).all()
        if not reviews:
            break
        before = reviews[-1].number
        columns = select(Capture.id, func.substr(Capture.request, 1, 200), Capture.answer, Capture.state)
        captures = {row[0]: row[1:] for row in by_id(session, columns, model, {each.capture_id for each in reviews})}
        waiting = {capture_id for capture_id, (*_, state) in captures.items() if state == "open"}
        waiting -= _reviewed(session, waiting, reviewer)
        for each in reviews:
            if each.capture_id in captures:
                request, given, _ = captures[each.capture_id]
                is_opinion = each.reviewer != reviewer and each.source in EXPERT and (blind or each.undone is None)
                entries.append(HistoryEntry(each, request, given, is_opinion and each.capture_id in waiting))
    return entries[:PAGE]


def _reviewed(session: Session, ids: Collection[str], reviewer: str) -> set[str]:
    """Those captures of which a reviewer says something."""
    found = select(Review.capture_id).where(
        Review.capture_id.in_(ids), Review.reviewer == reviewer, Review.undone.is_(None), Review.source.in_(EXPERT)
    )
    return set(session.scalars(found))


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
