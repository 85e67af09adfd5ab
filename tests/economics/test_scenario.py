from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tunewright.economics.cost import Service
from tunewright.economics.prices import ApiPrice, MachinePrice
from tunewright.economics.scenario import Scenario, tornado

MACHINE = MachinePrice(usd_per_hour=0.1, cores=2)
USUAL = Scenario(
    requests=1_000_000,
    prompt_tokens=480,
    answer_tokens=20,
    cached_tokens=0,
    api=ApiPrice(usd_in=2.5, usd_cached=1.25, usd_out=10),
    machine=MACHINE,
    service=Service(0.03, 0.04, 1.0),
    peak_to_average=4,
    redundancy=1,
    upkeep_usd=0,
)


def test_a_month_of_each_and_what_is_saved() -> None:
    assert USUAL.api_month.usd_per_month == pytest.approx(1400)
    assert USUAL.own_month.usd_per_month == pytest.approx(73)
    assert USUAL.saving == pytest.approx(1327)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"upkeep_usd": 500},
        {"redundancy": 2},
        {"service": Service(0.5, 0.6, 1.0)},
        {"peak_to_average": 20},
        {"service": Service(8, 9, 600)},
        {"service": Service(8, 9, 600), "redundancy": 3, "upkeep_usd": 100},
        {"machine": MachinePrice(usd_per_hour=0.1, cores=2, scales_to_zero=True)},
        {"request_usd": 1e-4},
        {"machine": MachinePrice(usd_per_hour=0.1, cores=2, scales_to_zero=True), "request_usd": 1e-4},
    ],
)
def test_at_the_break_even_both_cost_the_same_and_above_it_the_own_model_less(changes: dict) -> None:
    scenario = replace(USUAL, **changes)
    even = scenario.break_even_requests
    assert even
    assert replace(scenario, requests=even * (1 - 1e-7)).saving <= 1e-3
    assert all(replace(scenario, requests=even * factor).saving > 0 for factor in np.geomspace(1.01, 200, 400))


def test_a_slow_model_pays_at_no_volume() -> None:
    """A machine that is busy for a minute with each answer costs more than the API asks for it."""
    slow = replace(USUAL, service=Service(60, 60, 600))
    assert slow.break_even_requests is None


def test_a_free_api_is_never_undercut() -> None:
    assert replace(USUAL, api=ApiPrice(usd_in=0, usd_out=0)).break_even_requests is None
    free = replace(USUAL, machine=MachinePrice(usd_per_hour=0, cores=2))
    assert free.break_even_requests == 0


def test_the_storage_of_each_request_is_paid_for() -> None:
    assert replace(USUAL, request_usd=1e-5).own_month.usd_per_month == pytest.approx(73 + 10)
    assert replace(USUAL, request_usd=0.01).break_even_requests is None  # more than the API asks for it


def test_cached_tokens_make_the_api_cheaper() -> None:
    assert replace(USUAL, cached_tokens=400).api_month.usd_per_month == pytest.approx(1400 - 400 * 1.25)


def test_the_tornado_moves_one_input_at_a_time_and_begins_with_the_widest() -> None:
    swings = tornado(USUAL)
    assert [swing.width for swing in swings] == sorted((swing.width for swing in swings), reverse=True)
    by_name = {swing.name: swing for swing in swings}
    assert by_name["API price"].saving_low == pytest.approx(700 - 73)
    assert by_name["API price"].saving_high == pytest.approx(USUAL.saving)
    assert by_name["requests a month"].saving_high == pytest.approx(2800 - 73)
    assert by_name["machine price"].saving_low == pytest.approx(1400 - 0.8 * 73)
    assert by_name["upkeep a month"].saving_high == pytest.approx(USUAL.saving - 1000)
