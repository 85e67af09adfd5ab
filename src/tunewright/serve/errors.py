"""Refusals in OpenAI's form."""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel


class Error(BaseModel):
    message: str
    type: str
    param: str | None
    code: str


class Refusal(BaseModel):
    """What every refusal says."""

    error: Error


REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": description}
    for status, description in (
        (400, "The request can't be answered as it is."),
        (401, "A key is needed."),
        (403, "The key may not ask this model."),
        (404, "There is no such model, or it has another job."),
        (408, "The request was not sent in time."),
        (413, "The request is too large."),
        (429, "Come again later."),
        (499, "Whoever asked has gone; nobody reads this."),
        (500, "The server failed; its log says why."),
        (501, "A library that the request needs is not installed."),
        (504, "The answer took longer than the server gives it."),
    )
}
"""For the OpenAPI document."""


def error_body(status: int, message: str, code: str, param: str | None = None) -> dict[str, Any]:
    kinds = {401: "authentication_error", 429: "rate_limit_error", 500: "server_error", 504: "server_error"}
    kind = kinds.get(status, "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refusal(status: int, message: str, code: str, retry_after: float | None = None) -> Callable[..., Awaitable[None]]:
    """An ASGI application that answers with an error.

    Args:
        retry_after: seconds until the same request may be answered; told in whole ones, rounded up.
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
