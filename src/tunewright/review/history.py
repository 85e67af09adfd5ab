"""The history of all reviews.

A review does not name its model, but its capture does. The queries read the latest reviews first and then look at their
captures, because for a join databases prefer to scan all captures of the model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, Subquery, exists, func, select
from sqlalchemy.orm import Session

from tunewright.monitoring.store.database import pieces
from tunewright.monitoring.store.tables import EXPERT, Capture, Review

PAGE = 50
RECENT = 2000
"""The latest reviews that agreement and accuracy are measured on. They suffice, and the page stays fast."""


@dataclass(frozen=True)
class HistoryEntry:
    """A review with its request and the model's answer."""

    review: Review
    request: str
    """The start of the request."""
    given: str
    """The model's answer."""
    hidden: bool
    """Whether to hide the review, because the viewer has not yet reviewed the capture."""


def history(
    session: Session, model: str, reviewer: str, before: int | None = None, *, blind: bool
) -> list[HistoryEntry]:
    """One page of the history, newest first. The order is by number, because clocks may be set back.

    Args:
        reviewer: the viewer.
        before: the page starts behind the review of this number.
        blind: also hide undone reviews.
    """
    entries: list[HistoryEntry] = []
    while len(entries) < PAGE:
        query = select(Review).order_by(Review.number.desc()).limit(PAGE)
        reviews = session.scalars(query if before is None else query.where(Review.number < before)).all()
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
    """The captures among these that a reviewer has reviewed."""
    query = select(Review.capture_id).where(
        Review.capture_id.in_(ids), Review.reviewer == reviewer, Review.undone.is_(None), Review.source.in_(EXPERT)
    )
    return set(session.scalars(query))


def of_model(query: Select[Any], model: str) -> Select[Any]:
    """Restrict a query of reviews to those of a model's captures. A store holds several models, and a project's
    requests to label are a model of their own."""
    return query.where(exists().where(Capture.id == Review.capture_id, Capture.model == model))


def recent(sources: Sequence[str], model: str) -> Subquery:
    """The latest reviews of a model's captures, from some sources, that are not undone."""
    query = of_model(select(Review), model).where(Review.undone.is_(None), Review.source.in_(sources))
    return query.order_by(Review.number.desc()).limit(RECENT).subquery()


def by_id(session: Session, columns: Select[*tuple[Any, ...]], model: str, ids: Collection[str]) -> list[Any]:
    """Columns of the captures among these ids that belong to a model."""
    rows: list[Any] = []
    for some in pieces(sorted(ids)):
        query = columns.where(Capture.id.in_(some)).add_columns(Capture.model)
        rows += [row for row in session.execute(query) if row[-1] == model]
    return [row[:-1] for row in rows]
