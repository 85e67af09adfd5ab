"""The review app: its routes, security headers, origin check and error pages."""

from __future__ import annotations

from importlib.resources import files

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from tunewright.core.errors import UserError
from tunewright.core.limits import FORM_BYTES_AT_ONCE, FORM_READERS, SMALL_BODY_BYTES
from tunewright.core.page import LOOK
from tunewright.review import entrance, pages
from tunewright.review.site import MOST_FORM_BYTES, NotSignedIn, ReviewRefused, Site, session_of
from tunewright.serving.guard import App, LimitBody, Message, Receive, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # With "no-referrer" browsers would not send the origin of a form.
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Headers:
    """Adds the security headers to every answer. Pages show customers' texts, so nothing may cache them."""

    def __init__(self, app: App):
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                is_ours = str(scope["path"]).startswith("/static/")
                extra = _HEADERS | {"cache-control": "no-cache" if is_ours else "no-store"}
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in extra.items() if name.encode() not in given),
                ]
            await send(message)

        await self._app(scope, receive, with_headers)


class SameOrigin:
    """Refuses forms that another site sends."""

    def __init__(self, app: App):
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        origin, host = headers.get(b"origin"), headers.get(b"host", "")
        if origin is not None and origin.partition("://")[2] != host:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"This form comes from another site."})
            return
        await self._app(scope, receive, send)


def build_app(site: Site) -> FastAPI:
    """The app of a site."""
    app = FastAPI(title="Tunewright review", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.site = site
    app.include_router(entrance.router)
    app.include_router(pages.router)
    app.add_api_route("/static/look.css", _look)
    app.mount("/static", StaticFiles(packages=[("tunewright.review", "static")]))
    app.add_exception_handler(NotSignedIn, entrance.send_in)
    app.add_exception_handler(ReviewRefused, _refuse)
    app.add_exception_handler(HTTPException, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse)
    app.add_exception_handler(UserError, _fail)

    def most(scope: Message) -> int:
        """The largest form in bytes, which is small for people who are not signed in."""
        if scope["method"] in ("GET", "HEAD"):
            return 0
        return MOST_FORM_BYTES if session_of(Request(scope)) else SMALL_BODY_BYTES

    app.add_middleware(LimitBody, readers=FORM_READERS, at_once=FORM_BYTES_AT_ONCE, most=most)
    app.add_middleware(SameOrigin)
    app.add_middleware(Headers)
    return app


def _look() -> Response:
    return Response((files("tunewright.core.page") / LOOK).read_text("utf-8"), media_type="text/css")


def _refuse(request: Request, error: Exception) -> Response:
    site: Site = request.app.state.site
    if isinstance(error, ReviewRefused):
        return site.page(request, "refused.html.jinja", error.status, why=error.why)
    if isinstance(error, HTTPException) and error.status_code != 404:
        return site.page(request, "refused.html.jinja", error.status_code, why=f"{error.detail}.")
    return site.page(request, "refused.html.jinja", 404, why="There is no such page.")


def _fail(request: Request, error: Exception) -> Response:
    """A fault of the store. The page says what it is, but not where."""
    assert isinstance(error, UserError)
    site: Site = request.app.state.site
    why = f"{error.what} Nothing was saved: try again in a moment."
    return site.page(request, "refused.html.jinja", 503, why=why)
