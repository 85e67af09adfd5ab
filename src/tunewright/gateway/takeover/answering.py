"""Answering a request of a job: by the own model, by the API, or by whichever is first."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING

import aiohttp

from tunewright.gateway.headers import OWN
from tunewright.gateway.observation import BY_OWN_MODEL, COMPARED_BYTES, JobNote, Observation, Observer
from tunewright.gateway.takeover.job import OwnedJob
from tunewright.gateway.takeover.jobs import Takeover
from tunewright.gateway.takeover.models import OwnAnswer, OwnModelFailed
from tunewright.gateway.takeover.replies import CantReplace, asks_for_more, choice_of, reply_body
from tunewright.gateway.upstreams import UpstreamFault
from tunewright.serving.guard import Send

if TYPE_CHECKING:
    from tunewright.gateway.tracing import Tracing

Ask = Callable[[], Awaitable[aiohttp.ClientResponse]]
"""Asks the API: the head of its answer."""
PassBack = Callable[[aiohttp.ClientResponse], Awaitable[None]]
"""Sends the API's answer to the client."""
_FAILING = (408, 429)
"""Statuses below 500 at which the own model may answer instead."""
_COMPARISONS = 200
"""Comparisons that may be under way."""
_LARGEST = 1 << 20
"""Bytes of a request that is compared."""


class JobAnswerer:
    """Answers requests of jobs. Comparisons go on after the client has its answer."""

    def __init__(self, takeover: Takeover, observer: Observer, tracing: Tracing | None):
        self.find = takeover.find
        self._observer, self._tracing = observer, tracing
        self._comparing: set[asyncio.Task[None]] = set()

    async def __call__(
        self, job: OwnedJob, text: str, seen: Observation, send: Send, ask: Ask, pass_back: PassBack
    ) -> None:
        """Answer a request.

        Raises:
            UpstreamFault, aiohttp.ClientError, TimeoutError: the API fails, and the own model does not stand in.
        """
        plan = job.plan(seen.id, text)
        note = seen.job = JobNote(job.name, job.setting.mode, job.noted)
        upstream = seen.upstream
        able = not asks_for_more(seen.request or {})
        own: OwnAnswer | None = None
        asked: asyncio.Task[aiohttp.ClientResponse] | None = None
        try:
            if plan.own_first and able:
                own, asked = await self._own_first(job, text, seen, ask)
                if own and (own.is_sure or plan.any_confidence) and await self._give(job, seen, send, own):
                    if asked or (plan.compares and self._has_room(seen)):
                        self._later(self._audit(job, text, seen, own, asked or asyncio.ensure_future(ask()), upstream))
                        asked = None
                    return
                if own:
                    job.unsure()
            asked = asked or asyncio.ensure_future(ask())
            fault: UpstreamFault | None = None
            response: aiohttp.ClientResponse | None = None
            try:
                response = await asked
            except UpstreamFault as error:
                fault = error
            reason = fault.code if fault else _failing(response)
            if reason and job.spec.fallback and able:
                with suppress(OwnModelFailed):
                    own = own or await self._own_answer(job, text, seen)
                    note.fallback = reason
                    if await self._give(job, seen, send, own):
                        return
                    note.fallback = None
            if fault:
                raise fault
            assert response
            await pass_back(response)
            if own or (plan.compares and not plan.own_first and self._has_room(seen)):
                self._later(self._compare(job, text, seen, own))
        finally:
            if asked:
                _release(asked)

    async def without_api(
        self, job: OwnedJob, text: str, seen: Observation, send: Send, otherwise: UpstreamFault
    ) -> None:
        """Answer a request by the own model alone.

        Raises:
            UpstreamFault: `otherwise`: the own model has no answer.
        """
        seen.job = JobNote(job.name, job.setting.mode, job.noted, fallback=otherwise.code)
        if not asks_for_more(seen.request or {}):
            with suppress(OwnModelFailed):
                if await self._give(job, seen, send, await self._own_answer(job, text, seen)):
                    return
        seen.job.fallback = None
        raise otherwise

    async def close(self) -> None:
        """Give up the comparisons under way."""
        for task in self._comparing:
            task.cancel()
        await asyncio.gather(*self._comparing, return_exceptions=True)

    async def _own_first(
        self, job: OwnedJob, text: str, seen: Observation, ask: Ask
    ) -> tuple[OwnAnswer | None, asyncio.Task[aiohttp.ClientResponse] | None]:
        """(the own answer, the API's if it was asked meanwhile). If the own model takes longer than nearly always, the
        API is asked too, and the first usable answer counts."""
        own = asyncio.ensure_future(self._own_answer(job, text, seen))
        asked: asyncio.Task[aiohttp.ClientResponse] | None = None
        try:
            done, _ = await asyncio.wait({own}, timeout=job.patience)
            if not done:
                asked = asyncio.ensure_future(ask())
                await asyncio.wait({own, asked}, return_when=asyncio.FIRST_COMPLETED)
                # If the API fails, the own model has all the time it needs.
                if not own.done() and (asked.exception() or _failing(asked.result())):
                    await asyncio.wait({own})
            if own.done() and own.exception() is None:
                return own.result(), asked
        except BaseException:
            if asked:
                _release(asked)
            raise
        finally:
            if not own.done():
                own.cancel()
            elif not own.cancelled():
                own.exception()  # looked at, so that asyncio reports no lost one
        return None, asked

    async def _own_answer(
        self, job: OwnedJob, text: str, seen: Observation, *, in_background: bool = False
    ) -> OwnAnswer:
        """The own model's answer, in a span of its own and captured for review.

        Raises:
            OwnModelFailed: as `OwnedJob.own_answer`.
        """
        with self._tracing.own(job.name, job.version, seen.route.kind) if self._tracing else nullcontext() as answered:
            answer = await job.own_answer(text, in_background=in_background)
            if answered:
                answered(answer)
        await job.keep(seen, text, answer)
        return answer

    async def _give(self, job: OwnedJob, seen: Observation, send: Send, own: OwnAnswer) -> bool:
        """Send an own answer to the client. Returns False if it can't stand in for the API's."""
        assert seen.request is not None and seen.job is not None
        try:
            choice = choice_of(own, job.signature, seen.request)
        except CantReplace:
            return False
        model = seen.model or ""
        content_type, body = reply_body(seen.route.kind, seen.id, model, choice, own, seen.request)
        seen.job.answered_by, seen.job.version, seen.job.confidence = "own", own.version, own.confidence
        seen.status, seen.streamed = 200, seen.request.get("stream") is True
        seen.reader, seen.upstream = None, BY_OWN_MODEL
        seen.answer.model, seen.answer.choices, seen.answer.is_whole = own.version, [choice], True
        seen.first, seen.answer_bytes = time.perf_counter(), len(body)
        job.given(seen, is_fallback=seen.job.fallback is not None)
        await self._observer.note(seen, "whole")
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"x-request-id", f"tw-{seen.id}".encode()),
            (OWN + b"answered-by", b"own"),
            (OWN + b"bundle", own.version.encode("latin-1", "replace")),
        ]
        if own.confidence is not None:
            headers.append((OWN + b"confidence", f"{own.confidence:.4f}".encode()))
        if seen.job.fallback:
            headers.append((OWN + b"fallback", seen.job.fallback.encode()))
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})
        return True

    def _later(self, comparison: Awaitable[None]) -> None:
        """Compare off the critical path."""
        task = asyncio.ensure_future(_quietly(comparison))
        self._comparing.add(task)
        task.add_done_callback(self._comparing.discard)

    def _has_room(self, seen: Observation) -> bool:
        """Whether one more comparison may begin. If not, the request is not compared."""
        return len(self._comparing) < _COMPARISONS and seen.body.size <= _LARGEST

    async def _audit(
        self,
        job: OwnedJob,
        text: str,
        seen: Observation,
        own: OwnAnswer,
        asked: asyncio.Task[aiohttp.ClientResponse],
        upstream: str,
    ) -> None:
        """Read the API's answer to a request that the own model has answered, and compare."""
        try:
            response = await asked
            audit = Observation(
                seen.route,
                seen.path,
                seen.body,
                seen.client,
                seen.is_wanted,
                came=seen.came,
                begun=seen.asked or seen.begun,  # its time is the API's alone, without what the own model took before
                request=seen.request,
                upstream=upstream,
                job=JobNote(job.name, job.setting.mode, job.audited, is_audit=True),
                question=seen.question,
            )
            audit.begin_answer(response.status, response.headers, COMPARED_BYTES)
            try:
                async for piece in response.content.iter_any():
                    audit.add_piece(piece)
            except (aiohttp.ClientError, TimeoutError):
                await self._observer.note(audit, "broken")
                raise
        except BaseException as error:
            if seen.question:
                seen.question.failed(error)
            raise
        finally:
            _release(asked)
        await self._observer.note(audit, "whole")
        if audit.status == 200 and (said := audit.answer.finished):
            job.compare(text, own, said, was_given=True)
            await job.keep_second(seen, text, own, said)

    async def _compare(self, job: OwnedJob, text: str, seen: Observation, own: OwnAnswer | None) -> None:
        """Compare the API's answer, which the client has, with the own model's."""
        said = seen.answer.finished
        if seen.status != 200 or said is None:
            return
        own = own or await self._own_answer(job, text, seen, in_background=True)
        job.compare(text, own, said, was_given=False)
        await job.keep_second(seen, text, own, said)


async def _quietly(comparison: Awaitable[None]) -> None:
    """A comparison that fails is none."""
    with suppress(OwnModelFailed, UpstreamFault, aiohttp.ClientError, TimeoutError):
        await comparison


def _failing(response: aiohttp.ClientResponse | None) -> str | None:
    """Why an answer of the API is none; None: it is one, or the client's own mistake."""
    status = response.status if response else 0
    return f"status {status}" if status in _FAILING or status >= 500 else None


def _release(asked: asyncio.Task[aiohttp.ClientResponse]) -> None:
    """Give back the connection of a request, whether or not it has been answered."""

    def give_back(task: asyncio.Task[aiohttp.ClientResponse]) -> None:
        if not task.cancelled() and task.exception() is None:
            task.result().release()

    if asked.done():
        give_back(asked)
    else:
        asked.add_done_callback(give_back)
        asked.cancel()
