"""The audit: a few captures of each day, drawn at random, stand before all others in the review queue.

The queue shows what teaches most, which is mostly what is wrong. How good all answers are is told by a sample that
nothing chose.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from tunewright.monitoring.captured import midnight
from tunewright.monitoring.store.tables import DRAWN, STATES, Capture

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
