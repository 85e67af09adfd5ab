"""The emulator's one HTTPS server, which passes a request to the service of its host."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import formatdate
from typing import Any

from tunewright.azure_emulator.cloud import BROKEN, Cloud, HttpRequest, HttpResponse, error
from tunewright.azure_emulator.network import Certificates

Service = Callable[[HttpRequest], HttpResponse]


class EmulatorServer:
    """Answers on a port of its own until it is closed.

    Args:
        services: the service of each host; a host is named in full, or by its end with a leading dot.
    """

    def __init__(self, cloud: Cloud, services: Mapping[str, Service], files: Certificates, port: int):
        import uvicorn

        async def application(scope: dict[str, Any], receive: Any, send: Any) -> None:
            await _respond(cloud, services, scope, receive, send)

        config = uvicorn.Config(
            application,
            host="127.0.0.1",
            port=port,
            log_level="critical",
            lifespan="off",
            access_log=False,
            date_header=False,
            ssl_certfile=str(files.certificate),
            ssl_keyfile=str(files.key),
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def close(self) -> None:
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join(5)


async def _respond(
    cloud: Cloud, services: Mapping[str, Service], scope: dict[str, Any], receive: Any, send: Any
) -> None:
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import Response

    if scope["type"] != "http":
        return
    received = Request(scope, receive)
    target = scope["raw_path"].decode("latin-1") + (
        f"?{scope['query_string'].decode('latin-1')}" if scope["query_string"] else ""
    )
    request = HttpRequest(
        received.method,
        received.headers.get("host", "").partition(":")[0].lower(),
        scope["path"],
        dict(received.query_params),
        dict(received.headers.items()),
        b"",
        target,
    )
    fault = cloud.fault(request)
    if fault == BROKEN:
        cloud.note(request, BROKEN)
        _cut(send)
        return
    request = replace(request, body=await received.body())
    answer = await run_in_threadpool(_answered, cloud, services, request, fault)
    if not answer.cut:
        _cut(send)
        return
    content = answer.content()
    headers = {"content-type": "application/json"} if not isinstance(answer.body, bytes) else {}
    response = Response(content, answer.status, {"date": formatdate(cloud.now, usegmt=True)} | headers | answer.headers)
    if request.method == "HEAD":
        # The length is that of a GET's answer.
        response.headers["content-length"] = answer.headers.get("content-length", "0")
    if answer.cut < 1:
        await send({"type": "http.response.start", "status": answer.status, "headers": response.raw_headers})
        part = content[: int(answer.cut * len(content))]
        await send({"type": "http.response.body", "body": part, "more_body": True})
        _cut(send)
        return
    await response(scope, receive, send)


def _cut(send: Any) -> None:
    """Close a connection without an answer. ASGI has no message for it, but the object of uvicorn's `send` has the
    transport."""
    send.__self__.transport.close()


def _answered(
    cloud: Cloud,
    services: Mapping[str, Service],
    request: HttpRequest,
    fault: HttpResponse | Callable[[HttpResponse], HttpResponse] | None,
) -> HttpResponse:
    """The answer to a request, with its fault if there is one."""
    if isinstance(fault, HttpResponse):
        answer = fault
    else:
        service = next((s for name, s in services.items() if request.host == name or request.host.endswith(name)), None)
        answer = service(request) if service else error(404, "NotFound", f"nobody answers for {request.host}")
        answer = fault(answer) if fault else answer
    cloud.note(request, answer)
    return answer
