"""The gateway's metrics for Prometheus. They hold no texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tunewright.economics.usage import TokenUsage
from tunewright.gateway.body import LEFT
from tunewright.gateway.routes import Kind

if TYPE_CHECKING:
    from tunewright.gateway.observation import Observation

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 20, 30, 60, 120, 300)


class GatewayMetrics:
    """The metrics of one gateway, in a registry of their own. Clients name models, so no label has them."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        labels = ["upstream", "kind"]
        self._requests = Counter(
            "tunewright_gateway_requests", "Requests by status.", [*labels, "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "tunewright_gateway_request_seconds",
            "Time from a request's first byte to the last of its answer.",
            labels,
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._first = Histogram(
            "tunewright_gateway_first_byte_seconds",
            "Time from a request's first byte to the first of its answer.",
            labels,
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._tokens = Counter("tunewright_gateway_tokens", "Tokens.", [*labels, "tokens"], registry=self._registry)
        self._usd = Counter(
            "tunewright_gateway_usd", "Paid to upstreams, by the price book.", labels, registry=self._registry
        )
        self._unpriced = Counter(
            "tunewright_gateway_unpriced",
            "Answers without token counts or without a price, and those that clients did not wait for or that "
            "upstreams did not send.",
            labels,
            registry=self._registry,
        )
        self._captures = Counter(
            "tunewright_gateway_captures",
            "Exchanges, by whether they could be kept.",
            ["kept"],
            registry=self._registry,
        )
        self._jobs = Counter(
            "tunewright_gateway_job_requests",
            "Requests of jobs that own models may take over, by who answered.",
            ["job", "mode", "answered_by"],
            registry=self._registry,
        )
        self._own_seconds = Histogram(
            "tunewright_gateway_own_seconds",
            "Time that own models take to answer.",
            ["job"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._compared = Counter(
            "tunewright_gateway_compared", "Own answers compared with the API's.", ["job"], registry=self._registry
        )
        self._agreed = Counter(
            "tunewright_gateway_agreed", "The sum of their agreements, 0 to 1 each.", ["job"], registry=self._registry
        )
        self._unlike = Counter(
            "tunewright_gateway_unlike",
            "Requests that have a job's template and besides something new, so that only the API answers them.",
            ["job"],
            registry=self._registry,
        )
        self._unfit = Counter(
            "tunewright_gateway_unfit",
            "Requests of jobs that their own model can't take, such as too long ones.",
            ["job"],
            registry=self._registry,
        )
        self._taken_back = Counter(
            "tunewright_gateway_taken_back",
            "Times that the gateway took a job back from its own model.",
            ["job"],
            registry=self._registry,
        )
        self._budgets = Gauge(
            "tunewright_gateway_budget_used",
            "The share of a month's budget that is used.",
            ["scope"],
            registry=self._registry,
        )
        self.under_way = Gauge("tunewright_gateway_under_way", "Requests under way.", registry=self._registry)

    def answered(self, seen: Observation, seconds: float) -> None:
        """Count a request, when its answer has ended."""
        labels = seen.upstream, seen.route.kind
        self._requests.labels(*labels, str(seen.status)).inc()
        self._seconds.labels(*labels).observe(seconds)
        if seen.first is not None:
            self._first.labels(*labels).observe(seen.first - seen.begun)

    def paid(self, seen: Observation, usage: TokenUsage | None, usd: float | None) -> None:
        """Count the tokens and the price of an answer. An audit has them too, though it is no request."""
        labels = seen.upstream, seen.route.kind
        if usage:
            fresh = usage.prompt_tokens - usage.cached_tokens
            for name, count in (("prompt", fresh), ("cached", usage.cached_tokens), ("answer", usage.answer_tokens)):
                self._tokens.labels(*labels, name).inc(max(0, count))
        if usd is not None:
            self._usd.labels(*labels).inc(usd)
        elif seen.route.kind != "other" and (seen.status < 400 or (seen.status == LEFT and seen.asked is not None)):
            self._unpriced.labels(*labels).inc()

    def never_came(self, upstream: str, kind: Kind) -> None:
        """Count an answer that an upstream did not send, and that it may bill."""
        if kind != "other":
            self._unpriced.labels(upstream, kind).inc()

    def job_answered(self, job: str, mode: str, answered_by: str) -> None:
        self._jobs.labels(job, mode, answered_by).inc()

    def own_answered(self, job: str, seconds: float) -> None:
        self._own_seconds.labels(job).observe(seconds)

    def compared(self, job: str, agreement: float) -> None:
        self._compared.labels(job).inc()
        self._agreed.labels(job).inc(agreement)

    def unlike(self, job: str) -> None:
        self._unlike.labels(job).inc()

    def unfit(self, job: str) -> None:
        self._unfit.labels(job).inc()

    def taken_back(self, job: str) -> None:
        self._taken_back.labels(job).inc()

    def budget_used(self, scope: str, share: float) -> None:
        self._budgets.labels(scope).set(share)

    def captured(self, *, kept: bool) -> None:
        self._captures.labels(str(kept).lower()).inc()

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)
