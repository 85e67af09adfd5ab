"""The rate limit of Resource Manager: a bucket of calls for each kind, which fills up again with time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tunewright.azure_emulator.cloud import HttpRequest, HttpResponse, error


@dataclass
class Bucket:
    """The calls that may be made now.

    Args:
        size: the most at once.
        rate: how many are added each second.
        clock: gives the time in seconds.
    """

    size: int
    rate: float
    clock: Callable[[], float] = time.monotonic
    left: float = field(init=False)
    since: float = field(init=False)

    def __post_init__(self) -> None:
        self.left, self.since = float(self.size), self.clock()

    def take(self) -> bool:
        """Take one call out. Returns whether there was one."""
        now = self.clock()
        self.left = min(self.size, self.left + self.rate * (now - self.since))
        self.since = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Throttle:
    """Answers 429 instead of a service that gets calls too fast."""

    def __init__(self) -> None:
        self.buckets = {"reads": Bucket(250, 25), "writes": Bucket(200, 10), "deletes": Bucket(200, 10)}
        self._lock = threading.Lock()

    def limited(self, service: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
        """A service that gets calls no faster than Azure allows (rule calls-are-limited)."""

        def answer(request: HttpRequest) -> HttpResponse:
            kind = {"GET": "reads", "HEAD": "reads", "DELETE": "deletes"}.get(request.method, "writes")
            bucket = self.buckets[kind]
            with self._lock:
                is_allowed = bucket.take()
            left = {f"x-ms-ratelimit-remaining-subscription-{kind}": str(int(bucket.left))}
            if is_allowed:
                response = service(request)
                return HttpResponse(response.status, response.body, response.headers | left)
            seconds = max(1, round(1 / bucket.rate))
            refused = error(
                429, "SubscriptionRequestsThrottled", f"Too many {kind}. Try again after {seconds} seconds."
            )
            return HttpResponse(429, refused.body, refused.headers | left | {"retry-after": str(seconds)})

        return answer
