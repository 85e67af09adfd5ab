from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy import select

from tests.monitoring.captures import capture
from tunewright.monitoring.queue import waiting
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import PAIRED, Capture, Review, label_queue_of
from tunewright.review import acts
from tunewright.review.acts import NotYours, ReviewChoice, Saved, latest_act, reviews_of, undo

RIGHT, REFUND, NONE = ReviewChoice(own=True), ReviewChoice("refund"), ReviewChoice()


@pytest.fixture
def ids(store: Store) -> Iterator[list[str]]:
    made = [capture(number) for number in range(4)]
    with store.session() as session:
        session.add_all(made)
    yield [each.id for each in made]


def save(
    store: Store, ids: list[str], reviewer: str, verdict: ReviewChoice = RIGHT, source: str = "review", wanted: int = 1
) -> Saved:
    with store.session() as session:
        return acts.save(session, ids, "tickets", reviewer, verdict, source=source, wanted=wanted)


def state(store: Store, capture_id: str) -> str:
    with store.session() as session:
        return session.get_one(Capture, capture_id).state


def said(store: Store, capture_id: str) -> list[tuple[str, str | None, bool, str]]:
    with store.session() as session:
        return [(each.reviewer, each.answer, each.right, each.source) for each in reviews_of(session, capture_id)]


def test_what_is_said_is_kept_with_who_said_it(store: Store, ids: list[str]) -> None:
    for capture_id, verdict in zip(ids, (RIGHT, REFUND, NONE, ReviewChoice("billing")), strict=True):
        assert save(store, [capture_id], "ann", verdict).count == 1
    assert [said(store, capture_id) for capture_id in ids] == [
        [("ann", "billing", True, "review")],
        [("ann", "refund", False, "review")],
        [("ann", None, False, "review")],
        [("ann", "billing", True, "review")],
    ]
    assert {state(store, capture_id) for capture_id in ids} == {"done"}


def test_the_second_of_two_is_told_who_was_first_and_changes_nothing(store: Store, ids: list[str]) -> None:
    save(store, ids[:1], "ann", REFUND)
    late = save(store, ids[:1], "bob")
    assert late.count == 0
    assert [(each.reviewer, each.answer) for each in late.before] == [("ann", "refund")]
    assert [each[0] for each in said(store, ids[0])] == ["ann"]


@pytest.mark.parametrize("wanted", [1, 2])
def test_of_many_who_save_at_once_as_many_are_kept_as_are_wanted(store: Store, ids: list[str], wanted: int) -> None:
    ready = threading.Barrier(6)
    counts: list[int] = []

    def work(name: str) -> None:
        ready.wait()
        counts.append(save(store, ids[:1], name, wanted=wanted).count)

    workers = [threading.Thread(target=work, args=(f"p{number}",)) for number in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(counts) == [0] * (6 - wanted) + [1] * wanted
    assert len(said(store, ids[0])) == wanted
    assert state(store, ids[0]) == "done"


def test_two_who_differ_leave_a_conflict_that_a_third_settles(store: Store, ids: list[str]) -> None:
    save(store, ids[:1], "ann", REFUND, wanted=2)
    assert state(store, ids[0]) == "open"
    assert save(store, ids[:1], "ann", wanted=2).count == 0, "nobody reviews twice"
    save(store, ids[:1], "bob", wanted=2)
    assert state(store, ids[0]) == "conflict"
    assert save(store, ids[:1], "cleo", REFUND, wanted=2).count == 0, "it is settled, not reviewed"
    settled = save(store, ids[:1], "cleo", REFUND, "settle", wanted=2)
    assert state(store, ids[0]) == "done"
    assert save(store, ids[:1], "dan", REFUND, "settle", wanted=2).count == 0
    with store.session() as session:
        undo(session, settled.act, "cleo", "tickets", admin=False, wanted=2)
    assert state(store, ids[0]) == "conflict"


def test_many_are_answered_in_one_act_and_taken_back_in_one(store: Store, ids: list[str]) -> None:
    save(store, ids[1:2], "bob")
    bulk = save(store, ids, "ann", REFUND, "bulk")
    assert (bulk.count, [each.reviewer for each in bulk.before]) == (3, ["bob"])
    with store.session() as session:
        assert latest_act(session, "ann", "tickets") == bulk.act
        taken_back = undo(session, bulk.act, "ann", "tickets", admin=False, wanted=1)
    assert len(taken_back) == 3
    assert [state(store, capture_id) for capture_id in ids] == ["open", "done", "open", "open"]
    with store.session() as session:
        assert latest_act(session, "ann", "tickets") is None
        assert undo(session, bulk.act, "ann", "tickets", admin=False, wanted=1) == [], "a second time nothing happens"
        assert waiting(session, "tickets", "ann") is not None


@pytest.mark.slow
def test_taking_back_is_noted_and_removes_nothing(store: Store, ids: list[str]) -> None:
    done = save(store, ids[:1], "ann")
    with store.session() as session:
        undo(session, done.act, "root", "tickets", admin=True, wanted=1)
    with store.session() as session:
        (kept,) = reviews_of(session, ids[0])
    assert (kept.reviewer, kept.undone_by, kept.undone is not None) == ("ann", "root", True)


def test_only_an_admin_takes_back_what_others_said(store: Store, ids: list[str]) -> None:
    done = save(store, ids[:1], "ann")
    with pytest.raises(NotYours), store.session() as session:
        undo(session, done.act, "bob", "tickets", admin=False, wanted=1)
    assert state(store, ids[0]) == "done"


def test_a_clock_that_is_set_back_does_not_change_what_came_last(store: Store, ids: list[str]) -> None:
    first, last = (save(store, [capture_id], "ann") for capture_id in ids[:2])
    with store.session() as session:
        late = session.scalars(select(Review).where(Review.act == last.act)).one()
        late.time -= timedelta(days=400)
    with store.session() as session:
        assert latest_act(session, "ann", "tickets") == last.act != first.act


def test_finished_reviews_are_counted_anew_where_another_number_is_wanted(store: Store, ids: list[str]) -> None:
    agree, differ, one, _ = ids
    for capture_id, verdicts in ((agree, (REFUND, REFUND)), (differ, (REFUND, NONE)), (one, (REFUND,))):
        for reviewer, verdict in zip(("ann", "bob"), verdicts, strict=False):
            save(store, [capture_id], reviewer, verdict, wanted=3)

    def counted(wanted: int) -> list[str]:
        with store.session() as session:
            acts.count_anew(session, "tickets", wanted)
        return [state(store, capture_id) for capture_id in ids]

    assert counted(3) == ["open", "open", "open", "open"]
    assert counted(1) == ["done", "conflict", "done", "open"]
    assert counted(2) == ["done", "conflict", "open", "open"], "somebody has to settle what people differ on"
    with store.session() as session:
        session.scalars(select(Review).where(Review.capture_id == agree, Review.reviewer == "ann")).one().dataset = 1
    assert counted(3) == ["done", "conflict", "open", "open"], "what is in the corrections is not asked again"


def test_of_requests_to_label_some_wait_for_two_people_whatever_the_number(store: Store) -> None:
    queue = label_queue_of("tickets")
    with store.session() as session:
        session.add(capture(9, model=queue, answer="", priority=PAIRED))
    with store.session() as session:
        acts.save(session, [capture(9).id], queue, "ann", REFUND, source="review", wanted=3)
        acts.count_anew(session, queue, 1)
    assert state(store, capture(9).id) == "open"


def test_feedback_is_no_review(store: Store, ids: list[str]) -> None:
    with store.session() as session:
        session.add(Review(capture_id=ids[0], reviewer="ann", time=capture().time, source="feedback", right=False))
    assert save(store, ids[:1], "ann").count == 1
    assert state(store, ids[0]) == "done"


def test_what_belongs_to_another_model_or_nobody_is_left_alone(store: Store, ids: list[str]) -> None:
    with store.session() as session:
        other = acts.save(session, [*ids, "nothing"], "others", "ann", RIGHT, source="review", wanted=1)
    assert (other.count, other.before) == (0, [])
    with store.session() as session:
        assert undo(session, "nothing", "ann", "tickets", admin=True, wanted=1) == []


def test_taking_back_leaves_the_requests_to_label_of_the_same_project_alone(store: Store, ids: list[str]) -> None:
    """Both apps share the store and the reviewer's name."""
    queue = label_queue_of("tickets")
    with store.session() as session:
        session.add(capture(9, model=queue, answer=""))
    save(store, ids[:1], "ann")
    with store.session() as session:
        label = acts.save(session, [capture(9).id], queue, "ann", REFUND, source="review", wanted=1)
    with store.session() as session:
        mine, of_labels = latest_act(session, "ann", "tickets"), latest_act(session, "ann", queue)
        assert (mine != label.act, of_labels) == (True, label.act)
        assert undo(session, label.act, "ann", "tickets", admin=True, wanted=1) == []
    assert state(store, capture(9).id) == "done"
    with store.session() as session:
        assert [each.capture_id for each in undo(session, mine or "", "ann", "tickets", admin=False, wanted=1)] == ids[
            :1
        ]
    assert (state(store, ids[0]), state(store, capture(9).id)) == ("open", "done")
