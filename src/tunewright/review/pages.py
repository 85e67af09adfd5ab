"""The pages: one capture of the queue, similar captures, history, agreement, overview."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session as Transaction
from starlette.datastructures import FormData

from tunewright.evaluation.statistics.intervals import Interval, wilson
from tunewright.monitoring.queue import MOST_ALIKE, alike, count_alike, waiting
from tunewright.monitoring.store.tables import (
    BY_CLIENT,
    DRAWN,
    EXPERT,
    Alarm,
    Capture,
    Deployment,
    SecondOpinion,
    Tally,
)
from tunewright.review import acts
from tunewright.review.acts import NotYours, ReviewChoice
from tunewright.review.agreement import agreements, conflicts
from tunewright.review.answers import NO_LABEL
from tunewright.review.history import by_id, history, recent
from tunewright.review.people import Session
from tunewright.review.site import Posted, Reviewing, ReviewRefused, SignedIn, Site, SiteOf
from tunewright.tasks.base import Unfit

DAYS = 30
SHOWN = 5
"""The number of latest alarms and deployments to show."""


@dataclass(frozen=True)
class Day:
    """The requests of one day."""

    day: date
    answered: float
    escalated: float


@dataclass(frozen=True)
class Overview:
    """The content of the overview page."""

    states: dict[str, int]
    """The number of captures by state: open, done, conflict."""
    days: list[Day]
    """The last days with requests, newest first."""
    right: dict[str, Interval]
    """The share of recently reviewed answers that reviewers call right, by bundle version. Reviews that no answer is
    right, or nobody can tell, do not count."""
    alarms: Sequence[Alarm]
    deployments: Sequence[Deployment]

    @property
    def captured(self) -> int:
        """The number of all captures."""
        return sum(self.states.values())


def overview(session: Transaction, model: str) -> Overview:
    """Read the overview of a model from the store."""
    states = select(Capture.state, func.count()).where(Capture.model == model).group_by(Capture.state)
    days = (
        select(Tally.day, func.sum(Tally.answered), func.sum(Tally.escalated))
        .where(Tally.model == model)
        .group_by(Tally.day)
        .order_by(Tally.day.desc())
        .limit(DAYS)
    )
    latest = recent(EXPERT, model)
    known = or_(latest.c.right, latest.c.answer.is_not(None))
    reviews = session.execute(select(latest.c.capture_id, latest.c.right).where(known)).all()
    versions = dict(by_id(session, select(Capture.id, Capture.version), model, {row[0] for row in reviews}))
    right: defaultdict[str, list[bool]] = defaultdict(list)
    for capture_id, is_right in reviews:
        if capture_id in versions:
            right[versions[capture_id]].append(is_right)
    return Overview(
        states={row[0]: row[1] for row in session.execute(states)},
        days=[Day(*row) for row in session.execute(days)],
        right={version: wilson(sum(each), len(each)) for version, each in sorted(right.items())},
        alarms=session.scalars(
            select(Alarm).where(Alarm.model == model).order_by(Alarm.number.desc()).limit(SHOWN)
        ).all(),
        deployments=session.scalars(
            select(Deployment).where(Deployment.model == model).order_by(Deployment.number.desc()).limit(SHOWN)
        ).all(),
    )


router = APIRouter()
Before = Annotated[int | None, Query(ge=1, lt=1 << 62)]
SHORT = 4000
"""Characters of a request to show at once."""


@router.get("/")
def queue(request: Request, site: SiteOf, session: SignedIn, after: str = "") -> Response:
    """The next capture of the queue."""
    person = session.person
    name, formerly = person.reviewer, person.formerly
    with site.store.session() as transaction:
        behind = transaction.get(Capture, after.replace("\0", "")) if after else None
        held = site.desks.of_others(name)
        found = waiting(transaction, site.model, name, behind, held, formerly)
        if found is None and behind is not None:
            end = "That was the end of the queue: the requests that you skipped come again."
            session.message = f"{session.message} {end}".strip()
            return RedirectResponse("/", 303)
        # If nothing else waits, show a capture that another person looks at.
        found = found or waiting(transaction, site.model, name, formerly=formerly)
        if found is None:
            return site.page(request, "empty.html.jinja")
        if person.may_review:
            site.desks.take(name, found.id)
        return _item(request, site, session, transaction, found, after=after)


@router.get("/item/{capture_id}")
def item(
    request: Request, site: SiteOf, session: SignedIn, capture_id: str, after: str = "", whole: bool = False
) -> Response:
    """One capture, whatever its state."""
    with site.store.session() as transaction:
        found = _capture(transaction, site, capture_id)
        return _item(request, site, session, transaction, found, after=after, whole=whole)


@router.post("/item/{capture_id}")
def answer_item(request: Request, site: SiteOf, session: Reviewing, form: Posted, capture_id: str) -> Response:
    """Save a review of one capture."""
    after, written = _text(form, "after"), _text(form, "answer")
    with site.store.session() as transaction:
        found = _capture(transaction, site, capture_id)
        try:
            verdict = _verdict(site, form, found.answer)
        except Unfit as error:
            values: dict[str, Any] = {"unfit": str(error), "written": written, "comment": _text(form, "comment")}
            return _item(request, site, session, transaction, found, 422, after=after, **values)
        settles = found.state == "conflict"
        saved = acts.save(
            transaction,
            [found.id],
            site.model,
            session.person.reviewer,
            verdict,
            wanted=site.wanted,
            source="settle" if settles else "review",
            comment=_text(form, "comment")[:2000],
            formerly=session.person.formerly,
        )
        if not saved.count:
            transaction.refresh(found)
            return _item(
                request, site, session, transaction, found, 409, after=after, late=saved.before, written=written
            )
    session.message = f"Saved: {_named(verdict, found.answer)}."
    return RedirectResponse("/agreement" if settles else f"/?after={quote(after)}" if after else "/", 303)


@router.get("/alike/{capture_id}")
def alike_items(request: Request, site: SiteOf, session: SignedIn, capture_id: str) -> Response:
    """The captures that are similar to one."""
    with site.store.session() as transaction:
        return _alike(request, site, session, transaction, _capture(transaction, site, capture_id))


@router.post("/alike/{capture_id}")
def answer_alike(request: Request, site: SiteOf, session: Reviewing, form: Posted, capture_id: str) -> Response:
    """Save one answer for all ticked captures."""
    ids = [str(each).replace("\0", "") for each in form.getlist("id")][:MOST_ALIKE]
    with site.store.session() as transaction:
        found = _capture(transaction, site, capture_id)
        try:
            if not ids:
                raise Unfit("nothing is ticked")
            verdict = _verdict(site, form, None)
        except Unfit as error:
            return _alike(
                request,
                site,
                session,
                transaction,
                found,
                422,
                unfit=str(error),
                ticked=ids,
                written=_text(form, "answer"),
            )
        if verdict.own:
            given = select(Capture.id, Capture.answer).where(Capture.id.in_(ids))
            fitting = [capture_id for capture_id, answer in transaction.execute(given) if _fits(site, answer)]
        else:
            fitting = ids
        saved = acts.save(
            transaction,
            fitting,
            site.model,
            session.person.reviewer,
            verdict,
            source="bulk",
            wanted=site.wanted,
            formerly=session.person.formerly,
        )
    left = len(ids) - saved.count
    session.message = f"Saved {saved.count} alike: {_named(verdict, 'each answer is right')}."
    if left:
        session.message += f" {left} stay unchanged: they were reviewed meanwhile, or their answer can't be right."
    return RedirectResponse("/", 303)


@router.post("/undo")
def undo(site: SiteOf, session: Reviewing, form: Posted) -> Response:
    """Undo an action, by default the person's last one."""
    person = session.person
    with site.store.session() as transaction:
        act = _text(form, "act") or acts.latest_act(transaction, person.reviewer, site.model)
        if act is None:
            session.message = "You have nothing to undo."
            return RedirectResponse("/", 303)
        try:
            undone = acts.undo(
                transaction, act, person.reviewer, site.model, admin=person.role == "admin", wanted=site.wanted
            )
        except NotYours:
            raise ReviewRefused(403, "Somebody else saved that. An admin can undo it.") from None
    if not undone:
        session.message = "That was undone already."
        return RedirectResponse("/history", 303)
    session.message = f"Undone: {len(undone)} reviews." if len(undone) > 1 else "Undone."
    if any(review.dataset is not None for review in undone):
        session.message += (
            " The corrections contain it and never change. To take it out, move their folder away and type: "
            "tunewright monitor corrections PROJECT"
        )
    back = "/alike" if undone[0].source == "bulk" else "/item"
    return RedirectResponse("/history" if _text(form, "act") else f"{back}/{quote(undone[0].capture_id)}", 303)


@router.get("/history")
def all_reviews(request: Request, site: SiteOf, session: SignedIn, before: Before = None) -> HTMLResponse:
    with site.store.session() as transaction:
        entries = history(
            transaction, site.model, session.person.reviewer, before, blind=site.wanted > 1 or site.labels
        )
        return site.page(request, "history.html.jinja", entries=entries, before=before)


@router.get("/agreement")
def agreement(request: Request, site: SiteOf, _: SignedIn) -> HTMLResponse:
    with site.store.session() as transaction:
        found = agreements(transaction, site.model, by_answer=site.compares_answers)
        open_ones = [(each, acts.reviews_of(transaction, each.id)) for each in conflicts(transaction, site.model)]
    return site.page(request, "agreement.html.jinja", agreements=found, conflicts=open_ones)


@router.get("/overview")
def all_in_short(request: Request, site: SiteOf, _: SignedIn) -> HTMLResponse:
    with site.store.session() as transaction:
        return site.page(request, "overview.html.jinja", found=overview(transaction, site.model))


def _capture(transaction: Transaction, site: Site, capture_id: str) -> Capture:
    found = transaction.get(Capture, capture_id.replace("\0", ""))
    if found is None or found.model != site.model:
        raise ReviewRefused(404, "There is no such request; it may have been deleted since.")
    return found


def _item(
    request: Request,
    site: Site,
    session: Session,
    transaction: Transaction,
    found: Capture,
    status: int = 200,
    *,
    after: str,
    whole: bool = False,
    **values: Any,
) -> HTMLResponse:
    """The page of a capture.

    It shows other people's reviews only to those who have reviewed the capture, so that opinions stay independent.
    """
    name, formerly = session.person.reviewer, session.person.formerly
    reviews = acts.reviews_of(transaction, found.id)
    feedback = [each for each in reviews if each.source == BY_CLIENT and each.undone is None]
    live = [each for each in reviews if each.source != BY_CLIENT and each.undone is None]
    is_open, has_reviewed = found.state == "open", any(each.reviewer == name for each in live)
    waits = is_open and not any(each.reviewer in (name, formerly) for each in live)
    opinions = transaction.scalars(select(SecondOpinion).where(SecondOpinion.capture_id == found.id)).all()
    return site.page(
        request,
        "item.html.jinja",
        status,
        capture=found,
        opinions=opinions,
        feedback=feedback,
        reviews=[] if is_open and not has_reviewed else live,
        waits=waits,
        settles=found.state == "conflict",
        after=after,
        text=found.request if whole else found.request[:SHORT],
        length=len(found.request),
        alike=count_alike(transaction, found, name, formerly) if waits else 0,
        fits=_fits(site, found.answer),
        drawn=found.priority >= DRAWN,
        **values,
    )


def _alike(
    request: Request,
    site: Site,
    session: Session,
    transaction: Transaction,
    found: Capture,
    status: int = 200,
    **values: Any,
) -> HTMLResponse:
    rows = alike(transaction, found, session.person.reviewer, session.person.formerly)
    # Captures with the same answer start ticked, because they are probably right or wrong together.
    values = {"ticked": [row[0] for row in rows if row[2] == found.answer], "written": "", "unfit": ""} | values
    return site.page(request, "alike.html.jinja", status, capture=found, rows=rows, **values)


def _verdict(site: Site, form: FormData, given: str | None) -> ReviewChoice:
    """The decision in a form.

    Args:
        given: the model's answer; None if the form is about several captures.

    Raises:
        Unfit: the form's answer is not an answer of the task.
    """
    choice = _text(form, "say")
    if choice == "none":
        return ReviewChoice()
    if choice == "right":
        if site.labels:
            raise Unfit("there is no answer yet")
        if given is not None:
            site.form.fitting(given)
        return ReviewChoice(own=True)
    written = _text(form, "answer")
    # Nothing stood in the field before, so nobody has taken labels out of it.
    if site.labels and site.form.several and not written.strip():
        raise Unfit(f"it is empty; write {NO_LABEL} if no label holds")
    answer = site.form.read(written)
    return ReviewChoice(own=True) if given is not None and site.form.same(answer, given) else ReviewChoice(answer)


def _fits(site: Site, answer: str) -> bool:
    try:
        site.form.fitting(answer)
    except Unfit:
        return False
    return True


def _named(verdict: ReviewChoice, given: str) -> str:
    answer = given if verdict.own else verdict.answer
    return "no right answer" if answer is None else f"{answer[:60]}…" if len(answer) > 60 else answer


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value.replace("\0", "") if isinstance(value, str) else ""  # PostgreSQL accepts no NUL
