"""What was really saved to date: what the API would have cost for what was really answered, less what answering it
cost, with the quality that reviews show beside it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunewright.config import Spec
from tunewright.drift.accuracy import Accuracy, accuracy_now
from tunewright.economics.cost import HOURS_A_MONTH, Service, host_cost
from tunewright.economics.prices import PriceBook
from tunewright.economics.upkeep import letters_of, upkeep_of
from tunewright.monitoring.captured import answered, as_numbers, as_reviewed, last_words
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Capture, Tally

_READ = 5000
"""Captures whose confidence stands for that of all."""


@dataclass(frozen=True)
class Quality:
    """What reviews say of a bundle's answers."""

    reviewed: int
    right: int
    """Of the reviewed ones. The queue shows doubtful answers first, so their share is below the accuracy."""
    accuracy: Accuracy | None
    """Of all answers; None where too few are reviewed to tell."""


def quality(session: Session, model: str) -> dict[str, Quality]:
    """By bundle version, the first one that was reviewed first. The last word of an expert on a capture counts."""
    by_version: dict[str, list[Any]] = defaultdict(list)
    for row in last_words(session, Capture.model == model):
        by_version[row.version].append(row)
    return {version: _of(session, model, version, rows) for version, rows in by_version.items()}


def _of(session: Session, model: str, version: str, rows: list[Any]) -> Quality:
    reviewed, sure = as_reviewed(rows), as_numbers(_confidences(session, model, version))
    accuracy = accuracy_now(reviewed, sure, answered(session, model, version))
    return Quality(len(rows), int(reviewed.right.sum()), accuracy)


def _confidences(session: Session, model: str, version: str) -> list[float | None]:
    """Of captures drawn at random: ids are random, and those that come first in their order are taken."""
    all_of_it = select(Capture.confidence).where(Capture.model == model, Capture.version == version)
    return list(session.scalars(all_of_it.order_by(Capture.id).limit(_READ)))


_DAYS_A_MONTH = HOURS_A_MONTH / 24


@dataclass(frozen=True)
class LedgerEntry:
    """A month of the ledger, or all of it."""

    name: str
    """Such as 2026-11."""
    days: float
    """For which machines stood ready."""
    requests: float
    escalated: float
    """Of them, those that a cascade passed on to the API."""
    api_usd: float
    """What the API would have cost for all of them."""
    own_usd: float
    """Machines and upkeep, and the API for what was escalated."""

    @property
    def saved_usd(self) -> float:
        return self.api_usd - self.own_usd


@dataclass(frozen=True)
class Ledger:
    """What was saved, month by month, at the price book's prices."""

    api: str
    machine: str
    prices_of: str
    months: list[LedgerEntry]
    total: LedgerEntry
    engineering_usd: float
    quality: dict[str, Quality]
    """By bundle version, what reviews show of its answers."""

    @property
    def sentence(self) -> str:
        """What a manager is told."""
        total, left = self.total, self.engineering_usd - self.total.saved_usd
        if total.saved_usd < 0:
            return (
                f"To date the own model cost ${-total.saved_usd:,.2f} more than {self.api} would have, for "
                f"{total.requests:,.0f} requests in {total.days:,.1f} days."
            )
        paid = f" ${left:,.2f} of what building it cost are still to be earned." if left > 0 else ""
        return (
            f"To date ${total.saved_usd:,.2f} were saved: {total.requests:,.0f} requests in {total.days:,.1f} days "
            f"would have cost ${total.api_usd:,.2f} with {self.api}, and cost ${total.own_usd:,.2f}.{paid}"
        )


def ledger(spec: Spec, store: Store, book: PriceBook, now: datetime | None = None) -> Ledger:
    """The savings ledger of a project.

    Captures of a sample stand for all requests, so the figures are estimates where only a share is kept. A day without
    requests costs its machines all the same. Prices are those of today's book, for all months.

    Args:
        now: until when machines are counted.
    """
    now = now or datetime.now(UTC)
    with store.session() as session:
        tallies = session.scalars(select(Tally).where(Tally.model == spec.name).order_by(Tally.day)).all()
        judged = quality(session, spec.name)
    days = _days(spec, book, tallies, now)
    months = [_sum(name, list(of_month)) for name, of_month in groupby(days, lambda each: f"{each.day:%Y-%m}")]
    return Ledger(
        spec.api.model,
        spec.traffic.machine,
        book.as_of,
        months,
        _sum("total", days),
        spec.costs.engineering_usd,
        judged,
    )


@dataclass(frozen=True)
class _Day:
    day: date
    share: float
    """Of the day that has passed."""
    requests: float
    escalated: float
    api_usd: float
    own_usd: float


def _days(spec: Spec, book: PriceBook, tallies: Iterable[Tally], now: datetime) -> list[_Day]:
    """Every day from the first tally on, those without requests too."""
    by_day = {day: list(of_day) for day, of_day in groupby(tallies, lambda tally: tally.day)}
    if not by_day:
        return []
    first, last = min(by_day), max(max(by_day), now.astimezone(UTC).date())
    return [
        _priced(spec, book, day, by_day.get(day, []), now)
        for day in (first + timedelta(n) for n in range((last - first).days + 1))
    ]


def _priced(spec: Spec, book: PriceBook, day: date, tallies: list[Tally], now: datetime) -> _Day:
    passed = (now - datetime.combine(day, time(), UTC)) / timedelta(days=1)
    requests = sum(tally.answered for tally in tallies)
    share = min(1.0, passed) if passed > 0 else float(requests > 0)  # a clock that was set back has still answered
    escalated = sum(tally.escalated for tally in tallies)
    api = sum(_api_usd(spec, book, tally) for tally in tallies)
    machine = book.machine(spec.traffic.machine)
    tokens = sum(tally.prompt_tokens for tally in tallies), sum(tally.answer_tokens for tally in tallies)
    rest = upkeep_of(spec, book, letters=letters_of(*tokens) / requests if requests else 0.0)
    if requests:
        seconds = sum(tally.seconds for tally in tallies) / requests
        cost = host_cost(
            machine,
            Service(seconds, seconds, spec.goal.p95_ms / 1000),
            requests=requests / share * _DAYS_A_MONTH,
            peak_to_average=spec.traffic.peak_to_average,
            redundancy=spec.traffic.redundancy,
            upkeep_usd=rest.usd,
        )
        month = cost.usd_per_month
    else:
        ready = spec.traffic.redundancy - machine.scales_to_zero
        month = ready * machine.usd_per_hour * HOURS_A_MONTH + rest.usd
    own = month * share / _DAYS_A_MONTH + (api * escalated / requests if requests else 0)
    own += rest.request_usd * sum(tally.captured for tally in tallies)
    return _Day(day, share, requests, escalated, api, own)


def _api_usd(spec: Spec, book: PriceBook, tally: Tally) -> float:
    """What the API asks for a tally's requests: for its own prompt's tokens where the spec says how long that is."""
    prompt = spec.api.prompt_tokens * tally.answered if spec.api.prompt_tokens else tally.prompt_tokens
    answer = spec.api.completion_tokens * tally.answered if spec.api.completion_tokens else tally.answer_tokens
    return book.api(spec.api.model).usd(prompt, answer)


def _sum(name: str, days: list[_Day]) -> LedgerEntry:
    return LedgerEntry(
        name,
        days=sum(day.share for day in days),
        requests=sum(day.requests for day in days),
        escalated=sum(day.escalated for day in days),
        api_usd=sum(day.api_usd for day in days),
        own_usd=sum(day.own_usd for day in days),
    )
