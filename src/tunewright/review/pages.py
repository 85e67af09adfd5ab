"""The pages: one capture of the queue, those alike, history, agreement, overview."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from sqlalchemy import func, select
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
from tunewright.review.history import by_id, history, recent
from tunewright.review.people import Session
from tunewright.review.site import Posted, Reviewing, ReviewRefused, SignedIn, Site, SiteOf
from tunewright.tasks.base import Unfit

DAYS = 30
SHOWN = 5
"""Alarms and deployments, the latest first."""


@dataclass(frozen=True)
class Day:
    day: date
    answered: float
    escalated: float


@dataclass(frozen=True)
class Overview:
    states: dict[str, int]
    """Captures that are open, done or in conflict."""
    days: list[Day]
    """The last ones with requests, the latest first."""
    right: dict[str, Interval]
    """By bundle version, the share of the lately reviewed answers that reviewers call right."""
    alarms: Sequence[Alarm]
    deployments: Sequence[Deployment]

    @property
    def captured(self) -> int:
        return sum(self.states.values())


def overview(session: Transaction, model: str) -> Overview:
    states = select(Capture.state, func.count()).where(Capture.model == model).group_by(Capture.state)
    days = (
        select(Tally.day, func.sum(Tally.answered), func.sum(Tally.escalated))
        .where(Tally.model == model)
        .group_by(Tally.day)
        .order_by(Tally.day.desc())
        .limit(DAYS)
    )
    said = recent(EXPERT)
    judged = session.execute(select(said.c.capture_id, said.c.right)).all()
    versions = dict(by_id(session, select(Capture.id, Capture.version), model, {row[0] for row in judged}))
    right: defaultdict[str, list[bool]] = defaultdict(list)
    for capture_id, is_right in judged:
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
"""Characters of a request that are shown at once."""


@router.get("/")
def queue(request: Request, site: SiteOf, session: SignedIn, after: str = "") -> Response:
    """The next capture."""
    person = session.person
    name, formerly = person.reviewer, person.formerly
    with site.store.session() as transaction:
        behind = transaction.get(Capture, after.replace("\0", "")) if after else None
        held = site.desks.of_others(name)
        found = waiting(transaction, site.model, name, behind, held, formerly)
        if found is None and behind is not None:
            session.said = f"{session.said} That was the end of the queue: what you passed over comes again.".strip()
            return RedirectResponse("/", 303)
        found = found or waiting(
            transaction, site.model, name, formerly=formerly
        )  # rather what another looks at than nothing
        if found is None:
            return site.page(request, "empty.html.jinja")
        if person.may_review:
            site.desks.take(name, found.id)
        return _item(request, site, session, transaction, found, after=after)


@router.get("/item/{capture_id}")
def item(
    request: Request, site: SiteOf, session: SignedIn, capture_id: str, after: str = "", whole: bool = False
) -> Response:
    """A capture, whatever has become of it."""
    with site.store.session() as transaction:
        found = _capture(transaction, site, capture_id)
        return _item(request, site, session, transaction, found, after=after, whole=whole)


@router.post("/item/{capture_id}")
def answer_item(request: Request, site: SiteOf, session: Reviewing, form: Posted, capture_id: str) -> Response:
    """Save what is right."""
    after, written = _text(form, "after"), _text(form, "answer")
    with site.store.session() as transaction:
        found = _capture(transaction, site, capture_id)
        try:
            verdict = _verdict(site, form, found.answer)
        except Unfit as error:
            told: dict[str, Any] = {"unfit": str(error), "written": written, "comment": _text(form, "comment")}
            return _item(request, site, session, transaction, found, 422, after=after, **told)
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
    session.said = f"Saved: {_named(verdict, found.answer)}."
    return RedirectResponse("/agreement" if settles else f"/?after={quote(after)}" if after else "/", 303)


@router.get("/alike/{capture_id}")
def alike_items(request: Request, site: SiteOf, session: SignedIn, capture_id: str) -> Response:
    with site.store.session() as transaction:
        return _alike(request, site, session, transaction, _capture(transaction, site, capture_id))


@router.post("/alike/{capture_id}")
def answer_alike(request: Request, site: SiteOf, session: Reviewing, form: Posted, capture_id: str) -> Response:
    """Save one answer for all that are ticked."""
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
    session.said = f"Saved {saved.count} alike: {_named(verdict, 'each answer is right')}."
    if left:
        session.said += f" {left} stay as they are: reviewed meanwhile, or no answer that can be right."
    return RedirectResponse("/", 303)


@router.post("/undo")
def undo(site: SiteOf, session: Reviewing, form: Posted) -> Response:
    """Take back an act, or the latest of one's own."""
    person = session.person
    with site.store.session() as transaction:
        act = _text(form, "act") or acts.latest_act(transaction, person.reviewer)
        if act is None:
            session.said = "There is nothing of yours to undo."
            return RedirectResponse("/", 303)
        try:
            undone = acts.undo(transaction, act, person.reviewer, admin=person.role == "admin", wanted=site.wanted)
        except NotYours:
            raise ReviewRefused(403, "Somebody else saved that. An admin can undo it.") from None
    if not undone:
        session.said = "That was undone before."
        return RedirectResponse("/history", 303)
    session.said = f"Undone: {len(undone)} reviews." if len(undone) > 1 else "Undone."
    if any(said.dataset is not None for said in undone):
        session.said += " It had gone into a dataset, which is never changed: review it again to correct the next one."
    back = "/alike" if undone[0].source == "bulk" else "/item"
    return RedirectResponse("/history" if _text(form, "act") else f"{back}/{quote(undone[0].capture_id)}", 303)


@router.get("/history")
def all_reviews(request: Request, site: SiteOf, session: SignedIn, before: Before = None) -> HTMLResponse:
    with site.store.session() as transaction:
        entries = history(transaction, site.model, session.person.reviewer, before, blind=site.wanted > 1)
        return site.page(request, "history.html.jinja", entries=entries, before=before)


@router.get("/agreement")
def agreement(request: Request, site: SiteOf, _: SignedIn) -> HTMLResponse:
    with site.store.session() as transaction:
        found = agreements(transaction, site.model, by_answer=bool(site.form.labels))
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
    **told: Any,
) -> HTMLResponse:
    """A capture's page.

    What other reviewers said is shown only to those who have said something themselves, so that two opinions are two.
    """
    name, formerly = session.person.reviewer, session.person.formerly
    said = acts.reviews_of(transaction, found.id)
    feedback = [each for each in said if each.source == BY_CLIENT and each.undone is None]
    live = [each for each in said if each.source != BY_CLIENT and each.undone is None]
    is_open, has_said = found.state == "open", any(each.reviewer == name for each in live)
    waits = is_open and not any(each.reviewer in (name, formerly) for each in live)
    opinions = transaction.scalars(select(SecondOpinion).where(SecondOpinion.capture_id == found.id)).all()
    return site.page(
        request,
        "item.html.jinja",
        status,
        capture=found,
        opinions=opinions,
        feedback=feedback,
        reviews=[] if is_open and not has_said else live,
        waits=waits,
        settles=found.state == "conflict",
        after=after,
        text=found.request if whole else found.request[:SHORT],
        length=len(found.request),
        alike=count_alike(transaction, found, name, formerly) if waits else 0,
        fits=_fits(site, found.answer),
        drawn=found.priority >= DRAWN,
        **told,
    )


def _alike(
    request: Request,
    site: Site,
    session: Session,
    transaction: Transaction,
    found: Capture,
    status: int = 200,
    **told: Any,
) -> HTMLResponse:
    rows = alike(transaction, found, session.person.reviewer, session.person.formerly)
    # Ticked at first are those that were answered alike, too: they are most probably right or wrong together.
    told = {"ticked": [row[0] for row in rows if row[2] == found.answer], "written": "", "unfit": ""} | told
    return site.page(request, "alike.html.jinja", status, capture=found, rows=rows, **told)


def _verdict(site: Site, form: FormData, given: str | None) -> ReviewChoice:
    """What a form says.

    Args:
        given: the model's answer; None: those of several captures.

    Raises:
        Unfit: it says no answer of the task.
    """
    said = _text(form, "say")
    if said == "none":
        return ReviewChoice()
    if said == "right":
        if given is not None:
            site.form.read(given)
        return ReviewChoice(own=True)
    answer = site.form.read(_text(form, "answer"))
    return ReviewChoice(own=True) if given is not None and site.form.same(answer, given) else ReviewChoice(answer)


def _fits(site: Site, answer: str) -> bool:
    try:
        site.form.read(answer)
    except Unfit:
        return False
    return True


def _named(verdict: ReviewChoice, given: str) -> str:
    answer = given if verdict.own else verdict.answer
    return "no right answer" if answer is None else f"{answer[:60]}…" if len(answer) > 60 else answer


def _text(form: FormData, name: str) -> str:
    value = form.get(name, "")
    return value.replace("\0", "") if isinstance(value, str) else ""  # which PostgreSQL does not take
