"""Reading what was served for a check: the captures of some whole days, and what reviews say of them."""

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
"""Captures of a day that are read; the reference is rarely larger, and its own chance is then what limits a test."""


@dataclass(frozen=True)
class Captured:
    """Captures of the days before a check.

    Args:
        ages: of each in days; 1 is the last whole day.
    """

    ids: list[str]
    texts: list[str]
    answers: list[str]
    confidences: list[float | None]
    ages: npt.NDArray[np.int64]


def midnight(now: datetime) -> datetime:
    """When the last whole day ended, in UTC."""
    return now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def read_captured(session: Session, info: BundleInfo, until: datetime, days: int) -> Captured:
    """The captures of a bundle, of each day at most `MOST_A_DAY`, drawn at random: ids are random, and those that come
    first in their order are taken."""
    rows: list[Any] = []
    ages: list[int] = []
    for age in range(days, 0, -1):
        query = select(Capture.id, Capture.request, Capture.answer, Capture.confidence)
        since = until - timedelta(days=age)
        found = session.execute(
            query.where(*_within(info, since, since + timedelta(days=1))).order_by(Capture.id).limit(MOST_A_DAY)
        ).all()
        rows += found
        ages += [age] * len(found)
    return Captured(
        [row.id for row in rows],
        [row.request for row in rows],
        [row.answer for row in rows],
        [row.confidence for row in rows],
        np.array(ages, np.int64),
    )


def read_reviewed(session: Session, info: BundleInfo, until: datetime, days: int) -> Reviewed:
    """What experts said to a bundle's answers."""
    return as_reviewed(last_words(session, *_within(info, until - timedelta(days=days), until)))


def as_reviewed(rows: Sequence[Any]) -> Reviewed:
    """Rows of `last_words` as numbers."""
    return Reviewed(
        np.array([row.right for row in rows], float),
        as_numbers(row.confidence for row in rows),
        np.array([row.time.toordinal() for row in rows], np.int64),
        np.array([row.priority >= DRAWN for row in rows], bool),
    )


def answered(session: Session, model: str, version: str) -> dict[int, float]:
    """By the ordinal of its day how many requests a bundle answered."""
    tallies = select(Tally.day, Tally.answered).where(Tally.model == model, Tally.version == version)
    return {row.day.toordinal(): row.answered for row in session.execute(tallies)}


def last_words(session: Session, *wanted: ColumnElement[bool]) -> list[Any]:
    """Id, version, time, confidence and priority of the captures that an expert has reviewed, and whether the last one
    called the answer right. Who gives feedback chooses what to speak of, mostly what is wrong, and is left out.

    Args:
        wanted: which captures.
    """
    said = (
        select(Capture.id, Capture.version, Capture.time, Capture.confidence, Capture.priority, Review.right)
        .join(Review, Review.capture_id == Capture.id)
        .where(*wanted, Review.source.in_(EXPERT), Review.undone.is_(None))
        .order_by(Review.number)
    )
    return list({row.id: row for row in session.execute(said)}.values())


def as_numbers(confidences: Iterable[float | None]) -> npt.NDArray[np.float64]:
    """Confidences, not a number where none was told."""
    return np.array([np.nan if each is None else each for each in confidences], float)


def _within(info: BundleInfo, since: datetime, until: datetime) -> tuple[ColumnElement[bool], ...]:
    """A bundle's captures of some time."""
    return (
        Capture.model == info.name,
        Capture.version == info.version,
        Capture.time >= since,
        Capture.time < until,
    )
