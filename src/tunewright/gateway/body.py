"""A request's body: read whole where the gateway has to know it, passed on piece by piece where not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from tunewright.core.limits import BODY_BYTES_AT_ONCE, BODY_SECONDS, GATEWAY_BODY_RATE, SMALL_BODY_BYTES
from tunewright.serving.guard import Receive

LEFT = 499
"""The status of a request whose client did not wait for the head of its answer; nginx's."""


class ClientLeft(Exception):
    """The client has disconnected."""


class TooSlow(Exception):
    """The client sends its body too slowly."""


class BodyMemory:
    """The bytes that bodies may take in memory together, without the first `SMALL_BODY_BYTES` of each."""

    def __init__(self, size: int = BODY_BYTES_AT_ONCE):
        self.free = size


class Body:
    """A request's body.

    Args:
        memory: what `read` takes its memory from, until `close`.
    """

    def __init__(self, receive: Receive, memory: BodyMemory):
        self._receive, self._memory = receive, memory
        self._waited = 0.0
        """Seconds that the client was waited for. Those in which the upstream takes nothing are not the client's."""
        self._pieces: list[bytes] = []
        """What `read` has read."""
        self._ended = asyncio.Event()
        self.size = 0
        """Bytes so far."""
        self.lacked_memory = False
        """Whether `read` gave up only because other bodies take the memory."""
        self._held = self._taken = 0
        """Bytes that `read` has read and nothing has released, and those of them that the memory counts."""

    async def read(self, most: int) -> bytes | None:
        """The whole body; None if it has more than `most` bytes or lacks memory. Then `pieces` gives all of it.

        Raises:
            ClientLeft, TooSlow
        """
        while not self._ended.is_set():
            piece = await self._next()
            self._pieces.append(piece)
            self._hold(len(piece))
            if self._held > most:
                return None
            if self._taken and self._memory.free < 0:
                self.lacked_memory = True
                return None
        whole = b"".join(self._pieces)
        self._pieces = []
        return whole

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body, piece by piece, as it arrives.

        Raises:
            ClientLeft, TooSlow
        """
        while self._pieces:
            piece = self._pieces.pop(0)
            self._hold(-len(piece))
            yield piece
        while not self._ended.is_set():
            if piece := await self._next():
                yield piece

    async def client_left(self) -> None:
        """Wait until the client disconnects. The body must be read by somebody else meanwhile."""
        await self._ended.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def close(self) -> None:
        """Give the memory back."""
        self._pieces = []
        self._hold(-self._held)

    def _hold(self, size: int) -> None:
        """Hold so many bytes more, or fewer."""
        self._held += size
        taken = max(0, self._held - SMALL_BODY_BYTES)
        self._memory.free -= taken - self._taken
        self._taken = taken

    async def _next(self) -> bytes:
        began = time.monotonic()
        try:
            async with asyncio.timeout(BODY_SECONDS + self.size / GATEWAY_BODY_RATE - self._waited):
                message = await self._receive()
        except TimeoutError:
            raise TooSlow from None
        finally:
            self._waited += time.monotonic() - began
        if message["type"] == "http.disconnect":
            raise ClientLeft
        if not message.get("more_body", False):
            self._ended.set()
        piece: bytes = message.get("body", b"")
        self.size += len(piece)
        return piece
