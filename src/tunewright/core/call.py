"""The current request (`Call`), so that the loops that compute an answer stop when the client is gone or it is too
late.

The server's middleware sets the call when it reads a request, and the context carries it into worker threads. A batch
has one for all its lines, which stops them when somebody ends the command. Trainings have none, so nothing stops them.
"""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from dataclasses import dataclass, field


class Abandoned(Exception):
    """The client has closed the connection."""


class OutOfTime(Exception):
    """A request took longer than the server allows.

    Args:
        seconds: the time limit.
    """

    def __init__(self, seconds: float):
        self.seconds = seconds
        super().__init__(f"longer than {seconds:g} s")


@dataclass(frozen=True)
class Call:
    """A request in progress.

    Args:
        seconds: the time limit for the answer.
    """

    seconds: float
    began: float = field(default_factory=time.monotonic)
    gone: threading.Event = field(default_factory=threading.Event)
    """Set when the client has closed the connection."""

    @property
    def left(self) -> float:
        """The seconds until the deadline."""
        return self.seconds - (time.monotonic() - self.began)

    def check(self) -> None:
        """Check that the answer is still needed.

        Raises:
            Abandoned: the client is gone.
            OutOfTime: the deadline is over.
        """
        if self.gone.is_set():
            raise Abandoned
        if self.left < 0:
            raise OutOfTime(self.seconds)


CALL: ContextVar[Call | None] = ContextVar("tunewright_call", default=None)
"""The call of the current context; None in trainings."""


def check_call() -> None:
    """Stop if the client is gone or the deadline is over. Every loop that computes an answer calls this.

    Raises:
        Abandoned, OutOfTime: as `Call.check`.
    """
    if call := CALL.get():
        call.check()
