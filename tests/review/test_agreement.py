from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from tests.monitoring.captures import capture, review
from tunewright.monitoring.store import Store
from tunewright.review import history
from tunewright.review.agreement import agreements, conflicts, kappa


def test_kappa_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(3)
    one = draw.integers(0, 4, 300)
    other = np.where(draw.random(300) < 0.7, one, draw.integers(0, 4, 300))
    found = kappa([Counter(zip(map(str, one), map(str, other), strict=True))])
    assert found
    assert found.value == pytest.approx(cohen_kappa_score(one, other))
    assert found.low < found.value < found.high


def test_the_interval_covers_the_true_kappa_as_often_as_it_says() -> None:
    draw = np.random.default_rng(1)
    true = 0.5  # two labels, equally often, right with a probability of 1/2 + sqrt(1/8) each
    right = 0.5 + 0.125**0.5
    covered = 0
    for _ in range(200):
        gold = draw.integers(0, 2, 100)
        said = [np.where(draw.random(100) < right, gold, 1 - gold) for _ in range(2)]
        found = kappa([Counter(zip(map(str, said[0]), map(str, said[1]), strict=True))])
        assert found
        covered += found.low <= true <= found.high
    assert 0.89 <= covered / 200 <= 0.99


def test_where_all_agree_the_interval_still_has_a_width() -> None:
    few, many = (kappa([Counter({("a", "a"): count, ("b", "b"): count})]) for count in (5, 500))
    assert few
    assert many
    assert few.value == many.value == many.high == 1
    assert few.low < 0.7 < many.low < 1


def test_one_label_for_all_leaves_nothing_to_measure() -> None:
    assert kappa([Counter({("a", "a"): 50})]) is None


def test_pairs_of_people_are_compared_on_what_both_have_reviewed(store: Store) -> None:
    asked = [capture(number) for number in range(12)]
    with store.session() as session:
        session.add_all(asked)
        for number, each in enumerate(asked):
            session.add(review(each, "ann", "refund" if number % 2 else "billing"))
            session.add(review(each, "bob", "refund" if number % 3 else "billing", undone=None))
            session.add(review(each, "bob", "defect", undone=each.time))
            session.add(review(each, "bob", "defect", source="feedback"))
        session.add(review(asked[0], "cleo", "billing"))
        session.add(review(asked[1], "dan", "billing", source="settle"))
    with store.session() as session:
        everybody, first, *others = agreements(session, "tickets", by_answer=True)
        assert (first.people, first.both) == (("ann", "bob"), 12)
        assert first.same.value == 0.5
        assert sorted(other.people for other in others) == [("ann", "cleo"), ("bob", "cleo")]
        assert (everybody.people, everybody.both) == ((), 14)
        assert agreements(session, "others", by_answer=True) == []
        _, right, *_ = agreements(session, "tickets", by_answer=False)
        assert right.same == first.same, "with two answers, what is right says which"


def test_who_calls_an_answer_wrong_does_not_agree_with_who_can_not_tell(store: Store) -> None:
    asked = [capture(number) for number in range(4)]
    with store.session() as session:
        session.add_all(asked)
        for each in asked:
            session.add(review(each, "ann", "refund"))
            unknown = review(each, "bob", right=False)
            unknown.answer = None
            session.add(unknown)
    with store.session() as session:
        (found,) = agreements(session, "tickets", by_answer=False)
        assert (found.both, found.same.value) == (4, 0)


def test_many_reviews_of_another_model_hide_none(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The latest reviews are those of the model that is asked about."""
    monkeypatch.setattr(history, "RECENT", 4)
    asked = [capture(number, model="others" if number > 1 else "tickets") for number in range(10)]
    with store.session() as session:
        session.add_all(asked)
        session.add_all(review(each, by, "refund") for each in asked for by in ("ann", "bob"))
    with store.session() as session:
        (found,) = agreements(session, "tickets", by_answer=True)
        assert found.both == 2


def test_conflicts_are_listed_by_their_urgency(store: Store) -> None:
    with store.session() as session:
        session.add_all(
            [
                capture(0, state="conflict", priority=0.1),
                capture(1, state="conflict", priority=0.9),
                capture(2),
                capture(3, state="conflict", model="others"),
            ]
        )
    with store.session() as session:
        assert [int(each.id, 16) for each in conflicts(session, "tickets")] == [1, 0]


@pytest.mark.parametrize("table", [{("a", "b"): 1}, {("a", "b"): 3, ("b", "a"): 3}])
def test_that_all_differ_is_no_certainty(table: dict[tuple[str, str], int]) -> None:
    found = kappa([Counter(table)])
    assert found is not None
    assert found.low <= found.value < found.high
