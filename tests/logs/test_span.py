"""The time over which traffic was captured."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tunewright.logs.span import TimeSpan

BEGUN = datetime(2026, 11, 1, tzinfo=UTC)


def span(*days: float) -> TimeSpan:
    """The span of calls, by the days from the beginning to each."""
    found = TimeSpan()
    for each in days:
        found.add((BEGUN + timedelta(days=each)).isoformat())
    return found


def test_a_span_is_that_from_the_first_to_the_last_call() -> None:
    assert span().days is None
    assert (span().first, span(3).first) == (None, "2026-11-04T00:00:00+00:00")
    assert span(3).days == 1 / 24
    assert span(3, 1, 2.5).days == 2


STEADY = [number / 40 for number in range(200)]
"""Of five days."""


@pytest.mark.parametrize(
    ("days", "outliers", "end"),
    [
        (STEADY, None, None),
        ([*STEADY, 9], None, None),
        ([*STEADY, 11], 1, 5),
        ([*STEADY, -900], 1, 5),
        ([*STEADY, -900, 11.5], 1, 12),
        ([*STEADY, -900, 900], 2, 5),
        ([*STEADY, -900, 901, 902], None, None),
        ([0, 0.1, 0.2, 30], None, None),
        ([0, 0.01], None, None),
    ],
)
def test_calls_that_lie_far_from_nearly_all_are_told(days: list[float], outliers: int | None, end: int | None) -> None:
    found = span(*days).outliers
    assert (found and found.calls) == outliers
    if found:
        assert (found.first[:10], found.last[:10]) == ("2026-11-01", f"2026-11-{end:02}")
        assert end and end - 1 < found.days <= end
