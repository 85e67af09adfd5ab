"""The tests that take a job back: rarely without a reason, soon with one."""

from __future__ import annotations

import random

import pytest
from scipy.stats import binomtest

from tunewright.gateway.takeover.evidence import ChangeDetector, interval, quantile_interval
from tunewright.gateway.takeover.tallies import BOUNDS, summed


def steps_to_alarm(share: float, allowed: float, most: int, seed: int, good_before: int = 0) -> int | None:
    """Observations from a change to the alarm; None: there was none."""
    chance, detector = random.Random(seed), ChangeDetector(allowed)
    for _ in range(good_before):
        assert not detector.add(float(chance.random() < allowed / 2)), "an alarm before the change"
    return next((step for step in range(1, most) if detector.add(float(chance.random() < share))), None)


@pytest.mark.parametrize("allowed", [0.01, 0.05, 0.12, 0.5])
def test_no_alarm_at_what_is_just_allowed(allowed: float) -> None:
    """10,000 observations apart on average at least: of 40 runs of 1,000, some four may alarm at most."""
    alarms = sum(steps_to_alarm(allowed, allowed, 1000, seed) is not None for seed in range(40))
    assert alarms <= 8


@pytest.mark.parametrize(("share", "allowed", "within"), [(1.0, 0.1, 15), (0.3, 0.1, 150), (0.2, 0.1, 500)])
def test_a_change_is_found_soon_also_after_a_long_good_time(share: float, allowed: float, within: int) -> None:
    found = [steps_to_alarm(share, allowed, 5000, seed, good_before=2000) for seed in range(10)]
    assert all(each is not None for each in found)
    assert sorted(filter(None, found))[5] <= within


def test_parts_of_a_record_count_as_parts() -> None:
    detector = ChangeDetector(0.1)
    assert not any(detector.add(0.08) for _ in range(5000))
    assert any(detector.add(0.5) for _ in range(50))


@pytest.mark.parametrize(("right", "count"), [(0, 5), (5, 5), (37, 40), (970, 1000)])
def test_intervals_are_wilsons(right: int, count: int) -> None:
    known = binomtest(right, count).proportion_ci(method="wilson")
    assert interval(right, count) == pytest.approx((known.low, known.high), abs=1e-4)


def test_nothing_counted_is_nothing_known() -> None:
    assert interval(0, 0) == (0.0, 1.0)


def test_quantiles_of_a_histogram_have_intervals() -> None:
    chance = random.Random(0)
    values = sorted(chance.lognormvariate(-3, 0.5) for _ in range(2000))
    histogram: dict[str, int] = {}
    for value in values:
        bucket = next(number for number, bound in enumerate(BOUNDS) if value <= bound)
        histogram[str(bucket)] = histogram.get(str(bucket), 0) + 1
    for share in (0.5, 0.95):
        estimate, low, high = quantile_interval(summed([histogram]), BOUNDS, share)
        assert low < estimate < high
        assert estimate == pytest.approx(values[int(share * 2000)], rel=0.1)
