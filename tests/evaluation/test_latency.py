"""How long an answer takes at worst: the P95's upper end, and machines that start first."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.conftest import make_spec
from tests.evaluation import scenario
from tests.evaluation.scenario import candidate, evidence_of
from tunewright.data.readers.forms import LOGGED
from tunewright.economics import price_book
from tunewright.economics.cost import cold_share
from tunewright.evaluation.evidence import Record, latency, logged_latency
from tunewright.evaluation.verdict.comparison import SERVED, Comparison, Measured, compare, evidence_key
from tunewright.evaluation.verdict.targets import is_fast, speed_of
from tunewright.tasks import Example
from tunewright.tasks.example import Meta

ON = Measured(2, "AMD EPYC 9B45", 4.0)


def call(**known: Any) -> Example:
    return Example.of("x", "a", Meta(id="1", source="log", extra={LOGGED: known}))


def timed(times: list[float]) -> list[Record]:
    [blank] = candidate(1.0, splits=("test",), per_split=1)
    return [replace(blank, id=str(n), latency_ms=ms) for n, ms in enumerate(times)]


@pytest.mark.slow
@pytest.mark.parametrize("count", [59, 100, 320, 2000])
def test_the_upper_end_is_above_the_true_p95_nineteen_times_in_twenty(count: int) -> None:
    rng = np.random.default_rng(count)
    drawings = [latency(timed(list(rng.lognormal(3, 0.5, count)))).p95_at_most_ms for _ in range(400)]
    true = np.exp(3 + 0.5 * 1.6449)
    covered = np.mean(np.array(drawings) >= true)
    assert covered >= 0.93  # 0.95 and more, less three standard errors of 400 drawings
    if count >= 320:
        assert np.median(drawings) < 1.25 * true, "not the longest of all"


def test_few_requests_bound_nothing_and_it_is_said() -> None:
    few = latency(timed([10.0] * 57 + [500.0]))
    assert (few.p95_at_most_ms, few.bounded) == (500.0, False)
    assert latency(timed([10.0] * 59)).bounded


def compared(machine: str, requests: int, measured: Measured | None = ON) -> Comparison:
    spec = make_spec(traffic={"machine": machine, "requests_per_month": requests}, apis=[{}])
    return compare(spec, evidence_of(candidate(0.97), candidate(0.7)), price_book(), measured=measured)


def test_a_log_times_the_api_where_nobody_has_timed_it_here() -> None:
    spec, evidence = make_spec(), evidence_of(candidate(0.97), candidate(0.7))
    logged = logged_latency([call(seconds=0.8), call(seconds="1.2"), call(seconds=0), call(), call(seconds="soon")])
    assert logged and (logged.count, logged.mean_ms, logged.bounded) == (2, 1000, False)
    assert logged_latency([call(), call(seconds=0)]) is None
    known = scenario.compared(spec, evidence, logged_latency=logged)
    assert known.apis["gpt-4o"].latency == known.logged_latency == logged
    assert "2 calls in your log" in known.timed_in_log
    asked = evidence | {evidence_key(spec, "gpt-4o"): timed([30.0] * 60)}
    timed_here = scenario.compared(spec, asked, logged_latency=logged)
    assert timed_here.apis["gpt-4o"].latency == latency(timed([30.0] * 60))
    assert (timed_here.logged_latency, timed_here.timed_in_log) == (None, "")


def test_a_machine_that_sleeps_between_requests_answers_late() -> None:
    """Of 10,000 requests a month a third comes after more than five minutes of silence."""
    assert cold_share(10_000) == pytest.approx(np.exp(-10_000 * 300 / (730 * 3600)))
    rare = compared("container-apps-2-4", 10_000).candidates[SERVED]
    assert rare.latency and rare.latency.start_ms == 4000
    assert not is_fast(rare, make_spec())
    assert "and 4,000 ms of starting" in speed_of(rare)
    assert is_fast(rare, make_spec(goal={"p95_ms": 4100}))


def test_one_that_is_always_up_or_always_asked_does_not() -> None:
    for machine, requests in (("container-apps-2-4", 100_000), ("Standard_D2s_v5", 10_000)):
        speed = compared(machine, requests).candidates[SERVED].latency
        assert speed and speed.start_ms == 0


def test_a_machine_unlike_the_one_that_is_priced_is_named() -> None:
    assert "as many, and they may be slower or faster" in compared("Standard_D2s_v5", 10_000).measured_on
    other = compared("Standard_D4s_v5", 10_000).measured_on
    assert other.startswith("Latency was measured on a machine unlike the one that is priced: 2 cores of AMD EPYC 9B45")
    assert compared("Standard_D2s_v5", 10_000, None).measured_on == ""
