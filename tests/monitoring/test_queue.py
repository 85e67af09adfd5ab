from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import event
from sqlalchemy.orm import Session

from tests.conftest import unalike
from tests.monitoring.captures import capture, opinion, review
from tunewright.monitoring.queue import FLOOR, MOST_ALIKE, alike, appraise, clusters, count_alike, waiting
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.database import open_at
from tunewright.monitoring.store.tables import Capture


class Lengths:
    """A reference to which long texts are new."""

    def novelty(self, texts: list[str]) -> np.ndarray:
        return np.array([min(len(text) / 100, 1) for text in texts])


def appraised(session: Session, *captures: Capture, reference: object = None) -> None:
    session.add_all(captures)
    session.flush()
    appraise(session, captures, reference)


def test_a_doubtful_new_and_disputed_request_comes_first(store: Store) -> None:
    plain, doubtful, new, disputed, all_three = (
        capture(number, "word " * (20 if number in (2, 4) else 1), confidence=0.3 if number in (1, 4) else 0.9)
        for number in range(5)
    )
    with store.session() as session:
        session.add_all([opinion(disputed, "refund"), opinion(all_three, "refund"), opinion(plain, "billing")])
        appraised(session, plain, doubtful, new, disputed, all_three, reference=Lengths())
        order = []
        after = None
        while (after := waiting(session, "tickets", "ann", after)) is not None:
            order.append(after)
    assert order[0] is all_three
    assert order[-1] is plain
    assert plain.priority > 0, "no factor of zero hides a request"
    assert all_three.priority == pytest.approx((FLOOR + (1 - FLOOR) * 0.7) * 1 * 1)


def test_disagreement_is_the_share_of_opinions_against_the_answer(store: Store) -> None:
    asked = capture()
    with store.session() as session:
        session.add_all([opinion(asked, "billing\n"), opinion(asked, "refund", "v0"), opinion(asked, "defect", "v2")])
        session.add(review(asked, "shop", "refund", source="feedback"))
        appraised(session, asked)
    assert asked.disagreement == 0.75
    assert asked.novelty == 1, "without a reference nothing is known"


def test_what_was_escalated_or_out_of_scope_is_more_doubtful(store: Store) -> None:
    sure, escalated, outside, unknown = (
        capture(0),
        capture(1, escalate=True),
        capture(2, escalate=True, in_scope=False),
        capture(3, confidence=None, escalate=None, in_scope=None),
    )
    with store.session() as session:
        appraised(session, sure, escalated, outside, unknown)
    doubts = [(each.priority / FLOOR - FLOOR) / (1 - FLOOR) for each in (sure, escalated, outside, unknown)]
    assert doubts == pytest.approx([0.1, 0.55, 0.775, 0.5])


def test_who_has_reviewed_a_request_does_not_see_it_again_until_he_undoes_it(store: Store) -> None:
    asked = capture()
    with store.session() as session:
        appraised(session, asked)
        session.add(said := review(asked, "ann"))
        session.add(review(asked, "bob", source="feedback"))
    with store.session() as session:
        assert waiting(session, "tickets", "ann") is None
        assert waiting(session, "tickets", "bob") is not None, "who asked may review too"
        assert waiting(session, "others", "bob") is None, "another model's queue"
        assert waiting(session, "tickets", "bob", without=[asked.id]) is None
        session.merge(said).undone = asked.time
    with store.session() as session:
        assert waiting(session, "tickets", "ann") is not None


def test_the_queue_comes_to_its_end_where_many_are_equally_urgent(store: Store) -> None:
    with store.session() as session:
        session.add_all(capture(number, priority=0.5) for number in range(20))
    seen: list[str] = []
    with store.session() as session:
        after = None
        while (after := waiting(session, "tickets", "ann", after)) is not None:
            seen.append(after.id)
    assert len(seen) == len(set(seen)) == 20


def test_alike_requests_are_listed_together(store: Store) -> None:
    same = [capture(number, "WHERE is my parcel" + "?" * number) for number in range(3)]
    other = capture(9, "I want my money back for the broken lamp")
    with store.session() as session:
        appraised(session, *same, other)
        session.add(review(same[0], "ann"))
    with store.session() as session:
        assert [row[0] for row in alike(session, same[1], "bob")] == [each.id for each in same]
        assert [row[0] for row in alike(session, same[1], "ann")] == [each.id for each in same[1:]]
        assert (count_alike(session, same[1], "bob"), count_alike(session, other, "bob")) == (3, 1)


def test_a_flood_of_one_request_is_shown_in_part(store: Store) -> None:
    flood = [capture(number) for number in range(MOST_ALIKE + 5)]
    with store.session() as session:
        appraised(session, *flood)
        assert count_alike(session, flood[0], "ann") == len(alike(session, flood[0], "ann")) == MOST_ALIKE


def test_a_text_without_words_is_alike_nothing(store: Store) -> None:
    assert clusters(["", "?!", " \n"]) == ["", "", ""]
    empty, word = clusters(["...", "word"])
    assert empty == ""
    assert len(word) == 16
    with store.session() as session:
        appraised(session, first := capture(0, "?!"), capture(1, "!"))
        assert alike(session, first, "ann") == []


def test_a_key_depends_on_nothing_but_the_text() -> None:
    texts = ["Where is my parcel?", "ein Päckchen 📦", "a" * 1_000_000, "\ud800 lone"]
    assert clusters(texts) == [clusters([text])[0] for text in texts]


def test_texts_share_a_key_the_more_often_the_more_alike_they_are() -> None:
    def shared(changed: int) -> float:
        """How often a text of twenty words and its copy with so many others share a key."""
        draw = random.Random(changed)
        pairs = []
        for number in range(300):
            words = [unalike(f"{number} {place}") for place in range(5)]
            copied = " ".join(words).split()
            for place in draw.sample(range(20), changed):
                copied[place] = unalike(f"other {number} {place}").split()[0]
            pairs += [" ".join(words), " ".join(copied)]
        keys = clusters(pairs)
        return sum(first == second for first, second in zip(keys[::2], keys[1::2], strict=True)) / 300

    assert shared(0) == 1
    assert shared(1) > 0.5 > shared(4)
    assert shared(20) < 0.02


def test_the_next_request_is_found_by_indexes_alone(tmp_path: Path) -> None:
    """However much there is, and however much of it somebody has reviewed."""
    store = open_at(f"sqlite:///{tmp_path / 'monitor.db'}")
    plans: list[str] = []

    @event.listens_for(store.engine, "before_cursor_execute")
    def _explain(_connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT captures."):
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.append("; ".join(row[-1] for row in cursor.fetchall()))

    with store.session() as session:
        session.add_all([capture(0), capture(1)])
    with store.session() as session:
        first = waiting(session, "tickets", "ann")
        assert waiting(session, "tickets", "ann", first)
    store.close()
    assert len(plans) == 2
    for plan in plans:
        assert "captures USING INDEX captures_queue (model=? AND state=?" in plan
        assert "reviews_capture (capture_id=? AND reviewer=?" in plan
        assert "SCAN" not in plan
        assert "TEMP B-TREE" not in plan
