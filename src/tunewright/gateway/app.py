"""The gateway as an ASGI application: its own few paths, and everything else to an upstream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunewright.economics.prices import price_book
from tunewright.gateway.config import GatewaySpec
from tunewright.gateway.connection import UpstreamConnection
from tunewright.gateway.exchanges import ExchangeLog
from tunewright.gateway.forward import Forwarder
from tunewright.gateway.metrics import GatewayMetrics
from tunewright.gateway.observation import Observer
from tunewright.gateway.upstreams import Upstreams
from tunewright.serving.errors import refusal
from tunewright.serving.guard import Message, Receive, Send
from tunewright.serving.metrics import METRICS_TYPE


class Gateway:
    """The application.

    Raises:
        UserError: the key of an upstream is not set, or captures can't be written.
    """

    def __init__(self, spec: GatewaySpec):
        self._most = spec.limit_concurrency
        self._upstreams = Upstreams(spec)
        self._exchanges = _exchange_log(spec)
        self.metrics = GatewayMetrics()
        self._observer = Observer(self.metrics, self._exchanges, price_book(spec.prices))
        self._connections: Mapping[str, UpstreamConnection] = {}
        self._forward: Forwarder | None = None
        self._under_way = 0
        self._own = {"/health": self._health, "/ready": self._ready, "/metrics": self._metrics}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["method"] in ("GET", "HEAD") and scope["path"] in self._own:
            status, media_type, body = self._own[scope["path"]]()
            headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        elif self._forward is None or self._under_way >= self._most:
            reason = f"{self._under_way} requests are under way already; try again later."
            await refusal(429, reason, "overloaded", 1.0)(scope, receive, send)
        else:
            self._under_way += 1
            self.metrics.under_way.inc()
            try:
                await self._forward(scope, receive, send)
            finally:
                self._under_way -= 1
                self.metrics.under_way.dec()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        # Connections belong to an event loop, so they are made in it.
        self._connections = {each.name: UpstreamConnection(each) for each in self._upstreams.all}
        self._forward = Forwarder(self._upstreams, self._connections, self._observer)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for connection in self._connections.values():
            await connection.close()
        if self._exchanges:
            self._exchanges.close()
        await send({"type": "lifespan.shutdown.complete"})

    def _health(self) -> tuple[int, str, bytes]:
        return 200, "application/json", b'{"status":"ok"}'

    def _ready(self) -> tuple[int, str, bytes]:
        body: dict[str, Any] = {"status": "ready", "upstreams": [each.name for each in self._upstreams.all]}
        return 200, "application/json", json.dumps(body).encode()

    def _metrics(self) -> tuple[int, str, bytes]:
        return 200, METRICS_TYPE, self.metrics.text()


def _exchange_log(spec: GatewaySpec) -> ExchangeLog | None:
    if spec.capture is None:
        return None
    if not spec.capture.redact:
        return ExchangeLog(spec.capture)
    # Imported only for this option: its lists of names take time and memory.
    from tunewright.gateway.redaction import redact

    return ExchangeLog(spec.capture, redact)
