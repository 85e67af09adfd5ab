"""What the gateway notes of one request and its answer, and where it goes: the captures and the metrics."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from tunewright.economics.prices import PriceBook
from tunewright.economics.usage import usd_by_book
from tunewright.gateway.answers import AnswerReader, ReadAnswer, reader_of
from tunewright.gateway.body import Body
from tunewright.gateway.estimates import UsageEstimates
from tunewright.gateway.exchanges import Ending, ExchangeLog, without_files
from tunewright.gateway.metrics import GatewayMetrics
from tunewright.gateway.routes import Route
from tunewright.serving.captures import now

if TYPE_CHECKING:
    from tunewright.gateway.takeover.budgets import Budgets
    from tunewright.gateway.tracing import UpstreamSpan

BY_OWN_MODEL = "own model"
"""In place of an upstream's name, which has no spaces."""
COMPARED_BYTES = 64 << 10
"""The largest answer of a job that is compared with an own model's."""
JOB_FIELDS = ("job", "mode", "answered_by", "version", "confidence", "fallback", "is_audit")
"""Of `JobNote`, in captures."""


@dataclass
class JobNote:
    """What the gateway notes of a request of a job that an own model may take over."""

    job: str
    mode: str
    noted: Callable[[Observation, float | None, float], None]
    """Is called with the price and the seconds when the answer has ended."""
    answered_by: Literal["own", "upstream"] = "upstream"
    version: str | None = None
    """Of the own model that answered."""
    confidence: float | None = None
    fallback: str | None = None
    """Why the own model answered where it would not have: the fault of the upstream."""
    is_audit: bool = False
    """Whether no client got the answer: it was asked for to compare it with an own one."""


@dataclass
class Observation:
    """One request and its answer."""

    route: Route
    path: str
    body: Body
    client: str | None
    is_wanted: bool
    """Whether the client lets the gateway capture it."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    came: str = field(default_factory=now)
    begun: float = field(default_factory=time.perf_counter)
    asked: float | None = None
    """When the upstream was asked; None: it was not."""
    request: dict[str, Any] | None = None
    upstream: str = ""
    status: int = 0
    first: float | None = None
    """When the answer's first byte came."""
    answer_bytes: int = 0
    streamed: bool = False
    reader: AnswerReader | None = None
    job: JobNote | None = None
    """None: the request is of no job that an own model may take over."""
    answer: ReadAnswer = field(default_factory=lambda: ReadAnswer(is_whole=False))
    """What was answered, once it is noted."""
    question: UpstreamSpan | None = None
    """The span of the question to the upstream; None: it was not asked, or there are no traces."""
    is_noted: bool = False

    @property
    def model(self) -> str | None:
        """The model that the request names. Azure reads the path and not the body, where the path has a deployment."""
        model = (self.request or {}).get("model")
        return self.route.deployment or (model if isinstance(model, str) else None)

    def begin_answer(self, status: int, headers: Mapping[str, str], largest: int) -> None:
        """Note the head of an upstream's answer.

        Args:
            largest: as of `AnswerReader`.
        """
        self.status = status
        self.streamed = headers.get("content-type", "").startswith("text/event-stream")
        if self.route.kind != "other":
            self.reader = reader_of(self.route.kind, headers, largest)

    def add_piece(self, piece: bytes) -> bool:
        """Note a piece of the answer. Returns whether it is the last one by the answer's own words."""
        if self.first is None:
            self.first = time.perf_counter()
        self.answer_bytes += len(piece)
        return self.reader.feed(piece) if self.reader else False


class Observer:
    """Notes each request once, when its answer has ended.

    Args:
        exchanges: None: nothing is captured.
        budgets: None: there are none.
    """

    def __init__(
        self, metrics: GatewayMetrics, exchanges: ExchangeLog | None, prices: PriceBook, budgets: Budgets | None = None
    ):
        self.metrics, self._exchanges, self._prices, self._budgets = metrics, exchanges, prices, budgets
        self._estimates = UsageEstimates()
        self._captured = exchanges.largest if exchanges else 0

    def largest(self, seen: Observation) -> int:
        """Bytes of an answer whose texts are needed."""
        return max(self._captured, COMPARED_BYTES) if seen.job else self._captured

    async def note(self, seen: Observation, ending: Ending) -> None:
        """Count a request and capture it, unless that was done before."""
        if seen.is_noted:
            return
        seen.is_noted = True
        answer = seen.answer = seen.reader.result() if seen.reader else seen.answer
        is_estimated = self._complete_usage(seen, answer)
        is_own = seen.job is not None and seen.job.answered_by == "own"
        usd = 0.0 if is_own else self.usd(seen, answer)
        seconds = time.perf_counter() - seen.begun
        if not (seen.job and seen.job.is_audit):
            self.metrics.answered(seen, seconds)
        self.metrics.paid(seen, answer.usage, usd)
        if seen.job:
            seen.job.noted(seen, usd, seconds)
        if seen.question and not is_own:
            seen.question.ended(seen, usd, ending)
        if self._budgets and usd:
            self._budgets.spend(seen.client, seen.job.job if seen.job else None, usd)
        log = self._exchanges
        if log is None or seen.route.kind == "other" or not seen.is_wanted or not log.takes(seen.id):
            return
        # Texts of jobs are kept for comparisons too.
        is_small = seen.job is None or seen.answer_bytes <= log.largest
        fields = {
            "id": seen.id,
            "time": seen.came,
            "upstream": seen.upstream,
            "kind": seen.route.kind,
            "path": seen.path,
            "client": seen.client,
            "model": seen.model,
            "request": without_files(seen.request) if seen.body.size <= log.largest else None,
            "request_bytes": seen.body.size,
            "status": seen.status,
            "answered_model": answer.model,
            "choices": answer.choices if is_small else [],
            "is_whole": answer.is_whole and is_small,
            "answer_bytes": seen.answer_bytes,
            "usage": answer.usage,
            "usage_is_estimated": is_estimated,
            "usd": usd,
            "seconds": round(seconds, 6),
            "first_seconds": None if seen.first is None else round(seen.first - seen.begun, 6),
            "streamed": seen.streamed,
            "ending": ending,
            "share": log.share,
        }
        if job := seen.job:
            fields |= {name: getattr(job, name) for name in JOB_FIELDS}
        # Finding personal data takes milliseconds, writing a line some microseconds.
        kept = await asyncio.to_thread(log.keep, fields) if log.redact else log.keep(fields)
        self.metrics.captured(kept=kept)

    def _complete_usage(self, seen: Observation, answer: ReadAnswer) -> bool:
        """Learn from an answer's token counts, or estimate those of a stream without. Returns whether they are
        estimated."""
        if seen.upstream == BY_OWN_MODEL or seen.status != 200 or answer.letters is None:
            return False
        key = seen.upstream, seen.model or "", seen.body.size, answer.letters
        if answer.usage:
            self._estimates.learn(*key, answer.usage)
            return False
        answer.usage = self._estimates.estimate(*key) if seen.streamed else None
        return answer.usage is not None

    def usd(self, seen: Observation, answer: ReadAnswer) -> float | None:
        """The price of an answer by the book."""
        if answer.usage is None:
            return None
        return usd_by_book(answer.usage, self._prices, seen.model, answer.model, tier=answer.service_tier)
