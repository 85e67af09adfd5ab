"""What stands between the network and the application: keys, size and time of a body, how many are under way, and
whether anybody still waits.

Each is an ASGI middleware of its own, and they stand in this order: a stranger is refused before anything of the
request is read; a body is read whole before it takes a place, so that slow senders keep none; and what has a place is
answered, unless whoever asked goes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

from tunewright.call import CALL, Call
from tunewright.serve.body import MOST_DOCUMENT_BYTES
from tunewright.serve.errors import refusal
from tunewright.serve.identity import Identity, NoRole
from tunewright.serve.keys import Allowances, Asker, KeyRing

MOST_BODY_BYTES = 3 * MOST_DOCUMENT_BYTES // 2
"""Bytes of a request: a document in base64, which takes a third more, and what stands around it."""
BODY_SECONDS = 30.0
"""In which a body must have been sent."""
ANSWER_SECONDS = 120.0
"""In which a request must be answered."""
ASKER = "tunewright.asker"
"""Where a request's scope has who asks."""
MOST_UNDER_WAY = 64
"""Requests that are answered or wait for it; a further one is told to come again."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


def _is_asked(scope: Message) -> bool:
    """Whether it is a request to the model, or to the list of models."""
    return scope["type"] == "http" and str(scope["path"]).startswith("/v1/")


class CheckAsker:
    """Lets only those ask who have a key, or a token of the identity provider, and no more often than that says."""

    def __init__(self, app: App, keys: KeyRing | None, identity: Identity | None):
        self._app, self._keys, self._identity = app, keys, identity
        self._allowances = Allowances()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if not _is_asked(scope):
            await self._app(scope, receive, send)
            return
        try:
            asker = await self._find(_token(scope["headers"]))
        except NoRole:
            await refusal(403, "None of this token's roles may ask here.", "no_role")(scope, receive, send)
            return
        if asker is None:
            answer = refusal(401, "A key is needed: Authorization: Bearer KEY.", "invalid_api_key")
        elif (seconds := self._allowances.wait(asker)) > 0:
            answer = refusal(
                429, f"'{asker.name}' may ask {asker.per_minute} times a minute.", "rate_limit_exceeded", seconds
            )
        else:
            scope[ASKER] = asker
            answer = self._app
        await answer(scope, receive, send)

    async def _find(self, token: str) -> Asker | None:
        if self._keys and (found := self._keys.find(token)):
            return found
        return await self._identity.find(token) if self._identity else None


def _token(headers: Iterable[tuple[bytes, bytes]]) -> str:
    given = next((value for name, value in headers if name.lower() == b"authorization"), b"")
    scheme, _, token = given.decode("latin-1").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


class LimitBody:
    """Refuses a request of more than some bytes without reading it to its end, and one that does not come to its end.

    Args:
        most: bytes.
        seconds: for all of it.
    """

    def __init__(self, app: App, most: int = MOST_BODY_BYTES, seconds: float = BODY_SECONDS):
        self._app, self._most, self._seconds = app, most, seconds

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._seconds):
                body = await self._read(receive)
        except TimeoutError:
            await refusal(408, f"The request was not sent within {self._seconds:g} s.", "timeout")(scope, receive, send)
            return
        except OverflowError:
            large = f"The request is larger than {self._most >> 20} MiB."
            await refusal(413, large, "request_too_large")(scope, receive, send)
            return
        if body is None:
            return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replayed() -> Message:
            return waiting.pop() if waiting else await receive()

        await self._app(scope, replayed, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """The body; None where the sender has gone."""
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._most:
                raise OverflowError
        return bytes(body)


class Admission:
    """Answers so many requests at once, or lets them wait; tells further ones when to come again.

    Args:
        most: requests under way.
    """

    def __init__(self, app: App, most: int = MOST_UNDER_WAY):
        self._app, self._most = app, most
        self.under_way = 0
        self._seconds = 0.1
        """That a place is taken, on average over the last requests."""

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if not _is_asked(scope) or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        if self.under_way >= self._most:
            busy = f"{self.under_way} requests are under way already; come again."
            await refusal(429, busy, "overloaded", self._seconds)(scope, receive, send)
            return
        started = time.monotonic()
        self.under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.under_way -= 1
            self._seconds += 0.1 * (time.monotonic() - started - self._seconds)


class Attendance:
    """Notes when whoever asked goes, and until when a request must be answered; see `tunewright.call`.

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
        body, gone = await receive(), asyncio.create_task(self._listen(receive, call))  # the body comes in one piece
        waiting = [body]

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
