from __future__ import annotations

from dataclasses import replace

import pytest

from tests.conftest import make_spec
from tests.economics.test_scenario import USUAL
from tunewright.economics import price_book
from tunewright.economics.cost import Item
from tunewright.economics.prices import MachinePrice
from tunewright.economics.upkeep import Upkeep, items_of, letters_of, upkeep_of
from tunewright.monitoring.queue import A_DAY

BOOK = price_book()
DAYS = 365 / 12
ZERO = MachinePrice(usd_per_hour=0.1, cores=2, scales_to_zero=True)


def rest(trained: tuple[float, str] | None = None, letters: float = 2000, **spec: object) -> Upkeep:
    return upkeep_of(make_spec(**spec), BOOK, letters=letters, trained=trained)


def item(name: str, result: Upkeep) -> Item:
    (one,) = (each for each in result.itemised(1_000_000) if each.name == name)
    return one


def test_reviews_are_hours_of_a_person() -> None:
    costs = {"reviews_per_month": 600, "review_minutes": 2, "hourly_usd": 45}
    result = item("reviews", rest(costs=costs))
    assert result == Item("reviews", 900.0, "yours", "600 reviews of 2 minutes, 20.0 hours at $45")


def test_without_a_number_of_reviews_they_are_those_that_the_queue_draws() -> None:
    result = item("reviews", rest(costs={"hourly_usd": 60}))
    assert result.usd_per_month == pytest.approx(A_DAY * DAYS)
    assert result.source == "yours; reviews and minutes assumed"
    assert item("reviews", rest(costs={"hourly_usd": 60, "reviews_per_month": 6})).source == "yours; minutes assumed"


def test_reviews_of_people_whose_hour_has_no_price_are_not_counted_rather_than_free() -> None:
    result = item("reviews", rest())
    assert result.usd_per_month is None
    assert result.source == "not counted: costs.hourly_usd"
    assert rest().usd == 0
    nobody = item("reviews", rest(costs={"reviews_per_month": 0}))
    assert nobody.usd_per_month == 0


def test_there_is_a_retraining_for_every_so_many_reviews() -> None:
    costs, monitor = {"reviews_per_month": 300, "retraining_usd": 20}, {"reviews_to_retrain": 150}
    result = item("retraining", rest(costs=costs, monitor=monitor))
    assert (result.usd_per_month, result.source) == (40.0, "yours")
    assert item("retraining", rest(costs=costs | {"reviews_per_month": 0})).usd_per_month == 0


def test_a_retraining_without_a_price_takes_as_long_as_the_run_on_the_machine_that_trains() -> None:
    result = item("retraining", rest((0.5, "Standard_NC4as_T4_v3"), costs={"reviews_per_month": 200}))
    assert result.usd_per_month == pytest.approx(2 * 0.5 * 0.526)
    assert result.source == f"measured; prices of {BOOK.as_of} (Azure Retail Prices API)"


@pytest.mark.parametrize("trained", [None, (0.5, "a-machine-of-ours")])
def test_a_retraining_that_nothing_prices_is_not_counted(trained: tuple[float, str] | None) -> None:
    result = item("retraining", rest(trained))
    assert (result.usd_per_month, result.source) == (None, "not counted: costs.retraining_usd")


def test_stored_captures_cost_disk_for_as_long_as_they_are_kept() -> None:
    month = rest().request_usd * 1_000_000
    # 2,000 letters in two places and 750 bytes beside them, of three months.
    assert month == pytest.approx(4750e6 / 2**30 * 90 / DAYS * BOOK.disk_usd_per_gib)
    assert item("storage", rest()).usd_per_month == pytest.approx(month)
    assert rest(monitor={"keep_days": 9}).request_usd * 1_000_000 == pytest.approx(month / 10)
    assert letters_of(480, 20) == 2000


def test_other_upkeep_is_an_item_where_there_is_any() -> None:
    assert item("other upkeep", rest(costs={"upkeep_usd_per_month": 40})) == Item(
        "other upkeep", 40.0, "yours", "costs.upkeep_usd_per_month"
    )
    assert "other upkeep" not in [each.name for each in rest().itemised(1)]


@pytest.mark.parametrize(
    ("changes", "machines", "standby"),
    [
        ({}, 73, 0),
        ({"redundancy": 2}, 73, 73),
        ({"requests": 100_000_000, "redundancy": 2}, 7 * 73, 0),
        ({"requests": 1e-6, "redundancy": 2, "machine": ZERO}, 0, 73),
    ],
)
def test_standby_machines_are_those_that_the_traffic_does_not_need(
    changes: dict[str, object], machines: float, standby: float
) -> None:
    scenario = replace(USUAL, **changes)
    result = {each.name: each for each in items_of(scenario, "mine", rest(), BOOK)}
    assert result["machines"].usd_per_month == pytest.approx(machines, abs=1e-3)
    assert result["standby"].usd_per_month == pytest.approx(standby, abs=1e-3)


def test_the_items_add_up_to_the_month() -> None:
    result = rest((0.5, "Standard_NC4as_T4_v3"), costs={"hourly_usd": 60, "upkeep_usd_per_month": 40})
    scenario = replace(USUAL, redundancy=3, upkeep_usd=result.usd, request_usd=result.request_usd)
    items = items_of(scenario, "mine", result, BOOK)
    assert sum(each.usd_per_month or 0 for each in items) == pytest.approx(scenario.own_month.usd_per_month)
    assert result.at(scenario.requests) == pytest.approx(scenario.own_month.usd_per_month - 3 * 73)
