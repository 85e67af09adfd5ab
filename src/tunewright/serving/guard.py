"""What stands between the network and the application: keys, how many are under way, size and time of a body, and
whether anybody still waits.

Each is an ASGI middleware of its own, and they stand in this order: a stranger is refused before anything of the
request is read, and so is who finds all places taken; a body is read whole before it takes a place, so that slow
senders keep none; and what has a place is answered, unless whoever asked goes.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from tunewright.auth.identity import Identity, NoRole
from tunewright.auth.keys import Allowances, KeyRing, Principal
from tunewright.core.call import CALL, Call
from tunewright.core.limits import (
    ANSWER_SECONDS,
    BODY_BYTES_AT_ONCE,
    BODY_SECONDS,
    MOST_BODY_BYTES,
    MOST_UNDER_WAY,
    READERS_PER_PLACE,
    SMALL_BODY_BYTES,
)
from tunewright.serving.errors import refusal

PRINCIPAL = "tunewright.principal"
"""Where a request's scope has who asks."""
_OPEN = ("/health", "/ready", "/metrics")
"""Paths that need no key."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def _is_asked(scope: Message) -> bool:
    """Whether it is a request to the model, or to the list of models."""
    return scope["type"] == "http" and str(scope["path"]).startswith("/v1/")


class CheckPrincipal:
    """Lets only those ask who have a key, or a token of the identity provider, and no more often than that says."""

    def __init__(self, app: App, keys: KeyRing | None, identity: Identity | None):
        self._app, self._keys, self._identity = app, keys, identity
        self._allowances = Allowances()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _OPEN:
            await self._app(scope, receive, send)
            return
        try:
            principal = await self._find(_token(scope["headers"]))
        except NoRole:
            await refusal(403, "None of this token's roles may ask here.", "no_role")(scope, receive, send)
            return
        if principal is None:
            answer = refusal(401, "A key is needed: Authorization: Bearer KEY.", "invalid_api_key")
        elif (seconds := self._allowances.wait(principal)) > 0:
            answer = refusal(
                429,
                f"'{principal.name}' may ask {principal.per_minute} times a minute.",
                "rate_limit_exceeded",
                seconds,
            )
        else:
            scope[PRINCIPAL] = principal
            answer = self._app
        await answer(scope, receive, send)

    async def _find(self, token: str) -> Principal | None:
        if self._keys and (found := self._keys.find(token)):
            return found
        return await self._identity.find(token) if self._identity else None


def _token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    given = next((value for name, value in headers if name.lower() == b"authorization"), b"")
    scheme, _, token = given.decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class LimitBody:
    """Reads bodies, and refuses those that are too large, too slow, or too many at once.

    Args:
        readers: bodies that may be on their way at a time. Where one more comes, the one that has been longest on its
            way is given up: honest senders need no longer than others.
        at_once: bytes of bodies that are held at a time, `SMALL_BODY_BYTES` of each aside: those that are on their
            way, and those of requests that are not answered yet.
        most: bytes of a request with that scope; 0: its body is not read.
        seconds: for all of a body.
    """

    def __init__(
        self,
        app: App,
        readers: int = READERS_PER_PLACE * MOST_UNDER_WAY,
        at_once: int = BODY_BYTES_AT_ONCE,
        most: Callable[[Message], int] = lambda _: MOST_BODY_BYTES,
        seconds: float = BODY_SECONDS,
    ):
        self._app, self._most, self._seconds = app, most, seconds
        self._readers = readers
        self._left = at_once
        """Bytes that may still be taken."""
        self._reading: OrderedDict[asyncio.Timeout, None] = OrderedDict()
        """How long each body that is on its way still has, the oldest first."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        most = self._most(scope)
        if not most:
            await self._app(scope, _without_body(receive), send)
            return
        held = _Held()
        try:
            if (refused := self._refused(_length(scope["headers"]), held, most)) is None:
                refused = await self._read(receive, held, most)
            if refused is None:
                await self._app(scope, held.told_once(receive), send)
            else:
                await refused(scope, receive, send)
        finally:
            self._left += held.taken

    async def _read(self, receive: Receive, held: _Held, most: int) -> App | None:
        """Read a body. Returns the refusal, where there is one."""
        if len(self._reading) >= self._readers:
            oldest, _ = self._reading.popitem(last=False)
            if not oldest.expired():
                oldest.reschedule(asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(self._seconds) as time_left:
                self._reading[time_left] = None
                try:
                    return await self._read_whole(receive, held, most)
                finally:
                    self._reading.pop(time_left, None)
        except TimeoutError:
            slow = f"The request was not sent in time: within {self._seconds:g} s, and sooner where many are sent."
            return refusal(408, slow, "timeout")

    async def _read_whole(self, receive: Receive, held: _Held, most: int) -> App | None:
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return _nothing
            piece = message.get("body", b"")
            if refused := self._refused(held.size + len(piece), held, most):
                return refused
            needed = max(0, held.size + len(piece) - SMALL_BODY_BYTES)
            self._left -= needed - held.taken
            held.taken = needed
            held.add(piece)
            if not message.get("more_body", False):
                return None

    def _refused(self, size: int, held: _Held, most: int) -> App | None:
        """Why a body of a size is not read; None: it is."""
        if size > most:
            return refusal(413, f"The request is larger than {_told(most)}.", "request_too_large")
        if size - SMALL_BODY_BYTES - held.taken > self._left:
            return refusal(
                429, "Other large requests take all the memory there is for them; come again.", "overloaded", 1.0
            )
        return None


class _Held:
    """A body, and what it takes of the bytes that all may have."""

    def __init__(self) -> None:
        self.taken = 0
        self.size = 0
        self._buffer = io.BytesIO()

    def add(self, piece: bytes) -> None:
        self._buffer.write(piece)
        self.size += len(piece)

    def told_once(self, receive: Receive) -> Receive:
        """What an application receives of it: all in one message, which nothing here keeps."""
        waiting: list[Message] = [{"type": "http.request", "body": self._buffer.getvalue(), "more_body": False}]
        self._buffer = io.BytesIO()  # `getvalue` shares the bytes, so that they are held once

        async def replayed() -> Message:
            return waiting.pop() if waiting else await receive()

        return replayed


async def _nothing(_scope: Message, _receive: Receive, _send: Send) -> None:
    """The answer to who has gone."""


def _without_body(receive: Receive) -> Receive:
    """What is received of a request whose body nobody wants: an empty one, and when its sender goes."""
    waiting: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def received() -> Message:
        if waiting:
            return waiting.pop()
        while (message := await receive())["type"] != "http.disconnect":
            pass
        return message

    return received


def _length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Bytes that a body is said to have; 0 where nothing is said."""
    said = next((value for name, value in headers if name.lower() == b"content-length"), b"")
    return int(said) if said.isdigit() else 0


def _told(size: int) -> str:
    return f"{size >> 20} MiB" if size >> 20 else f"{size >> 10} KiB"


class Admission:
    """Answers so many requests at once, or lets them wait; tells further ones when to come again. Their bodies are not
    read where all places are taken already, and those of other requests never.

    Args:
        most: requests under way.
    """

    def __init__(self, app: App, most: int = MOST_UNDER_WAY):
        self._app, self._most = app, most
        self._read = LimitBody(self._answer, READERS_PER_PLACE * most)
        self.under_way = 0
        self._seconds = 0.1
        """That a place is taken, on average over the last requests."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif not _is_asked(scope) or scope["method"] != "POST":
            await self._app(scope, _without_body(receive), send)
        elif not await self._is_full(scope, receive, send):
            await self._read(scope, receive, send)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request whose body is there."""
        if await self._is_full(scope, receive, send):
            return
        started = time.monotonic()
        self.under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.under_way -= 1
            self._seconds += 0.1 * (time.monotonic() - started - self._seconds)

    async def _is_full(self, scope: Message, receive: Receive, send: Send) -> bool:
        """Whether all places are taken; then that is the answer."""
        if self.under_way < self._most:
            return False
        busy = f"{self.under_way} requests are under way already; come again."
        await refusal(429, busy, "overloaded", self._seconds)(scope, receive, send)
        return True


class Attendance:
    """Notes when whoever asked goes, and until when a request must be answered; see `tunewright.core.call`.

    Args:
        seconds: for an answer.
    """

    def __init__(self, app: App, seconds: float = ANSWER_SECONDS):
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if not _is_asked(scope) or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        call = Call(self._seconds)
        CALL.set(call)
        waiting = [await receive()]  # the body comes in one piece
        gone = asyncio.create_task(self._listen(receive, call))

        async def replayed() -> Message:
            if waiting:
                return waiting.pop()
            await gone
            return {"type": "http.disconnect"}

        try:
            await self._app(scope, replayed, send)
        finally:
            gone.cancel()

    async def _listen(self, receive: Receive, call: Call) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        call.gone.set()
