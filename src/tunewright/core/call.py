"""The call under which work is done: what makes an answer longer asks at each step whether anybody still waits for it.

The server's middleware that reads a request sets it; it travels into worker threads with the context. Where there is
none, as in a batch or a training, nobody can go and nothing is late.
"""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass, field


class Abandoned(Exception):
    """Whoever asked has gone."""


class OutOfTime(Exception):
    """A request took longer than the server gives one.

    Args:
        seconds: that it had.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        super().__init__(f"longer than {seconds:g} s")


@dataclass(frozen=True)
class Call:
    """A request under way.

    Args:
        seconds: in which it must be answered.
    """

    seconds: float
    began: float = field(default_factory=time.monotonic)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set where whoever asked has gone."""

    @property
    def left(self) -> float:
        """Seconds."""
        return self.seconds - (time.monotonic() - self.began)

    def check(self) -> None:
        """Raises:
        Abandoned: nobody waits for the answer any more.
        OutOfTime: the deadline is over.
        """
        if self.gone.is_set():
            raise Abandoned
        if self.left < 0:
            raise OutOfTime(self.seconds)


CALL: ContextVar[Call | None] = ContextVar("tunewright_call", default=None)
"""The one under way here; None where nobody can go."""


def check_call() -> None:
    """Stop where nobody waits any more, or it is too late. Every loop that an answer takes calls it.

    Raises:
        Abandoned, OutOfTime: as `Call.check`.
    """
    if call := CALL.get():
        call.check()
