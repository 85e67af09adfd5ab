"""The HTTP API as one Starlette application: its middlewares, its error bodies and its routes.

The routes are OpenAI's chat completions, completions, responses and model list, plain /v1/classify, /v1/extract,
/v1/call and /v1/generate, feedback, metrics, and health.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import cache
from typing import Any

from anyio.to_thread import current_default_thread_limiter
from starlette.applications import Starlette
from starlette.middleware import Middleware

from tunewright.auth.identity import Identity
from tunewright.auth.keys import KeyRing
from tunewright.core.limits import ANSWER_SECONDS, MOST_UNDER_WAY
from tunewright.serving.captures import RequestLog
from tunewright.serving.errors import ERROR_HANDLERS
from tunewright.serving.guard import Admission, CheckPrincipal, GiveRequestId, TrackCall
from tunewright.serving.hosts import Host
from tunewright.serving.metrics import Metrics
from tunewright.serving.openapi import openapi_document
from tunewright.serving.recorder import Recorder
from tunewright.serving.routes import ENDPOINTS
from tunewright.serving.routes.state import ServerState
from tunewright.serving.routes.table import JsonEndpoint

_OTHER_THREADS = 8
"""Threads beside those of the requests under way, for the routes that are always let in."""


def build_app(
    models: Host,
    keys: KeyRing | None = None,
    identity: Identity | None = None,
    *,
    most: int = MOST_UNDER_WAY,
    seconds: float = ANSWER_SECONDS,
    request_log: RequestLog | None = None,
    any_system_prompt: bool = False,
) -> Starlette:
    """The application for the models of a server.

    Args:
        keys: the keys that clients may use.
        identity: the identity provider that clients may sign in with. Without keys and identity, every client may use
            the server.
        most: requests under way; the server refuses further ones with 429.
        seconds: time limit for an answer.
        request_log: keeps questions and answers; None: the server keeps none.
        any_system_prompt: also take system prompts that a bundle does not know.
    """
    metrics, threads = Metrics(), ThreadPoolExecutor(most + _OTHER_THREADS, "requests")
    # A request meets the middleware that is first in the list first.
    middleware = [Middleware(GiveRequestId), Middleware(metrics.middleware)]
    if keys or identity:
        middleware.append(Middleware(CheckPrincipal, keys=keys, identity=identity))
    middleware += [Middleware(Admission, most=most), Middleware(TrackCall, seconds=seconds)]
    endpoints = [*ENDPOINTS, _document(f"Tunewright: {models.label}")]
    app = Starlette(
        routes=[endpoint.route(threads) for endpoint in endpoints],
        middleware=middleware,
        exception_handlers=ERROR_HANDLERS,
        lifespan=_lifespan(threads, most),
    )
    app.state.server = ServerState(models, Recorder(metrics, request_log), metrics, any_system_prompt)
    return app


def _document(title: str) -> JsonEndpoint:
    """The route of the interface's description. There is no page of it: it would load scripts of other sites."""

    @cache
    def document() -> dict[str, Any]:
        return openapi_document(ENDPOINTS, title)

    return JsonEndpoint("/openapi.json", "GET", lambda _: document())


def _lifespan(threads: Executor, requests: int) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """A thread for each request under way, its stream included. With fewer, requests that wait for the model could hold
    all of them, and the stream that has the model could not go on."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = requests + _OTHER_THREADS
        yield
        threads.shutdown(wait=False)

    return lifespan
