"""The pace of requests: as many at once as the endpoint accepts, and none while it asks to wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Condition
from typing import Any

_USUAL_PAUSE = 1.0
"""Seconds to wait where a refusal names no time."""
_LONGEST_PAUSE = 120.0
"""Seconds; the client waits no longer either, and gives up."""


class Pace:
    """The number of requests under way: a refusal halves it, each answered round adds one.

    Source: additive increase, multiplicative decrease, Chiu & Jain 1989. `before` and `after` are the hooks of an HTTP
    client, so that they hold back its own retries too.

    Args:
        most: the most requests at once.
    """

    def __init__(self, most: int):
        self._most, self._limit, self._under_way = most, float(most), 0
        self._free_from = 0.0
        self._changed = Condition()

    @property
    def at_once(self) -> int:
        """Requests that may be under way now."""
        return int(self._limit)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until one more request may be under way."""
        with self._changed:
            self._changed.wait_for(lambda: self._under_way < self.at_once)
            self._under_way += 1
        try:
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def before(self, _request: Any) -> None:
        """Wait as long as the endpoint asked for."""
        while (left := self._free_from - time.monotonic()) > 0:
            time.sleep(left)

    def after(self, response: Any) -> None:
        """Adapt the pace to a response."""
        with self._changed:
            if response.status_code == 429:
                now = time.monotonic()
                if now >= self._free_from:  # only the first of a refused burst counts
                    self._limit = max(1.0, self._limit / 2)
                if (wait := wait_asked_for(response.headers)) <= _LONGEST_PAUSE:
                    self._free_from = max(self._free_from, now + wait)
            elif response.is_success:
                self._limit = min(float(self._most), self._limit + 1 / self._limit)
                self._changed.notify_all()


def wait_asked_for(headers: Mapping[str, str]) -> float:
    """Seconds that the headers of a refusal ask to wait; one second where they name no time."""
    for name, per_second in (("retry-after-ms", 1000), ("retry-after", 1)):
        try:
            return max(0.0, float(headers[name]) / per_second)
        except (KeyError, ValueError):
            continue
    return _USUAL_PAUSE
