from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from tests.conftest import make_spec
from tunewright.economics import price_book
from tunewright.monitoring.ledger import Ledger, Quality, ledger
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Capture, Review, Tally

BOOK = price_book()
MACHINE = BOOK.machine("Standard_D2s_v5").usd_per_hour
KEPT = (2 * 4 * 520 + 750) / 2**30 * 90 / (365 / 12) * BOOK.disk_usd_per_gib
"""A capture of 520 tokens, in journal and store, for 90 days."""
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def tally(day: date, answered: float, **changes: object) -> Tally:
    figures = {"captured": round(answered), "escalated": 0.0, "prompt_tokens": 500 * answered}
    figures |= {"answer_tokens": 20 * answered, "seconds": 0.05 * answered}
    return Tally(day=day, model="tickets", version="a", answered=answered, **figures | changes)


def of(store: Store, *tallies: Tally, now: datetime = NOON, **spec: object) -> Ledger:
    with store.session() as session:
        session.add_all(tallies)
    return ledger(make_spec(**spec), store, BOOK, now)


def test_a_day_costs_its_machine_and_saves_the_apis_price_for_the_tokens_that_were_answered(store: Store) -> None:
    found = of(store, tally(date(2026, 11, 2), 30_000), now=datetime(2026, 11, 3, tzinfo=UTC))
    assert found.total.own_usd == pytest.approx(24 * MACHINE + 30_000 * KEPT)
    assert found.total.api_usd == pytest.approx(30_000 * (500 * 2.5 + 20 * 10) / 1e6)
    assert found.total.saved_usd == pytest.approx(found.total.api_usd - found.total.own_usd)
    assert found.sentence.startswith(
        f"To date the own model saved ${found.total.saved_usd:,.2f}: 30,000 requests in 1.0 days"
    )


def test_days_without_requests_cost_their_machine_all_the_same(store: Store) -> None:
    found = of(store, tally(date(2026, 10, 30), 10), tally(date(2026, 11, 2), 10))
    assert [entry.name for entry in found.months] == ["2026-10", "2026-11"]
    assert found.months[0].own_usd == pytest.approx(48 * MACHINE + 10 * KEPT)
    assert found.months[1].own_usd == pytest.approx(60 * MACHINE + 10 * KEPT)
    assert found.total.days == pytest.approx(4.5)


def test_a_machine_that_scales_to_zero_costs_nothing_on_a_day_without_requests(store: Store) -> None:
    found = of(store, tally(date(2026, 11, 1), 1), traffic={"machine": "container-apps-2-4"})
    hour = BOOK.machine("container-apps-2-4").usd_per_hour
    assert 0 < found.total.own_usd < 0.1 * hour  # up for some five minutes after the one request


def test_as_many_machines_are_counted_as_the_measured_time_needs(store: Store) -> None:
    # 2 s of work a request, four times as many at the peak: 10 requests a second need dozens of machines.
    found = of(store, tally(date(2026, 11, 2), 864_000, seconds=2.0 * 864_000))
    assert found.total.own_usd > 50 * 36 * MACHINE


def test_what_a_cascade_passes_on_is_paid_to_the_api_as_well(store: Store) -> None:
    plain = of(store, tally(date(2026, 11, 2), 1000)).total
    with store.session() as session:
        session.get_one(Tally, (date(2026, 11, 2), "tickets", "a")).escalated = 250.0
    cascade = of(store).total
    assert cascade.own_usd - plain.own_usd == pytest.approx(plain.api_usd / 4)


def test_the_apis_own_longer_prompt_is_what_it_would_have_been_paid_for(store: Store) -> None:
    found = of(store, tally(date(2026, 11, 2), 1000), api={"prompt_tokens": 2000, "completion_tokens": 100})
    assert found.total.api_usd == pytest.approx(1000 * (2000 * 2.5 + 100 * 10) / 1e6)


def test_a_model_that_costs_more_than_the_api_is_called_that(store: Store) -> None:
    found = of(store, tally(date(2026, 11, 2), 3))
    assert found.total.saved_usd < 0
    assert "cost $3.45 more than gpt-4o would have" in found.sentence


def test_reviews_and_retraining_that_have_a_price_are_paid_day_by_day(store: Store) -> None:
    day, until = date(2026, 11, 2), datetime(2026, 11, 3, tzinfo=UTC)
    plain = of(store, tally(day, 1000, captured=0), now=until).total
    assert plain.own_usd == pytest.approx(24 * MACHINE)
    costs = {"reviews_per_month": 365, "review_minutes": 2, "hourly_usd": 60, "retraining_usd": 5}
    found = of(store, now=until, costs=costs, monitor={"reviews_to_retrain": 73}).total
    assert found.own_usd - plain.own_usd == pytest.approx((365 * 2 + 5 * 5) / (365 / 12))


def test_what_building_it_cost_is_told_until_it_is_earned(store: Store) -> None:
    found = of(store, tally(date(2026, 11, 2), 30_000), costs={"engineering_usd": 1000})
    assert "of its engineering cost are not yet earned back" in found.sentence


def reviewed(store: Store, right: int, wrong: int, confidence: float) -> None:
    with store.session() as session:
        for number in range(right + wrong):
            name = f"{confidence}-{number}"
            answered = {"model": "tickets", "version": "a", "request": "x", "answer": "billing"}
            session.add(Capture(id=name, time=NOON, confidence=confidence, **answered))
            said = {"reviewer": "ana", "time": NOON, "source": "review", "right": number < right}
            session.add(Review(capture_id=name, **said))


def test_the_quality_beside_it_is_what_reviewers_said_of_each_version(store: Store) -> None:
    reviewed(store, 3, 1, confidence=0.5)
    with store.session() as session:
        about = {"capture_id": "0.5-0", "reviewer": "ana", "time": NOON, "right": False}
        session.add(Review(source="review", undone=NOON, **about))
        session.add(Review(source="feedback", **about))
    (found,) = of(store, tally(date(2026, 11, 3), 4)).quality.items()
    assert found == ("a", Quality(reviewed=4, right=3, accuracy=None))


def test_doubtful_answers_that_are_reviewed_first_do_not_pass_for_all(store: Store) -> None:
    reviewed(store, 30, 70, confidence=0.3)
    reviewed(store, 98, 2, confidence=0.9)
    with store.session() as session:
        for number in range(800):  # sure, and nobody has looked at them
            answered = {"model": "tickets", "version": "a", "request": "x", "answer": "billing"}
            session.add(Capture(id=f"sure-{number}", time=NOON, confidence=0.9, **answered))
    (found,) = of(store).quality.values()
    assert (found.reviewed, found.right) == (200, 128)
    assert found.accuracy
    assert found.accuracy.share.value == pytest.approx(0.1 * 0.3 + 0.9 * 0.98)


def test_nothing_captured_makes_an_empty_ledger(store: Store) -> None:
    assert of(store).months == []
