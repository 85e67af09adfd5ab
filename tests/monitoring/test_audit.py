"""Captures drawn at random are reviewed before all others, and tell how good all answers are."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.conftest import make_spec
from tests.monitoring.captures import NOON, capture, review
from tests.monitoring.request_logs import capture as captured
from tests.monitoring.request_logs import write
from tunewright.drift.accuracy import FEWEST_DRAWN
from tunewright.monitoring.ledger import quality
from tunewright.monitoring.queue import A_DAY, appraise, draw, waiting
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.collect import collect
from tunewright.monitoring.store.tables import DRAWN, Capture, Tally


def add(session: Session, day: int, count: int, priority: float = 0.9) -> None:
    """Captures of the day so many days ago, each with a random id of its own."""
    for _ in range(count):
        made = capture(priority=priority)
        made.id, made.time = uuid4().hex, NOON - timedelta(days=day)
        session.add(made)


def drawn(session: Session) -> Counter[int]:
    """How many of each day ago were drawn."""
    found = session.scalars(select(Capture.time).where(Capture.priority >= DRAWN))
    return Counter((NOON - time).days for time in found)


def test_some_of_each_day_that_is_over_are_drawn_once(store: Store) -> None:
    with store.session() as session:
        for day, count in ((0, 30), (1, 30), (2, 4), (6, 30), (7, 30), (9, 30)):
            add(session, day, count)
        session.flush()
        draw(session, "tickets", NOON)
        first = set(session.scalars(select(Capture.id).where(Capture.priority >= DRAWN)))
        assert drawn(session) == {1: A_DAY, 2: 4, 6: A_DAY, 7: A_DAY}, (
            "today is not over, and what is old stays as it was"
        )
        add(session, 1, 40)
        session.flush()
        draw(session, "tickets", NOON)
        draw(session, "others", NOON + timedelta(days=1))
        assert set(session.scalars(select(Capture.id).where(Capture.priority >= DRAWN))) == first
        draw(session, "tickets", NOON + timedelta(days=1))
        assert drawn(session)[0] == A_DAY


def test_they_stand_before_all_others_whatever_is_said_of_them(store: Store) -> None:
    with store.session() as session:
        add(session, 1, 30)
        session.flush()
        draw(session, "tickets", NOON)
        captures = list(session.scalars(select(Capture)))
        appraise(session, captures, None)
        order, after = [], None
        while (after := waiting(session, "tickets", "ann", after)) is not None:
            order.append(after.priority >= DRAWN)
    assert order == [True] * A_DAY + [False] * 20


def test_collecting_draws_them(tmp_path: Path, store: Store, folder: Path) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    write(folder, *(captured(f"{number:032x}", time=yesterday.isoformat()) for number in range(3)))
    collect(make_spec(tmp_path), store)
    with store.session() as session:
        assert [each.priority for each in session.scalars(select(Capture))] == [DRAWN] * 3


def test_once_there_are_enough_they_alone_tell_the_accuracy_and_each_day_counts_by_its_answers(store: Store) -> None:
    """Half of the days have nine times the answers, and these are right; what the queue chose is wrong."""
    with store.session() as session:
        for day in range(1, 2 * FEWEST_DRAWN // A_DAY + 1):
            add(session, day, A_DAY, DRAWN)
            add(session, -day, 5)
            right, date = day % 2 == 0, (NOON - timedelta(days=day)).date()
            session.add(Tally(day=date, model="tickets", version="v1", captured=1, answered=900.0 if right else 100.0))
        session.flush()
        for each in session.scalars(select(Capture)):
            right = each.priority >= DRAWN and (NOON - each.time).days % 2 == 0
            session.add(review(each, "ann", "billing" if right else "refund"))
        session.flush()
        found = quality(session, "tickets")["v1"]
    assert (found.reviewed, found.right) == (3 * FEWEST_DRAWN, FEWEST_DRAWN)
    assert found.accuracy
    assert (found.accuracy.drawn, found.accuracy.reviews) == (True, 2 * FEWEST_DRAWN)
    assert abs(found.accuracy.share.value - 0.9) < 1e-9
