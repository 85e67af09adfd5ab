"""The figures for Prometheus, and the feedback to answers."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from tunewright.serving.metrics import METRICS_TYPE
from tunewright.serving.requests import FeedbackRequest
from tunewright.serving.routes.state import client_of, name_of, served_by
from tunewright.serving.strict import StrictRoute

router = APIRouter(route_class=StrictRoute)


@router.get("/metrics", include_in_schema=False)
async def metrics(http: Request) -> PlainTextResponse:
    served = served_by(http)
    return PlainTextResponse(served.metrics.text(), media_type=METRICS_TYPE)


@router.post("/v1/feedback")
def feedback(http: Request, request: FeedbackRequest) -> dict[str, Any]:
    served, client = served_by(http), client_of(http)
    name, engine = served.engine(client, request.model)
    served.recorder.feedback(engine, name, name_of(client), request)
    return {"id": request.id, "captured": True}
