"""Work that is done several times a second in a thread, and once more at the end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

from tunewright.core.errors import UserError
from tunewright.core.progress import say

_EVERY = 0.25
"""Seconds between two times, and so what a kill may cost of the counts."""


class Regularly:
    """Does a piece of work several times a second. If it fails, that is said once, and it is tried again.

    Args:
        work: done in a thread, one at a time.
        trouble: what to say where it fails.
    """

    def __init__(self, work: Callable[[], None], trouble: str):
        self._work, self._trouble = work, trouble
        self._is_troubled = False
        self._turn = threading.Lock()
        """Held during the work, because a cancelled one may still run in its thread while the last begins."""
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """Begin, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._keep_on())

    async def close(self) -> None:
        """End, after the work was done once more."""
        if self._task:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self.now)

    def now(self) -> None:
        """Do the work at once."""
        with self._turn:
            try:
                self._work()
            except Exception as error:  # noqa: BLE001 (whatever it is, the work must go on)
                if not self._is_troubled:
                    # The message of any other error may hold some of a request.
                    reason = error.paragraph() if isinstance(error, UserError) else f"{type(error).__name__}."
                    say(f"{self._trouble} {reason}")
                self._is_troubled = True
            else:
                self._is_troubled = False

    async def _keep_on(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            await asyncio.to_thread(self.now)
