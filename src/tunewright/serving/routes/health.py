"""Whether the server answers, and the models it has."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from tunewright.serving.routes.state import client_of, served_by
from tunewright.serving.strict import StrictRoute

router = APIRouter(route_class=StrictRoute)


@router.get("/health")
async def health(http: Request) -> dict[str, str]:
    served = served_by(http)
    served.require_model()
    return {"status": "ok"}


@router.get("/ready")
async def ready(http: Request) -> dict[str, str]:
    served = served_by(http)
    served.require_model()
    return {"status": "ready", "model": served.models.label, "precision": served.models.precision}


@router.get("/v1/models")
async def list_models(http: Request) -> dict[str, Any]:
    served, client = served_by(http), client_of(http)
    return {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": served.created, "owned_by": "tunewright"}
            for name in served.names(client)
        ],
    }
