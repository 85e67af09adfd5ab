"""How fast Resource Manager may be asked: a bucket of calls for each kind, which fills up again with time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tunewright.azure_emulator.cloud import HttpRequest, HttpResponse, error


@dataclass
class Bucket:
    """Calls that may be made now.

    Args:
        size: at most so many at once.
        rate: so many more each second.
    """

    size: int
    rate: float
    left: float = field(init=False)
    since: float = field(init=False)

    def __post_init__(self) -> None:
        self.left, self.since = float(self.size), time.monotonic()

    def take(self) -> bool:
        """Whether one more may be made."""
        now = time.monotonic()
        self.left = min(self.size, self.left + self.rate * (now - self.since))
        self.since = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


class Throttle:
    """Answers 429 in place of a service that is asked too fast."""

    def __init__(self) -> None:
        self.buckets = {"reads": Bucket(250, 25), "writes": Bucket(200, 10), "deletes": Bucket(200, 10)}
        self._lock = threading.Lock()

    def limited(self, service: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
        """A service that is asked no faster than Azure takes it (rule calls-are-limited)."""

        def answer(request: HttpRequest) -> HttpResponse:
            kind = {"GET": "reads", "HEAD": "reads", "DELETE": "deletes"}.get(request.method, "writes")
            bucket = self.buckets[kind]
            with self._lock:
                is_allowed = bucket.take()
            left = {f"x-ms-ratelimit-remaining-subscription-{kind}": str(int(bucket.left))}
            if is_allowed:
                given = service(request)
                return HttpResponse(given.status, given.body, given.headers | left)
            seconds = max(1, round(1 / bucket.rate))
            refused = error(
                429, "SubscriptionRequestsThrottled", f"Too many {kind}. Try again after {seconds} seconds."
            )
            return HttpResponse(429, refused.body, refused.headers | left | {"retry-after": str(seconds)})

        return answer
