"""What the pages share: the store, whose captures are reviewed, who is signed in, and how a page is filled in."""

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
    """Somebody has to say who he is first."""


class ReviewRefused(Exception):
    """Why something is not done.

    Args:
        status: HTTP's.
        why: as a sentence.
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
    """People who are to review each capture."""
    link: OneTimeLink | None = None
    keys: KeyHolders | None = None
    provider: SignInProvider | None = None
    sessions: Sessions = field(default_factory=Sessions)
    attempts: Attempts = field(default_factory=Attempts)
    desks: Desks = field(default_factory=Desks)

    def page(self, request: Request, template: str, status: int = 200, **told: Any) -> HTMLResponse:
        """A page. What stands in it is escaped, whatever it is."""
        session: Session | None = getattr(request.state, "session", None)
        told |= {
            "site": self,
            "session": session,
            "person": session.person if session else None,
            "said": session.take_said() if session else "",
            "path": request.url.path,
        }
        return HTMLResponse(_templates().get_template(template).render(told), status)


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
    site: Site = request.app.state.site
    return site


def cookie_of(request: Request) -> str:
    """The session cookie's name. A browser shares cookies between the ports of a machine, hence the port in it."""
    return f"tunewright-review-{request.url.port or request.url.scheme}"


def session_of(request: Request) -> Session | None:
    """Of who sends a request; None: nobody who is signed in."""
    return site_of(request).sessions.find(request.cookies.get(cookie_of(request), ""))


def signed_in(request: Request) -> Session:
    """Raises:
    NotSignedIn: nobody is.
    """
    session = session_of(request)
    if session is None:
        raise NotSignedIn
    request.state.session = session
    return session


def reviewing(session: Annotated[Session, Depends(signed_in)]) -> Session:
    """Raises:
    Refused: he may only look.
    """
    if not session.person.may_review:
        raise ReviewRefused(403, "You may look here, but not review.")
    return session


async def posted(request: Request, session: Annotated[Session, Depends(signed_in)]) -> FormData:
    """What was sent with one of this site's own forms.

    Raises:
        Refused: with another's.
    """
    form = await request.form(max_fields=1000, max_part_size=MOST_FORM_BYTES)
    if form.get("csrf") != session.csrf:
        raise ReviewRefused(403, "This page is from before you signed in. Nothing was saved: load it again.")
    return form


SiteOf = Annotated[Site, Depends(site_of)]
SignedIn = Annotated[Session, Depends(signed_in)]
Reviewing = Annotated[Session, Depends(reviewing)]
Posted = Annotated[FormData, Depends(posted)]
