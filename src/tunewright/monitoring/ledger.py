"""The real savings to date: the API's price for the answered requests minus the cost of answering them, beside the
quality that reviews show."""

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
from tunewright.monitoring.captured import answered, as_numbers, as_reviewed, last_reviews
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Capture, Tally

_READ = 5000
"""Captures whose confidences represent all."""


@dataclass(frozen=True)
class Quality:
    """The quality of a bundle's answers according to reviews."""

    reviewed: int
    right: int
    """Right answers among the reviewed ones. The queue shows doubtful answers first, so their share is below the
    accuracy."""
    accuracy: Accuracy | None
    """The accuracy of all answers; None if too few are reviewed for an estimate."""


def quality(session: Session, model: str) -> dict[str, Quality]:
    """The quality of each bundle version, in the order of the first reviews. The last expert's review of a capture
    counts."""
    by_version: dict[str, list[Any]] = defaultdict(list)
    for row in last_reviews(session, Capture.model == model):
        by_version[row.version].append(row)
    return {version: _of(session, model, version, rows) for version, rows in by_version.items()}


def _of(session: Session, model: str, version: str, rows: list[Any]) -> Quality:
    reviewed, sure = as_reviewed(rows), as_numbers(_confidences(session, model, version))
    accuracy = accuracy_now(reviewed, sure, answered(session, model, version))
    return Quality(len(rows), int(reviewed.right.sum()), accuracy)


def _confidences(session: Session, model: str, version: str) -> list[float | None]:
    """The confidences of a random sample: ids are random, so the first captures in id order are one."""
    confidences = select(Capture.confidence).where(Capture.model == model, Capture.version == version)
    return list(session.scalars(confidences.order_by(Capture.id).limit(_READ)))


_DAYS_A_MONTH = HOURS_A_MONTH / 24


@dataclass(frozen=True)
class LedgerEntry:
    """A month of the ledger, or its total."""

    name: str
    """The month, such as 2026-11."""
    days: float
    """The days for which machines stood ready."""
    requests: float
    escalated: float
    """Requests that a cascade escalated to the API."""
    api_usd: float
    """The API's price for all requests."""
    own_usd: float
    """The cost of machines, upkeep, and the API for escalated requests."""

    @property
    def saved_usd(self) -> float:
        """The savings in USD; negative if the own model cost more."""
        return self.api_usd - self.own_usd


@dataclass(frozen=True)
class Ledger:
    """The savings month by month, at the price book's prices."""

    api: str
    machine: str
    prices_of: str
    months: list[LedgerEntry]
    total: LedgerEntry
    engineering_usd: float
    quality: dict[str, Quality]
    """The quality of each bundle version according to reviews."""

    @property
    def sentence(self) -> str:
        """The summary for a manager."""
        total, left = self.total, self.engineering_usd - self.total.saved_usd
        if total.saved_usd < 0:
            return (
                f"To date the own model cost ${-total.saved_usd:,.2f} more than {self.api} would have cost, for "
                f"{total.requests:,.0f} requests in {total.days:,.1f} days."
            )
        paid = f" ${left:,.2f} of its engineering cost are not yet earned back." if left > 0 else ""
        return (
            f"To date the own model saved ${total.saved_usd:,.2f}: {total.requests:,.0f} requests in "
            f"{total.days:,.1f} days would have cost ${total.api_usd:,.2f} with {self.api}, and cost "
            f"${total.own_usd:,.2f}.{paid}"
        )


def ledger(spec: Spec, store: Store, book: PriceBook, now: datetime | None = None) -> Ledger:
    """The savings ledger of a project.

    If servers keep only a share of the requests, the captures stand for all of them and the figures are estimates. A
    day without requests still costs its machines. All months use the prices of today's book.

    Args:
        now: the time until which machines are counted.
    """
    now = now or datetime.now(UTC)
    with store.session() as session:
        tallies = session.scalars(select(Tally).where(Tally.model == spec.name).order_by(Tally.day)).all()
        by_version = quality(session, spec.name)
    days = _days(spec, book, tallies, now)
    months = [_sum(name, list(of_month)) for name, of_month in groupby(days, lambda each: f"{each.day:%Y-%m}")]
    return Ledger(
        spec.api.model,
        spec.traffic.machine,
        book.as_of,
        months,
        _sum("total", days),
        spec.costs.engineering_usd,
        by_version,
    )


@dataclass(frozen=True)
class _Day:
    day: date
    share: float
    """The share of the day that has passed."""
    requests: float
    escalated: float
    api_usd: float
    own_usd: float


def _days(spec: Spec, book: PriceBook, tallies: Iterable[Tally], now: datetime) -> list[_Day]:
    """Every day from the first tally on, including days without requests."""
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
    share = min(1.0, passed) if passed > 0 else float(requests > 0)  # with a clock that was set back
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
    """The API's price for a tally's requests. The spec may give the length of the API's own prompt and answers."""
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
