"""The table of the server's routes: each is a function from a request, and the body it expects, to its reply.

Starlette calls them. FastAPI only describes them (`tunewright.serving.openapi`), because its calling took a seventh of
an encoder's answer, and its import a fifth of the server's start.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tunewright.serving.errors import ApiError
from tunewright.serving.strict import read_body

BODY = "request"
"""The name of the parameter that takes a route's body."""
_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class JsonEndpoint:
    """A route. Its function takes the `Request`, the parts of the path by name, and its body as `request`. A coroutine
    function runs on the event loop, any other in a worker thread."""

    path: str
    method: str
    function: Callable[..., Any]
    is_described: bool = True
    """Whether it is in the OpenAPI document."""

    @property
    def hints(self) -> dict[str, Any]:
        """The types of the function's parameters, and of its result as `return`."""
        return get_type_hints(self.function)

    def route(self, threads: Executor) -> Route:
        """Its route in a server.

        Args:
            threads: for functions that are no coroutines.
        """
        return Route(self.path, _Handler(self, threads), methods=[self.method])


class RouteTable:
    """The routes of a module."""

    def __init__(self) -> None:
        self.endpoints: list[JsonEndpoint] = []

    def get(self, path: str, *, is_described: bool = True) -> Callable[[_Function], _Function]:
        """Add a function for GET and HEAD."""
        return self._add(partial(JsonEndpoint, path, "GET", is_described=is_described))

    def post(self, path: str) -> Callable[[_Function], _Function]:
        """Add a function for POST."""
        return self._add(partial(JsonEndpoint, path, "POST"))

    def _add(self, endpoint: Callable[[_Function], JsonEndpoint]) -> Callable[[_Function], _Function]:
        def added(function: _Function) -> _Function:
            self.endpoints.append(endpoint(function))
            return function

        return added


class _Handler:
    """An ASGI application of one endpoint."""

    def __init__(self, endpoint: JsonEndpoint, threads: Executor):
        self.path = endpoint.path
        """For the figures of each route."""
        self._function, self._threads = endpoint.function, threads
        self._body: type[BaseModel] | None = endpoint.hints.get(BODY)
        self._is_coroutine = inspect.iscoroutinefunction(endpoint.function)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = Request(scope, receive)
        given: dict[str, Any] = scope["path_params"]
        if self._body:
            given = {**given, BODY: await _read(http, self._body)}
        if self._is_coroutine:
            reply = await self._function(http, **given)
        else:
            call = partial(contextvars.copy_context().run, self._function, http, **given)
            reply = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        response = reply if isinstance(reply, Response) else json_response(reply)
        await response(scope, receive, send)


def json_response(content: Any) -> Response:
    """A reply in JSON. A number that JSON does not have becomes null."""
    return Response(to_json(content, inf_nan_mode="null"), media_type="application/json")


async def _read(http: Request, model: type[BaseModel]) -> BaseModel:
    """The body of a request.

    Raises:
        ApiError, HTTPException: it is not what the model describes.
    """
    body = await http.body()
    if not body:
        raise _unfit("it is missing")
    if not _is_json(http.headers.get("content-type", "")):
        # A page of another site can make browsers send anything else without asking this server first.
        raise _unfit("its content type must be application/json")
    try:
        value = await read_body(body)
    except json.JSONDecodeError as error:
        raise _unfit(f"it is no JSON from character {error.pos + 1} on: {error.msg}") from None
    try:
        return model.model_validate(value, from_attributes=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        param = ".".join(map(str, first["loc"])) or None
        raise _unfit(first["msg"].removeprefix("Value error, "), param) from None


def _unfit(reason: str, param: str | None = None) -> ApiError:
    return ApiError(400, f"{param or 'body'}: {reason}", "invalid_value", param)


def _is_json(content_type: str) -> bool:
    kind, _, form = content_type.partition(";")[0].strip().lower().partition("/")
    return kind == "application" and (form == "json" or form.endswith("+json"))
