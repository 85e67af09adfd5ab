"""The time over which calls were logged, and whether it hangs on a few of them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate

DAYS_OF_MONTH = 30.44
_HOUR = timedelta(hours=1)
_LEAST_DAYS = 1 / 24


@dataclass(frozen=True)
class Outliers:
    """Under 1 % of the calls that make up most of the time."""

    calls: int
    others: int
    first: str
    """The hour of the first of the others, in UTC."""
    last: str
    """The hour of the last."""
    days: float
    """From the first to the last of the others."""


class TimeSpan:
    """The time from the first to the last of some calls. It counts the calls of each hour, so that memory stays
    bounded."""

    def __init__(self) -> None:
        self._first, self._last = "9", "0"
        self._hours: Counter[str] = Counter()

    def add(self, time: str) -> None:
        """Add a call, by its time in UTC (ISO 8601)."""
        self._first, self._last = min(self._first, time), max(self._last, time)
        self._hours[time[:13]] += 1

    @property
    def first(self) -> str | None:
        return self._first if self._hours else None

    @property
    def last(self) -> str | None:
        return self._last if self._hours else None

    @property
    def days(self) -> float | None:
        """None: there is no call with a time."""
        if not self._hours:
            return None
        return max(_LEAST_DAYS, (_moment(self._last) - _moment(self._first)) / timedelta(days=1))

    @property
    def outliers(self) -> Outliers | None:
        """The calls outside that half of the time which has the most calls; None: they are 1 % or more."""
        if self.days is None:
            return None
        hours = sorted(self._hours)
        times = [_moment(f"{hour}:00:00+00:00") for hour in hours]
        before = [0, *accumulate(self._hours[hour] for hour in hours)]
        half = timedelta(days=self.days / 2)
        windows = ((begin, bisect_left(times, time + half)) for begin, time in enumerate(times))
        begin, end = max(windows, key=lambda window: before[window[1]] - before[window[0]])
        others, total = before[end] - before[begin], before[-1]
        if total == others or 100 * (total - others) >= total:
            return None
        first, last = times[begin], times[end - 1]
        days = (last - first + _HOUR) / timedelta(days=1)
        return Outliers(total - others, others, first.isoformat(), last.isoformat(), days)


def _moment(time: str) -> datetime:
    return datetime.fromisoformat(time)
