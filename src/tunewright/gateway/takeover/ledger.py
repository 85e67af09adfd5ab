"""What the jobs of a gateway cost and saved, by day: what was paid to APIs, what they would have cost for all requests,
and what the machine of the own models costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from tunewright.economics.lifetimes import lifetime
from tunewright.economics.prices import PriceBook
from tunewright.gateway.config import GatewaySpec
from tunewright.gateway.takeover.evidence import interval, quantile_interval
from tunewright.gateway.takeover.store import AMOUNTS, JobTally
from tunewright.gateway.takeover.tallies import BOUNDS, summed

_BASIS_DAYS = 30
"""Days up to a day whose answers of the API say what its own answers would have cost there."""
_MONTHS = 12
"""Months before an API's end in which the ledger mentions it."""


@dataclass
class SavedSums:
    """A day of a job, or a sum of them."""

    requests: float = 0.0
    own: float = 0.0
    """Answered by own models."""
    paid_usd: float = 0.0
    """To the API, for answers that clients got."""
    audit_usd: float = 0.0
    """To the API, for comparisons."""
    machine_usd: float = 0.0
    spared_usd: float = 0.0
    """What the API would have cost for the own answers."""
    unknown: float = 0.0
    """Own answers for which that is not known, because the API answered no such request shortly before."""
    reviewed: float = 0.0
    """Own answers that people reviewed."""
    corrected: float = 0.0
    """Those of them that they found wrong."""

    @property
    def api_usd(self) -> float:
        """What the API alone would have cost."""
        return self.paid_usd + self.spared_usd

    @property
    def saved_usd(self) -> float:
        """Negative if the own models cost more."""
        return self.spared_usd - self.audit_usd - self.machine_usd

    def add(self, other: SavedSums) -> None:
        for name in vars(self):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class OwnQuality:
    """How an own model did."""

    compared: float
    agreement: float
    low: float
    """The ends of the 95 % interval."""
    high: float


@dataclass
class JobSavings:
    """One job."""

    name: str
    model: str
    """The API's."""
    days: dict[date, SavedSums]
    total: SavedSums
    quality: dict[str, OwnQuality]
    """Of all own answers that were compared, by the version of the own model."""
    sure_quality: dict[str, OwnQuality]
    """The same of those that it was sure of."""
    own_seconds: dict[str, tuple[float, float, float]]
    """p50 and p95 with the ends of their 95 % intervals; empty: nothing was measured."""
    api_seconds: dict[str, tuple[float, float, float]]
    end: str
    """A sentence about the API's end, where that is near; else empty."""


@dataclass
class GatewayLedger:
    """All jobs of a gateway."""

    jobs: list[JobSavings]
    total: SavedSums
    machine: str | None
    notes: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        """The summary for a manager."""
        total = self.total
        if not total.own:
            return (
                f"To date the API answered all of {total.requests:,.0f} requests of these jobs, for "
                f"${total.paid_usd:,.2f}."
            )
        saved = f"saved ${total.saved_usd:,.2f}"
        if total.saved_usd < 0:
            saved = f"cost ${-total.saved_usd:,.2f} more than they spared"
        costs = f"audits cost ${total.audit_usd:,.2f}"
        costs += f" and the machine ${total.machine_usd:,.2f}" if self.machine else ""
        return (
            f"To date own models answered {total.own:,.0f} of {total.requests:,.0f} requests and {saved}: with the API "
            f"alone all would have cost ${total.api_usd:,.2f}; ${total.paid_usd:,.2f} were paid for answers, {costs}."
        )


Reviews = Mapping[date, tuple[int, int]]
"""(reviewed, corrected) own answers of each day."""


def ledger(
    spec: GatewaySpec,
    tallies: Sequence[JobTally],
    book: PriceBook,
    reviews: Mapping[str, Reviews] | None = None,
    now: datetime | None = None,
) -> GatewayLedger:
    """The ledger of a gateway.

    Args:
        reviews: by job; None: nobody reviewed an answer.

    Raises:
        UserError: the price book does not have the machine.
    """
    now = now or datetime.now(UTC)
    by_job: dict[str, list[JobTally]] = {}
    for tally in tallies:
        by_job.setdefault(tally.job, []).append(tally)
    jobs = [_job(name, of_job, book, now.date()) for name, of_job in by_job.items()]
    for job in jobs:
        for day, (reviewed, corrected) in (reviews or {}).get(job.name, {}).items():
            job.days.setdefault(day, SavedSums()).add(SavedSums(reviewed=reviewed, corrected=corrected))
    if spec.machine:
        _add_machine(jobs, book.machine(spec.machine).usd_per_hour, now)
    total = SavedSums()
    for job in jobs:
        for entry in job.days.values():
            job.total.add(entry)
        total.add(job.total)
    notes = [] if spec.machine else ["The machine of the own models is not counted: name it with `machine`."]
    if total.unknown:
        notes.append(
            f"For {total.unknown:,.0f} own answers nothing tells what the API would have cost, because it answered no "
            f"such request in the {_BASIS_DAYS} days before; they count as nothing."
        )
    return GatewayLedger(sorted(jobs, key=lambda job: -job.total.api_usd), total, spec.machine, notes)


def _job(name: str, tallies: Sequence[JobTally], book: PriceBook, today: date) -> JobSavings:
    by_day: dict[date, dict[str, float]] = {}
    for tally in tallies:
        amounts = by_day.setdefault(tally.day, dict.fromkeys(AMOUNTS, 0.0))
        for each in AMOUNTS:
            amounts[each] += getattr(tally, each)
    model = max(tallies, key=lambda tally: (tally.day, bool(tally.model))).model
    price = book.apis.get(model)
    return JobSavings(
        name,
        model,
        {day: _entry(by_day, day) for day in sorted(by_day)},
        SavedSums(),
        _qualities(tallies, "compared", "agreed"),
        _qualities(tallies, "compared_sure", "agreed_sure"),
        _latency(tally.own_seconds for tally in tallies),
        _latency(tally.api_seconds for tally in tallies),
        lifetime(model, price, None, today, _MONTHS).summary if price else "",
    )


def _entry(by_day: Mapping[date, Mapping[str, float]], day: date) -> SavedSums:
    amounts = by_day[day]
    basis = [each for other, each in by_day.items() if timedelta(0) <= day - other < timedelta(days=_BASIS_DAYS)]
    usd = sum(each["paid_usd"] + each["audit_usd"] for each in basis)
    size = sum(each["bytes"] for each in basis)
    return SavedSums(
        amounts["requests"],
        amounts["own"],
        amounts["paid_usd"],
        amounts["audit_usd"],
        0.0,
        amounts["own_bytes"] * usd / size if size else 0.0,
        0.0 if size else amounts["own"],
    )


def _add_machine(jobs: Sequence[JobSavings], usd_per_hour: float, now: datetime) -> None:
    """Divide the machine's cost of each day between the jobs by their own answers: of that day, or if there were none,
    as on a Sunday, of all days. It costs from the first own answer to the last day with requests."""
    owned = [day for job in jobs for day, entry in job.days.items() if entry.own]
    if not owned:
        return
    first, last = min(owned), max(day for job in jobs for day in job.days)
    whole = {job.name: sum(entry.own for entry in job.days.values()) for job in jobs}
    for day in (first + timedelta(number) for number in range((last - first).days + 1)):
        hours = 24.0 if day < now.date() else (now - datetime.combine(day, datetime.min.time(), UTC)).seconds / 3600
        own = {job.name: job.days[day].own for job in jobs if day in job.days}
        answered = own if any(own.values()) else whole
        for job in jobs:
            if share := answered.get(job.name, 0.0) / sum(answered.values()):
                job.days.setdefault(day, SavedSums()).machine_usd = usd_per_hour * hours * share
    for job in jobs:
        job.days = dict(sorted(job.days.items()))


def _qualities(tallies: Sequence[JobTally], counted: str, summed_up: str) -> dict[str, OwnQuality]:
    """By version, the last one used last."""
    sums: dict[str, tuple[float, float]] = {}
    for tally in tallies:
        count, agreed = sums.pop(tally.version, (0.0, 0.0))
        sums[tally.version] = count + getattr(tally, counted), agreed + getattr(tally, summed_up)
    return {
        version: OwnQuality(count, agreed / count, *interval(agreed, count))
        for version, (count, agreed) in sums.items()
        if count
    }


def _latency(histograms: Iterable[Mapping[str, Any]]) -> dict[str, tuple[float, float, float]]:
    counts = summed(list(histograms))
    if not sum(counts):
        return {}
    return {name: quantile_interval(counts, BOUNDS, share) for name, share in (("p50", 0.5), ("p95", 0.95))}
