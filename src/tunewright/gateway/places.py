"""How many requests the gateway answers at a time, and how many bodies may arrive meanwhile."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from tunewright.core.limits import READERS_PER_PLACE
from tunewright.gateway.body import Body, TooSlow
from tunewright.gateway.upstreams import OVERLOADED, UpstreamFault


class Places:
    """The places of the requests that are answered. A request takes one when its body has arrived, so that slow senders
    take none.

    Args:
        most: places. `READERS_PER_PLACE` times as many bodies may arrive at a time. When one more comes, the gateway
            gives up the one that has taken longest: honest senders need no longer than others.
    """

    def __init__(self, most: int):
        self._most, self._taken = most, 0
        self._reading: OrderedDict[asyncio.Timeout, None] = OrderedDict()
        """The time limits of the bodies that arrive, the oldest first."""

    def require_free(self) -> None:
        """Raises:
        UpstreamFault: all places are taken.
        """
        if self._taken >= self._most:
            what = f"{self._taken} requests are under way already; try again later."
            raise UpstreamFault(429, what, OVERLOADED)

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Take a place.

        Raises:
            UpstreamFault: as `require_free`.
        """
        self.require_free()
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def read(self, body: Body, most: int) -> bytes | None:
        """The whole body, as of `Body.read`.

        Raises:
            ClientLeft, TooSlow
        """
        if len(self._reading) >= READERS_PER_PLACE * self._most:
            oldest, _ = self._reading.popitem(last=False)
            if not oldest.expired():
                oldest.reschedule(asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(None) as limit:
                self._reading[limit] = None
                try:
                    return await body.read(most)
                finally:
                    self._reading.pop(limit, None)
        except TimeoutError:
            raise TooSlow from None
