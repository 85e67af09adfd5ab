"""Whether the server answers, and the models it has."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from tunewright.serving.routes.state import Client, Served
from tunewright.serving.strict import StrictRoute

router = APIRouter(route_class=StrictRoute)


@router.get("/health")
async def health(served: Served) -> dict[str, str]:
    served.require_model()
    return {"status": "ok"}


@router.get("/ready")
async def ready(served: Served) -> dict[str, str]:
    served.require_model()
    return {"status": "ready", "model": served.models.label, "precision": served.models.precision}


@router.get("/v1/models")
async def list_models(served: Served, client: Client) -> dict[str, Any]:
    return {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": served.created, "owned_by": "tunewright"}
            for name in served.names(client)
        ],
    }
