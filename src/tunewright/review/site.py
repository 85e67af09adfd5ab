"""The objects that all pages share: the store, the answer form, the sessions, and the templates."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse
from starlette.datastructures import FormData

from tunewright.data.shown import shortened
from tunewright.monitoring.store import Store
from tunewright.review.answers import AnswerForm
from tunewright.review.people import Attempts, Desks, KeyHolders, OneTimeLink, Session, Sessions

if TYPE_CHECKING:
    from jinja2 import Environment

    from tunewright.review.provider import SignInProvider

MOST_FORM_BYTES = 4 << 20


class NotSignedIn(Exception):
    """The person must sign in first."""


class ReviewRefused(Exception):
    """A request is refused.

    Args:
        status: the HTTP status.
        why: the reason as a sentence.
    """

    def __init__(self, status: int, why: str):
        super().__init__(why)
        self.status, self.why = status, why


@dataclass
class Site:
    """A project's review app."""

    store: Store
    model: str
    form: AnswerForm
    wanted: int = 1
    """How many people review each capture."""
    labels: bool = False
    """Whether people answer requests that have no answer, in place of reviewing answers."""
    link: OneTimeLink | None = None
    keys: KeyHolders | None = None
    provider: SignInProvider | None = None
    sessions: Sessions = field(default_factory=Sessions)
    attempts: Attempts = field(default_factory=Attempts)
    desks: Desks = field(default_factory=Desks)

    @property
    def compares_answers(self) -> bool:
        """Whether reviewers agree if they give the same answer; else if they say the same about the model's answer."""
        return bool(self.form.labels or self.form.several or self.labels)

    def page(self, request: Request, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """Render a page. All values are escaped."""
        session: Session | None = getattr(request.state, "session", None)
        values |= {
            "site": self,
            "session": session,
            "person": session.person if session else None,
            "message": session.take_message() if session else "",
            "path": request.url.path,
        }
        return HTMLResponse(_templates().get_template(template).render(values), status)


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FunctionLoader

    folder = files("tunewright.review") / "templates"
    environment = Environment(
        loader=FunctionLoader(lambda name: (folder / name).read_text("utf-8")),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    filters: dict[str, Any] = {"short": lambda text: shortened(text, 160), "time": _time, "pct": _pct}
    environment.filters |= filters
    return environment


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _pct(share: float) -> str:
    return f"{100 * share:.0f} %"


def site_of(request: Request) -> Site:
    """The site of a request."""
    site: Site = request.app.state.site
    return site


def cookie_of(request: Request) -> str:
    """The session cookie's name. It contains the port, because browsers share cookies between the ports of a
    machine."""
    return f"tunewright-review-{request.url.port or request.url.scheme}"


def session_of(request: Request) -> Session | None:
    """The session of a request; None if nobody is signed in."""
    return site_of(request).sessions.find(request.cookies.get(cookie_of(request), ""))


def signed_in(request: Request) -> Session:
    """The session of a request.

    Raises:
        NotSignedIn: nobody is signed in.
    """
    session = session_of(request)
    if session is None:
        raise NotSignedIn
    request.state.session = session
    return session


def reviewing(session: Annotated[Session, Depends(signed_in)]) -> Session:
    """The session of a person who may review.

    Raises:
        ReviewRefused: the person may only read.
    """
    if not session.person.may_review:
        raise ReviewRefused(403, "You may read here, but not review.")
    return session


async def posted(request: Request, session: Annotated[Session, Depends(signed_in)]) -> FormData:
    """The content of a form of this site.

    Raises:
        ReviewRefused: the form is not from this session.
    """
    form = await request.form(max_fields=1000, max_part_size=MOST_FORM_BYTES)
    if form.get("csrf") != session.csrf:
        raise ReviewRefused(403, "This page is from before you signed in. Nothing was saved: load it again.")
    return form


SiteOf = Annotated[Site, Depends(site_of)]
SignedIn = Annotated[Session, Depends(signed_in)]
Reviewing = Annotated[Session, Depends(reviewing)]
Posted = Annotated[FormData, Depends(posted)]
