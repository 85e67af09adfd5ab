"""The figures for Prometheus, and the feedback to answers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from tunewright.serving.metrics import METRICS_TYPE
from tunewright.serving.requests import FeedbackRequest
from tunewright.serving.routes.state import Client, Served, name_of
from tunewright.serving.strict import StrictRoute

router = APIRouter(route_class=StrictRoute)


@router.get("/metrics", include_in_schema=False)
async def metrics(served: Served) -> PlainTextResponse:
    return PlainTextResponse(served.metrics.text(), media_type=METRICS_TYPE)


@router.post("/v1/feedback")
def feedback(served: Served, client: Client, request: FeedbackRequest) -> dict[str, Any]:
    engine = served.engine(client, request.model)
    served.recorder.feedback(engine, request.model or served.models.label, name_of(client), request)
    return {"id": request.id, "captured": True}
