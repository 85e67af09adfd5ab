"""The server's OpenAPI document, which FastAPI makes of the routes' functions."""

from __future__ import annotations

from collections.abc import Sequence
from types import UnionType
from typing import Any

from tunewright.serving.errors import REFUSALS
from tunewright.serving.routes.table import JsonEndpoint


def openapi_document(endpoints: Sequence[JsonEndpoint], title: str) -> dict[str, Any]:
    """The OpenAPI document of some routes."""
    from fastapi import FastAPI  # here: it takes a quarter of a second, and few servers are ever asked

    app = FastAPI(title=title, responses=REFUSALS)
    for endpoint in endpoints:
        if endpoint.is_described:
            result = endpoint.hints["return"]
            model = None if isinstance(result, UnionType) else result  # what may be a stream has no schema
            app.add_api_route(endpoint.path, endpoint.function, methods=[endpoint.method], response_model=model)
    return app.openapi()
