"""The gateway as an ASGI application: its own few paths, and everything else to an upstream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tunewright.auth.keys import KeyRing
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.economics.prices import price_book
from tunewright.gateway.config import GatewaySpec
from tunewright.gateway.connection import UpstreamConnection
from tunewright.gateway.exchanges import ExchangeLog
from tunewright.gateway.forward import Forwarder
from tunewright.gateway.metrics import GatewayMetrics
from tunewright.gateway.observation import Observer
from tunewright.gateway.places import Places
from tunewright.gateway.trace_settings import tracing_by_environment
from tunewright.gateway.upstreams import UpstreamFault, Upstreams
from tunewright.serving.errors import refusal
from tunewright.serving.guard import App, CheckPrincipal, Message, Receive, Send
from tunewright.serving.metrics import METRICS_TYPE

if TYPE_CHECKING:
    from tunewright.gateway.takeover.budgets import Budgets
    from tunewright.gateway.takeover.jobs import Takeover
    from tunewright.gateway.takeover.models import Hosts
    from tunewright.gateway.takeover.store import GatewayStore, Setting
    from tunewright.gateway.tracing import Tracing

_LOOK_SECONDS = 0.5
"""How often a replaced setting looks whether its last request has ended."""


class Gateway:
    """The application.

    Args:
        load: reads the settings, at once and at each `reload_soon`. If that fails later, the old ones stay.

    Raises:
        UserError: as `load`; the key of an upstream is not set, or captures can't be written.
    """

    def __init__(self, load: Callable[[], GatewaySpec]):
        self._load = load
        self.metrics = GatewayMetrics()
        self._tracing = tracing_by_environment()
        self._hosts: Hosts | None = None
        """The own models; None: there were never any jobs."""
        self._now = self._read()
        self._closing: set[asyncio.Task[None]] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._turn = asyncio.Lock()
        """Held while settings are read again."""
        self._are_stale = False
        """Whether the settings are to be read again as soon as the event loop runs."""
        self._own = {"/health": self._health, "/ready": self._ready, "/metrics": self._metrics}

    @property
    def spec(self) -> GatewaySpec:
        """The settings by which it answers now."""
        return self._now.spec

    @property
    def settings(self) -> dict[str, Setting]:
        """How each job is answered now."""
        takeover = self._now.takeover
        return {name: job.setting for name, job in takeover.jobs.items()} if takeover else {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["method"] in ("GET", "HEAD") and scope["path"] in self._own:
            media_type, body = self._own[scope["path"]]()
            headers = [(b"content-type", media_type.encode()), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
        else:
            await self._now(scope, receive, send)

    def reload_soon(self) -> None:
        """Read the settings again. Requests under way end by the old ones. May be called from a signal's handler."""
        if self._loop:
            asyncio.run_coroutine_threadsafe(self._reload(), self._loop)
        else:
            self._are_stale = True

    async def _reload(self) -> None:
        async with self._turn:
            try:  # in a thread, because bundles take seconds to load
                new = await asyncio.to_thread(self._read)
            except Exception as error:  # noqa: BLE001 (whatever it is, the gateway goes on and says so)
                why = error.paragraph() if isinstance(error, UserError) else f"{type(error).__name__}."
                say(f"The old settings stay. Error: {why}")
                return
            new.open()
            old, self._now = self._now, new
            if old.takeover:
                old.takeover.end_following()
            if new.takeover and self._hosts:
                self._hosts.reload()
            closing = asyncio.get_running_loop().create_task(old.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)
            say("The settings were read again.")

    def _read(self) -> _Settings:
        spec = self._load()
        if not spec.budgets and not spec.jobs:
            return _Settings(spec, self.metrics, self._tracing)
        # Imported only where needed: the libraries of models and of the store take time, and may not be installed.
        from tunewright.gateway.takeover.budgets import Budgets
        from tunewright.gateway.takeover.store import open_store

        store, takeover = open_store(spec), None
        if spec.jobs:
            from tunewright.gateway.takeover.jobs import Takeover
            from tunewright.gateway.takeover.models import Hosts

            self._hosts = self._hosts or Hosts()
            takeover = Takeover(spec, store, self._hosts, self.metrics)
        budgets = Budgets(spec.budgets, store, self.metrics) if spec.budgets else None
        settings = _Settings(spec, self.metrics, self._tracing, store, takeover, budgets)
        if takeover:
            takeover.read_file()
        return settings

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._now.open()
        self._loop = asyncio.get_running_loop()
        if self._are_stale:
            await self._reload()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.gather(self._now.close(), *self._closing)
        if self._hosts:
            self._hosts.close()
        if self._tracing:
            await asyncio.to_thread(self._tracing.close)
        await send({"type": "lifespan.shutdown.complete"})

    def _health(self) -> tuple[str, bytes]:
        return "application/json", b'{"status":"ok"}'

    def _ready(self) -> tuple[str, bytes]:
        body: dict[str, Any] = {"status": "ready", "upstreams": [each.name for each in self._now.upstreams.all]}
        return "application/json", json.dumps(body).encode()

    def _metrics(self) -> tuple[str, bytes]:
        return METRICS_TYPE, self.metrics.text()


class _Settings:
    """The gateway by one reading of its settings. It answers once it is open."""

    _connections: dict[str, UpstreamConnection]
    _forward: Forwarder
    _app: App

    def __init__(
        self,
        spec: GatewaySpec,
        metrics: GatewayMetrics,
        tracing: Tracing | None,
        store: GatewayStore | None = None,
        takeover: Takeover | None = None,
        budgets: Budgets | None = None,
    ):
        self.spec, self._store = spec, store
        self._metrics, self._tracing = metrics, tracing
        self._places = Places(spec.limit_concurrency)
        self.upstreams = Upstreams(spec)
        self._keys = KeyRing(spec.keys) if spec.keys else None
        self._exchanges = _exchange_log(spec)
        self._observer = Observer(metrics, self._exchanges, price_book(spec.prices), budgets)
        self.takeover, self._budgets = takeover, budgets
        self._under_way = 0
        """Requests that have not ended, those whose bodies arrive too."""

    def open(self) -> None:
        """Make the connections, which belong to the running event loop."""
        self._connections = {each.name: UpstreamConnection(each) for each in self.upstreams.all}
        jobs = None
        if self.takeover:
            from tunewright.gateway.takeover.answering import JobAnswerer

            self.takeover.looks.open()
            jobs = JobAnswerer(self.takeover, self._observer, self._tracing)
        if self._budgets:
            self._budgets.writes.open()
        self._forward = Forwarder(
            self.upstreams, self._connections, self._places, self._observer, jobs, self._budgets, self._tracing
        )
        within_limit = self._forward_within_limit
        self._app = CheckPrincipal(within_limit, self._keys, None) if self._keys else within_limit

    async def close(self) -> None:
        """Close everything once the last request has ended."""
        while self._under_way:
            await asyncio.sleep(_LOOK_SECONDS)
        await self._forward.close()
        if self.takeover:
            await self.takeover.close()
        if self._budgets:
            await self._budgets.writes.close()
        if self._store:
            self._store.close()
        for connection in self._connections.values():
            await connection.close()
        if self._exchanges:
            self._exchanges.close()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def _forward_within_limit(self, scope: Message, receive: Receive, send: Send) -> None:
        try:
            self._places.require_free()
        except UpstreamFault as fault:
            await refusal(fault.status, str(fault), fault.code, 1.0)(scope, receive, send)
            return
        self._under_way += 1
        self._metrics.under_way.inc()
        try:
            await self._forward(scope, receive, send)
        finally:
            self._under_way -= 1
            self._metrics.under_way.dec()


def _exchange_log(spec: GatewaySpec) -> ExchangeLog | None:
    if spec.capture is None:
        return None
    if not spec.capture.redact:
        return ExchangeLog(spec.capture)
    # Imported only for this option: its lists of names take time and memory.
    from tunewright.gateway.redaction import redact

    return ExchangeLog(spec.capture, redact)
