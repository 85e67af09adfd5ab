"""Sign in and out: with the link that the terminal shows, with a key, or at an identity provider."""

from __future__ import annotations

import hmac
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from tunewright.review.people import IDLE_SECONDS, PROVIDER_SECONDS, person_of
from tunewright.review.site import Posted, ReviewRefused, Site, SiteOf, cookie_of
from tunewright.serving.connections import client_of

router = APIRouter()


@router.get("/sign-in")
def entrance(request: Request, site: SiteOf, to: str = "/") -> HTMLResponse:
    return site.page(request, "sign-in.html.jinja", to=_here(to))


@router.get("/sign-in/link")
def by_link(request: Request, site: SiteOf, secret: str = "") -> Response:
    _count_try(request, site)
    person = site.link.take(secret) if site.link else None
    if person is None:
        raise ReviewRefused(
            403, "This link is wrong or was used already. Start `tunewright review` again for a new one."
        )
    return welcome(request, RedirectResponse("/", 303), site.sessions.begin(person))


@router.post("/sign-in")
def by_key(
    request: Request, site: SiteOf, key: Annotated[str, Form(max_length=200)] = "", to: Annotated[str, Form()] = "/"
) -> Response:
    _count_try(request, site)
    holders = site.keys
    person = holders.find(key) if holders else None
    if holders is None or person is None:
        return site.page(request, "sign-in.html.jinja", 403, to=_here(to), wrong="This key is not valid here.")
    identity = site.sessions.begin(person, lambda: holders.find(key) == person)
    return welcome(request, RedirectResponse(_here(to), 303), identity)


@router.get("/sign-in/provider")
def to_provider(request: Request, site: SiteOf, to: str = "/") -> Response:
    _count_try(request, site)
    if site.provider is None:
        raise ReviewRefused(404, "This app has no sign-in with a provider.")
    address, state = site.provider.begin(_here(to), str(request.url_for("from_provider")))
    answer = RedirectResponse(address, 303)
    # Lax, not strict, because the browser must send this cookie when it comes back from the provider's site.
    answer.set_cookie(
        _state_of(request),
        state,
        max_age=600,
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
        path="/sign-in/provider",
    )
    return answer


@router.get("/sign-in/provider/back")
async def from_provider(request: Request, site: SiteOf, state: str = "", code: str = "") -> Response:
    is_mine = hmac.compare_digest(request.cookies.get(_state_of(request), "").encode(), state.encode())
    result = await site.provider.finish(state, code) if site.provider and state and is_mine else None
    if result is None:
        raise ReviewRefused(
            403, "You are not signed in: the provider refused, it took too long, or you have no role here."
        )
    claimed, to = result
    person = await run_in_threadpool(person_of, site.store, claimed)
    # A page, not a redirect, because a redirect that started at another site would not send the strict cookie.
    identity = site.sessions.begin(person, longest=PROVIDER_SECONDS)
    answer = welcome(request, site.page(request, "welcome.html.jinja", to=to), identity)
    answer.delete_cookie(_state_of(request), path="/sign-in/provider")
    return answer


@router.post("/sign-out")
def sign_out(request: Request, site: SiteOf, _: Posted) -> Response:
    site.sessions.end(request.cookies.get(cookie_of(request), ""))
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(cookie_of(request))
    return answer


def welcome(request: Request, answer: Response, identity: str) -> Response:
    """Add the session's cookie to an answer."""
    answer.set_cookie(
        cookie_of(request),
        identity,
        max_age=int(IDLE_SECONDS),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


def send_in(request: Request, _: Exception) -> Response:
    """Redirect to the sign-in page, and from there back. A written form stays in the person's browser."""
    site: Site = request.app.state.site
    if request.method != "GET" or request.headers.get("hx-request"):
        wrong = "You are signed out, and nothing was saved. Sign in in another tab, then try again here."
        return site.page(request, "sign-in.html.jinja", 401, to="/", wrong=wrong)
    to = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return RedirectResponse(f"/sign-in?to={quote(to, safe='')}" if to != "/" else "/sign-in", 303)


def _count_try(request: Request, site: Site) -> None:
    seconds = site.attempts.wait(client_of(request.client.host) if request.client else "")
    if seconds:
        raise ReviewRefused(429, f"Too many tries. Try again in {seconds:.0f} s.")


def _state_of(request: Request) -> str:
    return f"{cookie_of(request)}-state"


def _here(to: str) -> str:
    """The path if it is on this site, else the start page."""
    return to if to.startswith("/") and not to.startswith(("//", "/\\")) and to.isprintable() else "/"
