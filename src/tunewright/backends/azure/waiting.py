"""Long waits in Azure: once a minute a line says what we wait for, how long it may take, and what it costs."""

from __future__ import annotations

import time
from typing import Any

from tunewright.core.errors import UserError
from tunewright.core.progress import say

EVERY_SECONDS = 60.0
BROKEN = ("failed", "canceled")
"""The states, in lower case, of a resource that Azure gave up making or changing."""
_POLL_SECONDS = 2.0


class Wait:
    """One wait, which starts when the object is made. It prints a line for each minute in which nothing else was
    printed."""

    def __init__(self) -> None:
        self._what = ""
        self._start = self._printed = time.monotonic()

    def reset(self) -> None:
        """Start the minute anew, because something else was printed."""
        self._printed = time.monotonic()

    def look(self, what: str, seconds: float | None = None, costs: str = "") -> bool:
        """Print what we wait for if a minute has passed. The time starts anew if that changes.

        Args:
            what: the words after "waiting for".
            seconds: the longest that it may take; None: for ever.
            costs: what it costs meanwhile, in words.

        Returns: whether it took longer than it may.
        """
        now = time.monotonic()
        if self._what and what != self._what:
            self._start = self._printed = now
        self._what = what
        waited = now - self._start
        if now - self._printed >= EVERY_SECONDS:
            self._printed = now
            most = f", at most {seconds / 60:.0f}" if seconds else ""
            say(f"  azure: waiting for {what}, {waited / 60:.0f} min{most}{f'; {costs}' if costs else ''}")
        return seconds is not None and waited > seconds


def wait_for(poller: Any, what: str, seconds: float, costs: str = "") -> Any:
    """Wait for a long operation of the SDK and return its result.

    Args:
        what, seconds, costs: as in `Wait.look`.

    Raises:
        azure.core.exceptions.AzureError: the operation failed.
        UserError: it takes longer than it may.
    """
    wait = Wait()
    while not poller.done():
        if wait.look(what, seconds, costs):
            raise UserError(
                f"Azure has not finished with {what} after {seconds / 60:.0f} minutes.",
                fix="See in the Azure portal what holds it up, then type the same command again.",
            )
        poller.wait(_POLL_SECONDS)  # it returns as soon as the operation ends
    return poller.result()
