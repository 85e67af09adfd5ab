"""Read the captures of whole days for a drift check, and their reviews."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from tunewright.drift.accuracy import Reviewed
from tunewright.inference.bundle import BundleInfo
from tunewright.monitoring.store.tables import DRAWN, EXPERT, Capture, Review, Tally

MOST_A_DAY = 2000
"""The most captures of a day to read. The reference is rarely larger, and its own sampling error then limits a test."""


@dataclass(frozen=True)
class Captured:
    """Captures of the days before a check.

    Args:
        ages: the age of each capture in days; 1 is the last whole day.
    """

    ids: list[str]
    texts: list[str]
    answers: list[str]
    confidences: list[float | None]
    ages: npt.NDArray[np.int64]


def midnight(now: datetime) -> datetime:
    """The end of the last whole day, in UTC."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def read_captured(session: Session, info: BundleInfo, until: datetime, days: int) -> Captured:
    """A bundle's captures, at most `MOST_A_DAY` per day. Ids are random, so the first ones in id order are a random
    sample."""
    rows: list[Any] = []
    ages: list[int] = []
    for age in range(days, 0, -1):
        query = select(Capture.id, Capture.request, Capture.answer, Capture.confidence)
        since = until - timedelta(days=age)
        of_day = session.execute(
            query.where(*_within(info, since, since + timedelta(days=1))).order_by(Capture.id).limit(MOST_A_DAY)
        ).all()
        rows += of_day
        ages += [age] * len(of_day)
    return Captured(
        [row.id for row in rows],
        [row.request for row in rows],
        [row.answer for row in rows],
        [row.confidence for row in rows],
        np.array(ages, np.int64),
    )


def read_reviewed(session: Session, info: BundleInfo, until: datetime, days: int) -> Reviewed:
    """The experts' reviews of a bundle's answers."""
    return as_reviewed(last_reviews(session, *_within(info, until - timedelta(days=days), until)))


def as_reviewed(rows: Sequence[Any]) -> Reviewed:
    """The rows of `last_reviews` as arrays."""
    return Reviewed(
        np.array([row.right for row in rows], float),
        as_numbers(row.confidence for row in rows),
        np.array([row.time.toordinal() for row in rows], np.int64),
        np.array([row.priority >= DRAWN for row in rows], bool),
    )


def answered(session: Session, model: str, version: str) -> dict[int, float]:
    """How many requests a bundle answered on each day, by the day's ordinal."""
    tallies = select(Tally.day, Tally.answered).where(Tally.model == model, Tally.version == version)
    return {row.day.toordinal(): row.answered for row in session.execute(tallies)}


def last_reviews(session: Session, *conditions: ColumnElement[bool]) -> list[Any]:
    """Id, version, time, confidence and priority of the captures that experts reviewed, and whether the last review
    called the answer right. A capture is left out if the last review says that no answer is right or nobody can tell,
    which counts neither for the model nor against it; so is clients' feedback, because clients mostly report wrong
    answers.

    Args:
        conditions: which captures.
    """
    reviewed = (
        select(Capture.id, Capture.version, Capture.time, Capture.confidence, Capture.priority, Review.right)
        .add_columns(Review.answer.is_(None).label("is_unknown"))
        .join(Review, Review.capture_id == Capture.id)
        .where(*conditions, Review.source.in_(EXPERT), Review.undone.is_(None))
        .order_by(Review.number)
    )
    last = {row.id: row for row in session.execute(reviewed)}
    return [row for row in last.values() if row.right or not row.is_unknown]


def as_numbers(confidences: Iterable[float | None]) -> npt.NDArray[np.float64]:
    """The confidences as an array, with NaN for unknown ones."""
    return np.array([np.nan if each is None else each for each in confidences], float)


def _within(info: BundleInfo, since: datetime, until: datetime) -> tuple[ColumnElement[bool], ...]:
    """The condition for a bundle's captures in a time span."""
    return (
        Capture.model == info.name,
        Capture.version == info.version,
        Capture.time >= since,
        Capture.time < until,
    )
