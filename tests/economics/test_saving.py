"""What a model of one's own saves within the horizon, counted by hand: it costs $100 a month."""

from __future__ import annotations

from datetime import date

import pytest

from tunewright.economics.lifetimes import UNANNOUNCED, lifetime
from tunewright.economics.prices import ApiPrice
from tunewright.economics.saving import ApiBill, Saving, bills_of

BRIEF = ApiBill("brief", 1100, 1.5)
LASTING = ApiBill("lasting", 300, None)
TIER = ApiBill("tier", 40, None, ", which nobody has measured")


def saving(first: ApiBill, then: ApiBill | None = None, share: float = 1.0) -> Saving:
    return Saving(100, bills_of(first, then), 12, share)


def test_against_an_api_that_lasts_every_month_counts() -> None:
    found = saving(LASTING, TIER)
    assert found.usd == pytest.approx(12 * 200)
    assert found.payback_months(1000) == pytest.approx(5)
    assert found.payback_months(4800) == pytest.approx(24), "after the horizon"
    assert found.counted() == ""


def test_an_api_that_ends_counts_until_then_and_after_that_the_one_that_lasts() -> None:
    found = saving(BRIEF, LASTING)
    assert found.usd == pytest.approx(1.5 * 1000 + 10.5 * 200)
    assert found.payback_months(1000) == pytest.approx(1)
    assert found.payback_months(2500) == pytest.approx(1.5 + 5)
    assert found.counted() == (
        "It saves $1,500 until brief ends, and saves $2,100 in the rest of the 12 months against lasting at $300 a "
        "month."
    )


def test_where_no_api_is_known_to_last_nothing_counts_after_the_end() -> None:
    found = saving(BRIEF)
    assert found.usd == pytest.approx(1500)
    assert found.payback_months(1600) is None
    assert found.counted("That") == (
        "That saves $1,500 until brief ends, and nothing is counted after that, because no other API that comes into "
        "question lasts."
    )


def test_a_later_api_that_costs_less_than_the_model_takes_from_the_saving() -> None:
    found = saving(BRIEF, TIER)
    assert found.usd == pytest.approx(1500 - 10.5 * 60)
    assert found.counted().endswith(
        "and costs $630 more in the rest of the 12 months than tier at $40 a month, which nobody has measured."
    )


def test_nothing_is_paid_back_where_nothing_was_spent_or_all_is_lost_again() -> None:
    assert saving(ApiBill("brief", 50, 6.0), LASTING).payback_months(0) is None
    found = Saving(100, bills_of(ApiBill("brief", 1000, 2.0), ApiBill("tier", 10, None)), 24)
    assert found.usd == pytest.approx(2 * 900 - 22 * 90)
    assert found.payback_months(1000) is None, "after 1.1 months it has, and after the 24 it has not"
    assert not found.pays(1000)


def test_a_part_of_cents_is_not_told() -> None:
    assert saving(ApiBill("brief", 1100, 12.0), LASTING).counted() == "It saves $12,000 until brief ends."


def test_an_api_that_has_ended_counts_for_nothing() -> None:
    gone = ApiBill("gone", 9000, 0.0)
    assert saving(gone, LASTING) == saving(LASTING)
    unmeasured = saving(gone, TIER)
    assert unmeasured.usd == pytest.approx(-12 * 60)
    assert unmeasured.payback_months(1) is None
    assert unmeasured.counted() == (
        "It costs $720 more in 12 months than tier at $40 a month, which nobody has measured."
    )
    assert (saving(gone).usd, saving(gone).payback_months(1), saving(gone).counted()) == (0, None, "")


def test_a_cascade_leaves_the_rest_to_whichever_api_there_is() -> None:
    assert saving(BRIEF, LASTING, 0.5).usd == pytest.approx(1.5 * 450 + 10.5 * 50)


def test_an_end_beyond_the_horizon_is_none() -> None:
    def left(end: date, months: int = 12) -> float | None:
        price = ApiPrice(usd_in=1, usd_out=1, provider="openai", ends={"openai": end})
        return lifetime("brief", price, None, date(2026, 11, 27), months).months_left

    assert left(date(2027, 1, 14)) == pytest.approx(48 / 365.25 * 12)
    assert left(date(2028, 1, 14)) is None
    assert left(date(2028, 1, 14), months=24) == pytest.approx(413 / 365.25 * 12)
    assert left(date(2026, 11, 27)) == left(date(2026, 10, 1)) == 0
    assert UNANNOUNCED.months_left is None
