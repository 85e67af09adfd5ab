"""The middlewares between the network and the application: keys, requests under way, size and time of a body, and
disconnected clients.

A request meets them in this order. `CheckPrincipal` refuses a client without a key before the server reads anything of
the body. `Admission` does the same when too many requests are under way, and reads a body whole before the request
takes a place, so that slow senders take none. `TrackCall` notes when the client disconnects.
"""

from __future__ import annotations

import asyncio
import io
import re
import time
import uuid
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
"""The key of a request's scope that has its `Principal`."""
NO_MEMORY = "Other large requests take all the memory for request bodies; try again later."
"""Why a large body is refused where others take all of `BODY_BYTES_AT_ONCE`."""
_OPEN = ("/health", "/ready", "/metrics")
"""Paths that may be read without a key."""
_REQUEST_ID = re.compile(rb"[!-~]{1,128}")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def _is_api_request(scope: Message) -> bool:
    """Whether a request is for a model or for the list of models."""
    return scope["type"] == "http" and str(scope["path"]).startswith("/v1/")


def _is_open(scope: Message) -> bool:
    """Whether a request needs no key. Only a reading one does: others have a body, and the gateway forwards them."""
    return scope["path"] in _OPEN and scope["method"] in ("GET", "HEAD")


class GiveRequestId:
    """Gives every reply an `x-request-id`: the client's own, if it is short and plain, else a new one."""

    def __init__(self, app: App):
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        identity = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex.encode()

        async def identified(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", identity)]
            await send(message)

        await self._app(scope, receive, identified)


class CheckPrincipal:
    """Lets clients in that have a key or a token of the identity provider, as often as its grant allows."""

    def __init__(self, app: App, keys: KeyRing | None, identity: Identity | None):
        self._app, self._keys, self._identity = app, keys, identity
        self._allowances = Allowances()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or _is_open(scope):
            await self._app(scope, receive, send)
            return
        try:
            principal = await self._find(_token(scope["headers"]))
        except NoRole:
            await refusal(403, "None of this token's roles may use this server.", "no_role")(scope, receive, send)
            return
        if principal is None:
            answer = refusal(401, "The request needs a key: Authorization: Bearer KEY.", "invalid_api_key")
        elif (seconds := self._allowances.wait(principal)) > 0:
            answer = refusal(
                429,
                f"'{principal.name}' may send {principal.per_minute} requests a minute.",
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
    """The key of a request: OpenAI's clients send it as a bearer token, Azure OpenAI's as `api-key`, Anthropic's as
    `x-api-key`."""
    given = {name.lower(): value.decode("latin-1") for name, value in headers}
    scheme, _, token = given.get(b"authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return (given.get(b"api-key") or given.get(b"x-api-key", "")).strip()


class LimitBody:
    """Reads bodies, and refuses those that are too large, too slow, or too many at once.

    Args:
        readers: bodies that may arrive at the same time. When one more comes, the server gives up the one that has
            taken longest: honest senders need no longer than others.
        at_once: bytes of bodies that the server holds at a time, without the first `SMALL_BODY_BYTES` of each. Bodies
            that arrive count, and those of requests without an answer yet.
        most: scope -> bytes that the request's body may have; 0: the server does not read it.
        seconds: time limit for a whole body.
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
        """Bytes of `at_once` that are free."""
        self._reading: OrderedDict[asyncio.Timeout, None] = OrderedDict()
        """The time limits of the bodies that arrive, the oldest first."""

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
                await self._app(scope, held.replayed(receive), send)
            else:
                await refused(scope, receive, send)
        finally:
            self._left += held.taken

    async def _read(self, receive: Receive, held: _Held, most: int) -> App | None:
        """Read a body. Returns the refusal, if there is one."""
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
            reason = f"The request did not arrive in time: {self._seconds:g} s, and less when many requests arrive."
            return refusal(408, reason, "timeout")

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
        """The refusal of a body of some size; None: the server reads it."""
        if size > most:
            return refusal(413, f"The request is larger than {_size_text(most)}.", "request_too_large")
        if size - SMALL_BODY_BYTES - held.taken > self._left:
            return refusal(429, NO_MEMORY, "overloaded", 1.0)
        return None


class _Held:
    """A body that is held in memory."""

    def __init__(self) -> None:
        self.taken = 0
        """Bytes that it takes of `LimitBody`'s `at_once`."""
        self.size = 0
        self._buffer = io.BytesIO()

    def add(self, piece: bytes) -> None:
        self._buffer.write(piece)
        self.size += len(piece)

    def replayed(self, receive: Receive) -> Receive:
        """A `receive` that gives the body to the application in one message, and keeps no copy of it."""
        waiting: list[Message] = [{"type": "http.request", "body": self._buffer.getvalue(), "more_body": False}]
        self._buffer = io.BytesIO()  # `getvalue` shares the bytes, so memory holds them once

        async def replay() -> Message:
            return waiting.pop() if waiting else await receive()

        return replay


async def _nothing(_scope: Message, _receive: Receive, _send: Send) -> None:
    """The answer to a client that has disconnected."""


def _without_body(receive: Receive) -> Receive:
    """A `receive` that gives an empty body, and then waits for the client to disconnect."""
    waiting: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def received() -> Message:
        if waiting:
            return waiting.pop()
        while (message := await receive())["type"] != "http.disconnect":
            pass
        return message

    return received


def _length(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """The Content-Length; 0 without such a header."""
    length = next((value for name, value in headers if name.lower() == b"content-length"), b"")
    return int(length) if length.isdigit() else 0


def _size_text(size: int) -> str:
    return f"{size >> 20} MiB" if size >> 20 else f"{size >> 10} KiB"


class Admission:
    """Lets a number of requests be under way at once, and refuses further ones with the time to retry after.

    It reads no body when all places are taken, and none of requests that are not for a model.

    Args:
        most: requests under way.
    """

    def __init__(self, app: App, most: int = MOST_UNDER_WAY):
        self._app, self._most = app, most
        self._read = LimitBody(self._answer, READERS_PER_PLACE * most)
        self.under_way = 0
        self._seconds = 0.1
        """How long a request takes, on average over the last ones."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif not _is_api_request(scope) or scope["method"] != "POST":
            await self._app(scope, _without_body(receive), send)
        elif not await self._is_full(scope, receive, send):
            await self._read(scope, receive, send)

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request whose body has arrived."""
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
        """Whether all places are taken. If so, it refuses the request."""
        if self.under_way < self._most:
            return False
        reason = f"{self.under_way} requests are under way already; try again later."
        await refusal(429, reason, "overloaded", self._seconds)(scope, receive, send)
        return True


class TrackCall:
    """Gives each request a `Call`: its time limit, and whether the client has disconnected.

    See `tunewright.core.call`.

    Args:
        seconds: time limit for an answer.
    """

    def __init__(self, app: App, seconds: float = ANSWER_SECONDS):
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if not _is_api_request(scope) or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        call = Call(self._seconds)
        CALL.set(call)
        waiting = [await receive()]  # `LimitBody` gives the body in one message
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
