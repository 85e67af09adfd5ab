"""What a deployment on trial must keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.conftest import make_spec
from tunewright.places.azure.deploy.exam import failures
from tunewright.places.azure.deploy.trial import Trial

FINE = Trial(0.1, 1.0, 10, 1.0, 0, 20.0, 60.0, ())


@pytest.mark.parametrize(("requests", "counts"), [(1_000, True), (100_000, False)])
def test_a_start_counts_where_more_than_one_in_twenty_waits_for_it(requests: int, counts: bool) -> None:
    """Of 1,000 requests a month 89 % come after five minutes of silence, of 100,000 none."""
    spec = make_spec(traffic={"requests_per_month": requests}, goal={"p95_ms": 1000.0})
    assert failures(FINE, spec) == failures(replace(FINE, cold_ms=900.0), spec) == []
    missed = failures(replace(FINE, cold_ms=4000.0), spec)
    assert bool(missed) == counts
    if counts:
        assert missed == ["89% of the requests would find it asleep and wait 4,000 ms, the goal is 1000 ms for 95 %"]


def test_the_sentence_has_the_start_beside_the_latency() -> None:
    told = replace(FINE, cold_ms=4000.0).sentence
    assert "P50 20 ms, P95 60 ms, 0 failed; asleep it answers after 4,000 ms" in told
    assert "asleep" not in FINE.sentence
