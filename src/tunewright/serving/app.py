"""The HTTP API as one FastAPI application: its middlewares, its error bodies and its routes.

The routes are OpenAI's chat completions, completions, responses and model list, plain /v1/classify, /v1/extract,
/v1/call and /v1/generate, feedback, metrics, and health.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI

from tunewright.auth.identity import Identity
from tunewright.auth.keys import KeyRing
from tunewright.core.limits import ANSWER_SECONDS, MOST_UNDER_WAY
from tunewright.serving.captures import RequestLog
from tunewright.serving.errors import REFUSALS, add_error_handlers
from tunewright.serving.guard import Admission, CheckPrincipal, GiveRequestId, TrackCall
from tunewright.serving.hosts import Host
from tunewright.serving.metrics import Metrics
from tunewright.serving.recorder import Recorder
from tunewright.serving.routes import ROUTERS
from tunewright.serving.routes.state import ServerState

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
) -> FastAPI:
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
    # No page for the document: FastAPI's has scripts of other sites.
    title, threads = f"Tunewright: {models.label}", _threads_for(most)
    app = FastAPI(title=title, docs_url=None, redoc_url=None, responses=REFUSALS, lifespan=threads)
    metrics = Metrics()
    app.state.server = ServerState(models, Recorder(metrics, request_log), metrics, any_system_prompt)
    add_error_handlers(app)
    # A request meets the middleware that was added last first.
    app.add_middleware(TrackCall, seconds=seconds)
    app.add_middleware(Admission, most=most)
    if keys or identity:
        app.add_middleware(CheckPrincipal, keys=keys, identity=identity)
    app.add_middleware(metrics.middleware)
    app.add_middleware(GiveRequestId)
    for router in ROUTERS:
        app.include_router(router)
    return app


def _threads_for(requests: int) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """A thread for each request under way. With fewer, requests that wait for the model could hold all of them, and the
    stream that has the model could not go on."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = requests + _OTHER_THREADS
        yield

    return lifespan
