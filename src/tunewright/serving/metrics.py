"""The server's metrics for Prometheus: requests, latency, tokens, confidence. They hold no texts."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tunewright.serving.guard import App, Message, Receive, Send

METRICS_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30)
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1)


class Metrics:
    """The metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "tunewright_requests", "Requests by route and status.", ["route", "status"], registry=self._registry
        )
        self._latency = Histogram(
            "tunewright_request_seconds",
            "Time from the first byte of a request to the last of its answer.",
            ["route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._under_way = Gauge("tunewright_requests_under_way", "Requests under way.", registry=self._registry)
        self._confidence = Histogram(
            "tunewright_confidence",
            "Confidence of answers.",
            ["model", "version"],
            buckets=_SHARES,
            registry=self._registry,
        )
        self._escalated = Counter(
            "tunewright_escalated",
            "Answers below the bundle's threshold.",
            ["model", "version"],
            registry=self._registry,
        )
        self._outside = Counter(
            "tunewright_out_of_scope",
            "Answers to requests unlike the training data.",
            ["model", "version"],
            registry=self._registry,
        )
        self._captures = Counter(
            "tunewright_captures",
            "Requests and feedback, by whether they could be kept.",
            ["kept"],
            registry=self._registry,
        )
        self._tokens = Counter(
            "tunewright_tokens", "Tokens by kind.", ["model", "version", "kind"], registry=self._registry
        )
        self._failed = Counter(
            "tunewright_challenger_failed",
            "Requests that the champion had to answer in a challenger's place.",
            ["version"],
            registry=self._registry,
        )

    def answered(
        self, model: str, version: str, flags: Mapping[str, Any], prompt_tokens: int, answer_tokens: int
    ) -> None:
        """Count an answer.

        Args:
            model: the name in the request.
            version: of the bundle that answered.
            flags: the answer's `tunewright.inference.bundle.Bundle.flags`.
        """
        self._confidence.labels(model, version).observe(flags["confidence"] or 0.0)
        self._escalated.labels(model, version).inc(bool(flags["escalate"]))
        self._outside.labels(model, version).inc(flags["in_scope"] is False)
        self._tokens.labels(model, version, "prompt").inc(prompt_tokens)
        self._tokens.labels(model, version, "answer").inc(answer_tokens)

    def challenger_failed(self, version: str) -> None:
        """Count a request that the champion had to answer in a challenger's place."""
        self._failed.labels(version).inc()

    def captured(self, *, kept: bool) -> None:
        """Count a request or feedback for the request log, by whether it could be written."""
        self._captures.labels(str(kept).lower()).inc()

    def text(self) -> bytes:
        """All metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def middleware(self, app: App) -> App:
        """An application whose requests are counted by route. All paths that are no route share the name `other`, so
        that clients can't make up names without end."""

        async def measured(scope: Message, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            # A client that disconnects before its request is whole gets no response.
            status, started = 499, time.perf_counter()

            async def watched_send(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            self._under_way.inc()
            try:
                await app(scope, receive, watched_send)
            except BaseException:
                status = 500
                raise
            finally:
                self._under_way.dec()
                route = getattr(scope.get("endpoint"), "path", "other")
                self._requests.labels(route, str(status)).inc()
                self._latency.labels(route).observe(time.perf_counter() - started)

        return measured
