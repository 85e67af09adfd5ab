"""Whether the server answers, and the models it has."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from tunewright.serving.routes.state import ServerState, client_of, served_by
from tunewright.serving.routes.table import RouteTable

ROUTES = RouteTable()


@ROUTES.get("/health")
async def health(http: Request) -> dict[str, str]:
    served = served_by(http)
    served.require_model()
    return {"status": "ok"}


@ROUTES.get("/ready")
async def ready(http: Request) -> dict[str, str]:
    served = served_by(http)
    served.require_model()
    return {"status": "ready", "model": served.models.label, "precision": served.models.precision}


@ROUTES.get("/v1/models")
async def list_models(http: Request) -> dict[str, Any]:
    served, client = served_by(http), client_of(http)
    return {"object": "list", "data": [_model(served, name) for name in served.names(client)]}


@ROUTES.get("/v1/models/{name:path}")  # a name may have a slash
async def retrieve_model(http: Request, name: str) -> dict[str, Any]:
    served, client = served_by(http), client_of(http)
    served.require_name(client, name)
    return _model(served, name)


def _model(served: ServerState, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": served.created, "owned_by": "tunewright"}
