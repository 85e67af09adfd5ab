from __future__ import annotations

import numpy as np
import pytest

from tunewright.config.schema import Spec
from tunewright.core.errors import UserError
from tunewright.economics import api_cost, host_cost, price_book
from tunewright.economics.cost import (
    COOLING_SECONDS,
    HOURS_A_MONTH,
    MAX_UTILISATION,
    SECONDS_A_MONTH,
    Service,
    asleep_saves,
)
from tunewright.economics.prices import MachinePrice

MACHINE = MachinePrice(usd_per_hour=0.1, cores=2)


def steady(seconds: float, target: float = 60) -> Service:
    return Service(seconds, seconds, target)


def test_ten_million_tickets_on_gpt_4o_cost_14_000_usd_a_month() -> None:
    cost = api_cost(price_book().api("gpt-4o"), prompt_tokens=480, answer_tokens=20, requests=10_000_000)
    assert cost.usd_per_month == pytest.approx(14_000)
    assert cost.usd_per_1000 == pytest.approx(1.40)


def test_an_api_costs_in_proportion_to_its_requests() -> None:
    once, twice = (
        api_cost(price_book().api("gpt-4.1"), prompt_tokens=100, answer_tokens=5, requests=n) for n in (10, 20)
    )
    assert twice.usd_per_month == pytest.approx(2 * once.usd_per_month)
    assert twice.usd_per_1000 == once.usd_per_1000


def test_one_machine_stands_ready_even_for_little_traffic() -> None:
    cost = host_cost(MACHINE, steady(0.01), requests=100, peak_to_average=1)
    assert cost.replicas == 1
    assert cost.usd_per_month == pytest.approx(0.1 * HOURS_A_MONTH)
    assert cost.usd_per_1000 == pytest.approx(cost.usd_per_month * 10)


def test_machines_are_sized_for_the_peak_at_the_allowed_utilisation() -> None:
    # 10 answers a second on average, 40 at the peak, 0.1 s each: 4 busy machines, of which 70 % may be used: 5.7.
    cost = host_cost(MACHINE, steady(0.1), requests=round(10 * SECONDS_A_MONTH), peak_to_average=4)
    assert cost.replicas == 6
    assert cost.usd_per_month == pytest.approx(6 * 0.1 * HOURS_A_MONTH)


@pytest.mark.parametrize("requests", [10**6, 10**7, 10**8])
def test_no_machine_is_busier_at_the_peak_than_allowed(requests: int) -> None:
    cost = host_cost(MACHINE, steady(0.05), requests=requests, peak_to_average=3)
    assert cost.replicas
    assert requests / SECONDS_A_MONTH * 3 * 0.05 / cost.replicas <= MAX_UTILISATION


def test_a_machine_is_less_busy_where_answers_may_hardly_wait() -> None:
    assert steady(0.1, target=60).utilisation == pytest.approx(MAX_UTILISATION)
    tight, tighter = steady(0.1, target=0.15).utilisation, steady(0.1, target=0.12).utilisation
    assert tighter < tight < MAX_UTILISATION


@pytest.mark.parametrize("target", [0.13, 0.2, 0.3])
def test_at_the_utilisation_chosen_95_of_100_answers_come_in_time(target: float) -> None:
    """Requests at random times before one server that takes 0.1 s for each, answered in their order."""
    service, random = steady(0.1, target), np.random.default_rng(0)
    arrivals = np.cumsum(random.exponential(service.seconds / service.utilisation, 100_000))
    free, late = 0.0, 0
    for arrival in arrivals:
        free = max(free, arrival) + service.seconds
        late += free - arrival > target + 1e-9
    assert late / 100_000 <= 0.065  # the formula is for busy servers: with hardly any room it is a little off


def test_redundancy_is_a_floor() -> None:
    cost = host_cost(MACHINE, steady(0.01), requests=100, peak_to_average=1, redundancy=2)
    assert cost.replicas == 2


def test_a_machine_that_scales_to_zero_costs_in_proportion_to_its_uptime() -> None:
    sleepy = MACHINE.model_copy(update={"scales_to_zero": True})
    rare, busy, crowded = (
        host_cost(sleepy, steady(0.1), requests=requests, peak_to_average=1) for requests in (100, 10**6, 10**9)
    )
    # Once in 7.3 hours: up for the five minutes after.
    assert rare.usd_per_month == pytest.approx(100 * COOLING_SECONDS / 3600 * 0.1, rel=0.01)
    assert busy.usd_per_month == pytest.approx(0.1 * HOURS_A_MONTH, rel=0.01)
    assert crowded.usd_per_month > 50 * busy.usd_per_month


def test_the_names_that_a_spec_has_by_default_have_prices() -> None:
    defaults = Spec.model_fields
    assert price_book().api(defaults["api"].default.model)
    assert price_book().machine(defaults["traffic"].default.machine)


def test_the_price_book_says_when_and_where_from() -> None:
    assert price_book().as_of.startswith("20")
    assert price_book().source


def test_a_misspelt_api_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"no 'gpt-4\.1-mimi' \(api\.model\).*Did you mean 'gpt-4\.1-mini'\?"):
        price_book().api("gpt-4.1-mimi")


def test_an_unknown_machine_is_refused_with_the_known_names() -> None:
    with pytest.raises(UserError, match=r"traffic\.machine.*Known: Standard_D2s_v5"):
        price_book().machine("zx81")


def test_sleeping_saves_what_one_that_stands_would_cost_more() -> None:
    """100 requests a month, five minutes each: 8.3 of 730 hours."""
    sleepy = MACHINE.model_copy(update={"scales_to_zero": True})
    cost = host_cost(sleepy, steady(0.01), requests=100, peak_to_average=1)
    always = sleepy.usd_per_hour * HOURS_A_MONTH
    assert asleep_saves(sleepy, cost) == pytest.approx(always * (1 - 8.3 / 730), rel=0.01)
    busy = host_cost(sleepy, steady(0.1), requests=10**9, peak_to_average=1)
    assert asleep_saves(sleepy, busy) == 0
