"""Pass a request to an upstream, and its answer back, as they are."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import aiohttp

from tunewright.auth.keys import Principal
from tunewright.core.limits import GATEWAY_BODY_BYTES, JSON_DEPTH, JSON_PARTS, SMALL_BODY_BYTES
from tunewright.core.strict_json import depth_of
from tunewright.gateway.body import LEFT, Body, BodyMemory, ClientLeft, TooSlow
from tunewright.gateway.connection import UpstreamConnection
from tunewright.gateway.headers import OWN, asks_for_websocket, has_control_characters, to_client, value_of
from tunewright.gateway.observation import Observation, Observer
from tunewright.gateway.own_responses import is_own_response
from tunewright.gateway.places import Places
from tunewright.gateway.routes import Route, route_of
from tunewright.gateway.tunnel import tunnel
from tunewright.gateway.upstreams import OVERLOADED, UpstreamFault, Upstreams
from tunewright.serving.connections import HANG_UP, SWITCH, SWITCHING
from tunewright.serving.errors import refusal
from tunewright.serving.guard import NO_MEMORY, PRINCIPAL, Message, Receive, Send

if TYPE_CHECKING:
    from tunewright.gateway.takeover.answering import JobAnswerer
    from tunewright.gateway.takeover.budgets import Budgets
    from tunewright.gateway.takeover.job import OwnedJob
    from tunewright.gateway.tracing import Tracing

_LARGE = 1 << 20
"""Bytes of JSON that a thread reads, because they take tens of milliseconds."""
_LONG = 32 << 10
"""Bytes of a request in which a thread looks for a job, because that takes milliseconds and more."""
_LOG = logging.getLogger(__name__)
_WITHOUT_BODY = (204, 304)
_CUT_OFF = 500
"""The status that the server sends where the gateway stops before an answer has begun."""
_NO_CAPTURE = OWN + b"capture"


class Forwarder:
    """Answers requests from upstreams.

    Args:
        connections: by the upstreams' names.
        places: of the requests that are answered at a time.
        jobs: answers the jobs that own models may take over; None: there are none.
        budgets: None: there are none.
        tracing: None: no traces are sent.
    """

    def __init__(
        self,
        upstreams: Upstreams,
        connections: Mapping[str, UpstreamConnection],
        places: Places,
        observer: Observer,
        jobs: JobAnswerer | None,
        budgets: Budgets | None,
        tracing: Tracing | None,
    ):
        self._upstreams, self._connections, self._places = upstreams, connections, places
        self._observer = observer
        self._jobs, self._budgets, self._tracing = jobs, budgets, tracing
        self._memory = BodyMemory()

    async def close(self) -> None:
        """Give up what goes on behind the answers."""
        if self._jobs:
            await self._jobs.close()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        route = route_of(scope["method"], scope["path"])
        principal = scope.get(PRINCIPAL)
        wanted = value_of(scope["headers"], _NO_CAPTURE).strip().lower() != "no"
        body = Body(receive, self._memory)
        seen = Observation(route, scope["path"], body, principal.name if principal else None, wanted)
        sent = _Sent(send)
        with self._tracing.request(scope, seen) if self._tracing else nullcontext():
            await self._answer_or_fail(scope, receive, route, body, sent, seen)

    async def _answer_or_fail(
        self, scope: Message, receive: Receive, route: Route, body: Body, sent: _Sent, seen: Observation
    ) -> None:
        try:
            await self._answer(scope, route, body, sent, seen)
        except ClientLeft:
            seen.status = seen.status or LEFT
            await self._observer.note(seen, "left")
        except TooSlow:
            await self._fail(
                scope, receive, sent, seen, UpstreamFault(408, "The request did not arrive in time.", "timeout")
            )
        except UpstreamFault as fault:
            await self._fail(scope, receive, sent, seen, fault)
        except (aiohttp.ClientError, TimeoutError) as error:
            reason = str(error) or type(error).__name__
            broken = UpstreamFault(502, f"The upstream '{seen.upstream}' broke off: {reason}.", "upstream_broke_off")
            await self._fail(scope, receive, sent, seen, broken)
        except asyncio.CancelledError:  # the gateway stops, and the time of answers under way is over
            seen.status = seen.status or _CUT_OFF
            await self._observer.note(seen, "broken")
            raise
        finally:
            body.close()

    async def _answer(self, scope: Message, route: Route, body: Body, send: _Sent, seen: Observation) -> None:
        _check_head(scope)
        whole = await self._places.read(body, SMALL_BODY_BYTES if route.kind == "other" else GATEWAY_BODY_BYTES)
        with self._places.taken():
            await self._answer_read(scope, route, body, whole, send, seen)

    async def _answer_read(
        self, scope: Message, route: Route, body: Body, whole: bytes | None, send: _Sent, seen: Observation
    ) -> None:
        """Answer a request whose body has arrived, or as much of it as the gateway reads."""
        if whole is not None and route.kind != "other":
            seen.request = await _read_json(whole)
        principal: Principal | None = scope.get(PRINCIPAL)
        is_confined = principal is not None and principal.models is not None
        if body.lacked_memory and seen.model is None and (is_confined or self._upstreams.needs_model(route)):
            raise UpstreamFault(429, NO_MEMORY, OVERLOADED)
        if whole is None and self._upstreams.needs_model(route):
            what = f"This gateway has several upstreams, and reads only {GATEWAY_BODY_BYTES >> 20} MiB to choose one."
            raise UpstreamFault(413, what, "request_too_large")
        if principal and principal.models is not None and not (seen.model and principal.may_use(seen.model)):
            models = ", ".join(principal.models) or "none"
            raise UpstreamFault(403, f"'{principal.name}' may use these models only: {models}.", "no_model")
        if whole is not None and is_confined and not route.deployment and not await _names_one_model(whole):
            raise UpstreamFault(400, "The request names its model more than once.", "invalid_request")
        if route.kind == "responses" and is_own_response((seen.request or {}).get("previous_response_id")):
            what = (
                "An own model gave the previous response, and no API keeps it. Send the whole conversation as input; "
                "or send store: true with its first request, which the API then answers and keeps."
            )
            raise UpstreamFault(400, what, "previous_response_not_found")
        upstream = self._upstreams.choose(scope["path"], seen.model)
        seen.upstream = upstream.name
        limit = asyncio.timeout(None)
        watch = asyncio.create_task(_end_when_left(body, limit))
        try:
            async with limit:
                await self._by_job_or_upstream(scope, route, body, whole, send, seen)
        except TimeoutError:
            if limit.expired():
                raise ClientLeft from None
            raise
        finally:
            watch.cancel()

    async def _by_job_or_upstream(
        self, scope: Message, route: Route, body: Body, whole: bytes | None, send: _Sent, seen: Observation
    ) -> None:
        connection = self._connections[seen.upstream]

        async def ask() -> aiohttp.ClientResponse:
            seen.asked = time.perf_counter()
            try:
                if self._tracing:
                    return await _ask_traced(self._tracing, connection, scope, body, whole, seen)
                return await connection.ask(scope, body, whole, {})
            except UpstreamFault as fault:
                if fault.may_be_billed:  # also where an own model answers in its place, or nobody waits for it
                    self._observer.metrics.never_came(connection.upstream.name, route.kind)
                raise

        async def pass_back(response: aiohttp.ClientResponse) -> None:
            try:
                await self._pass_back(scope, response, send, seen)
            finally:
                response.release()

        found = await self._find_job(route, seen)
        job = found[0].name if found else None
        if self._budgets and (budget := self._budgets.used_up(seen.client, job)):
            what = f"The budget of {budget.scope} for this month (${budget.usd_per_month:,.2f}) is used up."
            used_up = UpstreamFault(429, what, "insufficient_quota")
            if self._jobs and found and budget.then == "own":
                await self._jobs.without_api(*found, seen, send, used_up)
                return
            raise used_up
        if self._jobs and found:
            try:
                await self._jobs(*found, seen, send, ask, pass_back)
                return
            except (UpstreamFault, ClientLeft, TooSlow, aiohttp.ClientError, TimeoutError):
                raise
            except Exception as error:
                # Whatever is wrong with the own model, the API answers. The message may hold some of the request.
                _LOG.error("A request of the job %s failed: %s", found[0].name, type(error).__name__)
                if send.has_begun:
                    raise
        await pass_back(await ask())

    async def _find_job(self, route: Route, seen: Observation) -> tuple[OwnedJob, str] | None:
        """The job of a request and its input; None: there is none."""
        if not self._jobs or not seen.request:
            return None
        if seen.body.size > _LONG:
            return await asyncio.to_thread(self._jobs.find, route.kind, seen.request)
        return self._jobs.find(route.kind, seen.request)

    async def _pass_back(
        self, scope: Message, response: aiohttp.ClientResponse, send: _Sent, seen: Observation
    ) -> None:
        seen.begin_answer(response.status, response.headers, self._observer.largest(seen))
        if response.status == SWITCHING:
            await self._tunnel(scope, response, send, seen)
            return
        headers = to_client(response.raw_headers)
        length = response.headers.get("content-length", "")
        expected = int(length) if length.isdigit() else -1
        # Noted before the client can know that the answer has ended, so that a kill loses no exchange that ended.
        if expected == 0 or scope["method"] == "HEAD" or response.status in _WITHOUT_BODY:
            await self._observer.note(seen, "whole")
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        async for piece in response.content.iter_any():
            if seen.add_piece(piece) or seen.answer_bytes == expected:
                await self._observer.note(seen, "whole")
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await self._observer.note(seen, "whole")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _tunnel(self, scope: Message, response: aiohttp.ClientResponse, send: _Sent, seen: Observation) -> None:
        if not asks_for_websocket(scope["headers"]) or response.connection is None:
            what = f"The upstream '{seen.upstream}' switches to another protocol, which nobody asked for."
            raise UpstreamFault(502, what, "upstream_broke_off")

        def received(size: int) -> None:
            seen.first = seen.first or time.perf_counter()
            seen.answer_bytes += size

        send.has_begun = True
        await tunnel(scope[SWITCH], response, received)
        await self._observer.note(seen, "whole")

    async def _fail(
        self, scope: Message, receive: Receive, send: _Sent, seen: Observation, fault: UpstreamFault
    ) -> None:
        """Tell the client of a fault; once the answer has begun, only the end of the connection can."""
        if send.has_begun:
            await self._observer.note(seen, "broken")
            scope[HANG_UP]()
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        seen.status = fault.status
        await self._observer.note(seen, "whole")
        retry_after = 1.0 if fault.status in (502, 503) or fault.code == OVERLOADED else None
        await refusal(fault.status, str(fault), fault.code, retry_after)(scope, receive, send)


class _Sent:
    """A `send` that knows whether an answer has begun."""

    def __init__(self, send: Send):
        self._send = send
        self.has_begun = False

    async def __call__(self, message: Message) -> None:
        self.has_begun = True
        await self._send(message)


async def _ask_traced(
    tracing: Tracing, connection: UpstreamConnection, scope: Message, body: Body, whole: bytes | None, seen: Observation
) -> aiohttp.ClientResponse:
    question = seen.question = tracing.question(connection.upstream, scope["method"], seen)
    try:
        response = await connection.ask(scope, body, whole, question.passed_on())
    except BaseException as error:
        question.failed(error)
        raise
    question.answered(response.status)
    return response


async def _end_when_left(body: Body, limit: asyncio.Timeout) -> None:
    """Give up when the client disconnects."""
    await body.client_left()
    limit.reschedule(asyncio.get_running_loop().time())


def _check_head(scope: Message) -> None:
    """Raises:
    UpstreamFault: a request can't be passed on as it is, or an upstream may read its path in another way.
    """
    path = scope["path"]
    # Some servers leave out what follows a semicolon in a segment, and take a backslash for a slash.
    is_step = any(segment.partition(";")[0] in (".", "..") for segment in path.split("/"))
    if not scope["raw_path"].startswith(b"/"):  # behind a host's name it would be part of another host's
        fault = "The path of a request begins with a slash."
    elif is_step or "\\" in path:  # an upstream may take it for another deployment's path
        fault = "The path of a request has no backslashes, and no steps '.' and '..'."
    elif b"#" in scope["raw_path"] or b"#" in scope["query_string"]:  # what follows would not be passed on
        fault = "The path and the query of a request have no '#'."
    elif has_control_characters(scope["headers"]):
        fault = "The headers of a request have no control characters."
    else:
        return
    raise UpstreamFault(400, fault, "invalid_request")


async def _read_json(body: bytes) -> dict[str, Any] | None:
    """The JSON object of a body; None: it is none, or is nested too deep."""
    # Counted first, because reading keeps all other requests waiting.
    if sum(map(body.count, (b"[", b"{", b","))) > JSON_PARTS:
        return None
    value = await asyncio.to_thread(_parsed, body) if len(body) > _LARGE else _parsed(body)
    return value if isinstance(value, dict) else None


def _parsed(body: bytes) -> Any:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return None
    # Counted first, because nearly all requests have fewer brackets than that.
    is_deep = body.count(b"[") + body.count(b"{") > JSON_DEPTH and depth_of(value) > JSON_DEPTH
    return None if is_deep else value


async def _names_one_model(body: bytes) -> bool:
    """Whether the object of a body has `model` once, in any case. Of several, some servers take the first and some the
    last, and some of them don't mind the case."""
    pairs = await asyncio.to_thread(_pairs, body) if len(body) > _LARGE else _pairs(body)
    return sum(name.casefold() == "model" for name, _ in pairs) == 1


def _pairs(body: bytes) -> list[tuple[str, Any]]:
    """The keys and values of a JSON object, those that are repeated too."""
    pairs: list[tuple[str, Any]] = json.loads(body, object_pairs_hook=list)
    return pairs
