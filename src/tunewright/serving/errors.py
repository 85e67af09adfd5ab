"""Errors in OpenAI's form: their bodies, and the exceptions that become them."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from tunewright.core.call import Abandoned, OutOfTime
from tunewright.inference.decoding.grammar import GrammarError
from tunewright.models.chat import UnfitText
from tunewright.serving.engine import TooLong


class Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class Refusal(BaseModel):
    """The body of every error."""

    error: Error


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": description}
    for status, description in (
        (400, "The request can't be answered as it is."),
        (401, "The request needs a key."),
        (403, "The key may not use this model."),
        (404, "There is no such model, or it has another job."),
        (408, "The request did not arrive in time."),
        (413, "The request is too large."),
        (429, "The server is busy; try again later."),
        (499, "The client has disconnected."),
        (500, "The server failed."),
        (501, "A library that the request needs is not installed."),
        (507, "The feedback can't be kept: the disk is full."),
        (503, "The model has ended; restart the server."),
        (504, "The answer took longer than the server allows."),
    )
}
"""For the OpenAPI document."""


FAILED = "The server failed; its log says why."


class ApiError(Exception):
    """An error in OpenAI's form."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None):
        self.status, self.code, self.param = status, code, param
        super().__init__(message)

    def body(self) -> dict[str, Any]:
        return error_body(self.status, str(self), self.code, self.param)


def error_of(error: Exception) -> ApiError:
    """The error body for an exception. It holds nothing of the request's text."""
    match error:
        case ApiError():
            return error
        case Abandoned():
            return ApiError(499, "The client has disconnected.", "gone")
        case OutOfTime(seconds=seconds):
            return ApiError(504, f"The answer took longer than this server's limit of {seconds:g} s.", "timeout")
        case TooLong():
            return ApiError(400, error.paragraph(), "context_length_exceeded", "messages")
        case UnfitText():
            return ApiError(400, error.what, "invalid_value")  # `where` is a path on this machine
        case GrammarError():
            reason = f"Answers can't be confined to this schema: {error}."
            return ApiError(400, reason, "invalid_value", "response_format")
        case HTTPException(status_code=status):
            code = {404: "unknown_url", 405: "method_not_allowed"}.get(status, "invalid_request")
            return ApiError(status, str(error.detail), code)
        case _:
            return ApiError(500, FAILED, "internal_error")


async def _respond(_: Request, error: Exception) -> JSONResponse:
    failure = error_of(error)
    return JSONResponse(failure.body(), failure.status, getattr(error, "headers", None))


_KINDS = (ApiError, Abandoned, OutOfTime, TooLong, UnfitText, GrammarError, HTTPException, Exception)
ERROR_HANDLERS: dict[Any, Any] = dict.fromkeys(_KINDS, _respond)
"""Starlette's handlers that make an application answer with OpenAI's form on every error."""


def error_body(status: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    kinds = {401: "authentication_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(status: int, message: str, code: str, retry_after: float | None = None) -> Callable[..., Awaitable[None]]:
    """An ASGI application that answers with an error.

    Args:
        retry_after: seconds until the client may try again; the header has whole seconds, rounded up.
    """
    body = json.dumps(error_body(status, message, code)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if retry_after is not None:
        headers.append((b"retry-after", str(max(1, math.ceil(retry_after))).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))

    async def answer(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer
