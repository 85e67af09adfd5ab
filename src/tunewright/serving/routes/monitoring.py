"""The figures for Prometheus, and the feedback to answers."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse

from tunewright.serving.metrics import METRICS_TYPE
from tunewright.serving.requests import FeedbackRequest
from tunewright.serving.routes.state import client_of, name_of, served_by
from tunewright.serving.routes.table import RouteTable

ROUTES = RouteTable()


@ROUTES.get("/metrics", is_described=False)
async def metrics(http: Request) -> PlainTextResponse:
    served = served_by(http)
    return PlainTextResponse(served.metrics.text(), media_type=METRICS_TYPE)


@ROUTES.post("/v1/feedback")
def feedback(http: Request, request: FeedbackRequest) -> dict[str, Any]:
    served, client = served_by(http), client_of(http)
    name, engine = served.engine(client, request.model)
    served.recorder.feedback(engine, name, name_of(client), request)
    return {"id": request.id, "captured": True}
