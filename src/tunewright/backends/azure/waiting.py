"""Long waits in Azure: once a minute a line says what is waited for, how long that may take, and what it costs."""

from __future__ import annotations

import time
from typing import Any

from tunewright.core.errors import UserError
from tunewright.core.progress import say

EVERY_SECONDS = 60.0
_POLL_SECONDS = 2.0


class Wait:
    """One wait, of which a line is said each minute in which nothing else was. Its time begins as it is made."""

    def __init__(self) -> None:
        self._what = ""
        self._began = self._said = time.monotonic()

    def heard(self) -> None:
        """Something else was said."""
        self._said = time.monotonic()

    def look(self, what: str, seconds: float | None = None, costs: str = "") -> bool:
        """Say what is waited for, where a minute has passed; another thing begins its time anew.

        Args:
            what: in the words behind "waiting for".
            seconds: the most that it may take; None: nobody gives up.
            costs: meanwhile, in words.

        Returns: whether it took longer than it may.
        """
        now = time.monotonic()
        if self._what and what != self._what:
            self._began = self._said = now
        self._what = what
        waited = now - self._began
        if now - self._said >= EVERY_SECONDS:
            self._said = now
            most = f", at most {seconds / 60:.0f}" if seconds else ""
            say(f"  azure: waiting for {what}, {waited / 60:.0f} min{most}{f'; {costs}' if costs else ''}")
        return seconds is not None and waited > seconds


def awaited(poller: Any, what: str, seconds: float, costs: str = "") -> Any:
    """What a long operation of the SDK gives in the end.

    Args:
        what, seconds, costs: as of `Wait.look`.

    Raises:
        azure.core.exceptions.AzureError: it failed.
        UserError: it takes longer than it may.
    """
    wait = Wait()
    while not poller.done():
        if wait.look(what, seconds, costs):
            raise UserError(
                f"Azure has not come to an end with {what} after {seconds / 60:.0f} minutes.",
                fix="See in the Azure portal what holds it up, then type the same command again.",
            )
        poller.wait(_POLL_SECONDS)  # which ends as soon as the operation does
    return poller.result()
