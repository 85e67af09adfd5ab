"""The real savings to date: the API's price for the answered requests minus the cost of answering them, beside the
quality that reviews show."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunewright.config import Spec
from tunewright.core.artifacts import read_manifest
from tunewright.drift.accuracy import Accuracy, accuracy_now
from tunewright.economics.cost import HOURS_A_MONTH, Item, Service, host_cost
from tunewright.economics.lifetimes import lifetime
from tunewright.economics.mean_usage import MeanUsage, uncounted
from tunewright.economics.prices import PriceBook
from tunewright.economics.upkeep import NOT_COUNTED, letters_of, upkeep_of
from tunewright.evaluation.steps import usages_of
from tunewright.inference.bundle import read_info
from tunewright.monitoring.captured import answered, as_numbers, as_reviewed, last_reviews
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Capture, Tally
from tunewright.project import Project

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
_RETRAINING = "retraining"
"""The name of its item among a month's costs."""


@dataclass(frozen=True)
class LedgerEntry:
    """A month of the ledger, or its total."""

    name: str
    """The month, such as 2026-11."""
    days: float
    """The days for which machines stood ready."""
    requests: float
    escalated: float
    """Requests that were escalated to the API. A version whose verdict is `switch` escalates none."""
    api_usd: float
    """The API's price for all requests; after its end that of the API which the last verdict names for that time."""
    own_usd: float
    """The cost of machines, upkeep, and the escalated requests, at the API to which the cascade leaves its rest."""

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
    left_out: LedgerEntry | None
    """Days on which no API is known that could be paid, because the one paid for today has ended. Months and total do
    not count them. None: there are none."""
    after_end: str
    """A sentence on the days after the API's end; empty where there are none."""
    engineering_usd: float
    quality: dict[str, Quality]
    """The quality of each bundle version according to reviews."""
    not_counted: list[str]
    """The parts of the own model's upkeep that nobody has priced, with the keys that would count them."""

    @property
    def sentence(self) -> str:
        """The summary for a manager."""
        missing = f"Not counted: {', '.join(self.not_counted)}." if self.not_counted else ""
        return " ".join(filter(None, (self._balance, self.after_end, missing)))

    @property
    def _balance(self) -> str:
        if self.left_out and not self.total.days:
            return ""
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
    day without requests still costs its machines. All months use the prices of today's book. Nobody pays an API beyond
    its end: from then on requests count at the price of the API that the last verdict names for that time. If it names
    none, the days are left out. The verdict on each bundle version says how many tokens a request to the API has,
    whether anything is escalated, and to which API. A retraining without a price in the spec costs what the last
    verdict says.

    Args:
        now: the time until which machines are counted.
    """
    now = now or datetime.now(UTC)
    with store.session() as session:
        tallies = session.scalars(select(Tally).where(Tally.model == spec.name).order_by(Tally.day)).all()
        by_version = quality(session, spec.name)
    verdicts = _verdicts(Project(spec.folder), book)
    upkeep = _upkeep(spec, book, verdicts.last)
    usd_per_month = sum(item.usd_per_month or 0.0 for item in upkeep)
    days = _days(spec, book, tallies, verdicts, usd_per_month, now)
    months = [
        _sum(name, [day for day in of_month if day.paid])
        for name, of_month in groupby(days, lambda each: f"{each.day:%Y-%m}")
    ]
    unpaid = [day for day in days if not day.paid]
    return Ledger(
        spec.api.model,
        spec.traffic.machine,
        book.as_of,
        months,
        _sum("total", [day for day in days if day.paid]),
        _sum("left out", unpaid) if unpaid else None,
        _after_end(spec, book, days),
        spec.costs.engineering_usd,
        by_version,
        [f"{each.name} ({each.source.removeprefix(NOT_COUNTED)})" for each in upkeep if each.usd_per_month is None],
    )


@dataclass(frozen=True)
class _Api:
    """An API that is paid, or would be."""

    name: str
    model: str
    """Its name in the price book."""
    usage: MeanUsage | None = None
    """Mean tokens of a request, as the API counted them; None: it did not, or it is the API paid for today, for which
    the verdict's rule holds."""
    note: str = ""
    """What a sentence adds to its name."""


@dataclass(frozen=True)
class _Verdict:
    """What the verdict on a bundle version says of its requests."""

    usage: MeanUsage
    usage_from: str
    """The source of `usage`, as in `Comparison`."""
    alone: bool
    """Whether the model answers all requests, so that nothing has to be escalated."""
    rest: _Api | None
    """The API to which a cascade leaves the requests that it does not answer itself. None: no cascade is recommended,
    so what is escalated goes to the API paid for today."""
    named: list[_Api]
    """The APIs of the price book that could be paid without the model, one after the other's end."""
    retraining_usd: float | None
    """USD a month for retraining; None: not counted."""


@dataclass(frozen=True)
class _Verdicts:
    """The verdicts of a project."""

    by_version: dict[str, _Verdict]
    """Of several verdicts on a bundle version, that of the latest bundle counts, else the newest."""
    last: _Verdict | None
    """The verdict of the latest bundle, else the newest; None: there is none."""


def _verdicts(project: Project, book: PriceBook) -> _Verdicts:
    judged = {made.content: folder for folder in project.runs.glob("verdict-*") if (made := read_manifest(folder))}
    bundles = [(made, folder) for folder in project.runs.glob("bundle-*") if (made := read_manifest(folder))]
    bundles.sort(key=lambda each: each[0].created)
    if latest := read_manifest(project.latest("bundle")):
        bundles.append((latest, project.latest("bundle")))
    by_version: dict[str, _Verdict] = {}
    last: _Verdict | None = None
    for manifest, folder in bundles:
        if verdict := judged.get(manifest.inputs.get("verdict", "")):
            last = by_version[read_info(folder).version] = _read(verdict, book)
    return _Verdicts(by_version, last)


def _read(folder: Path, book: PriceBook) -> _Verdict:
    data = json.loads((folder / "verdict.json").read_text("utf-8"))
    comparison, verdict = data["comparison"], data["verdict"]
    shown, reference, usages = verdict["shown"], verdict["reference"], usages_of(data.get("baseline", {}))
    # The bills that the model would save, in their order; then the cheapest API that was shown to do the job.
    notes = {bill["name"]: bill.get("note", "") for bill in (verdict.get("saving") or {}).get("bills", ())}
    named = {
        name: _Api(name, comparison["apis"][name]["model"], usages.get(name), notes.get(name, ""))
        for name in (*notes, reference)
        if name in comparison["apis"]
    }
    rest = named[reference] if shown == "cascade" else None
    usd_per_month = {item["name"]: item["usd_per_month"] for item in comparison["money"]["items"]}
    return _Verdict(
        MeanUsage(**comparison["usage"]),
        comparison["usage_from"],
        shown == "switch",
        rest,
        [api for api in named.values() if api.model in book.apis],
        usd_per_month.get(_RETRAINING),
    )


def _upkeep(spec: Spec, book: PriceBook, last: _Verdict | None) -> list[Item]:
    """The parts of a month that do not depend on the traffic, besides the machines."""
    items = list(upkeep_of(spec, book, letters=0.0).items)
    if last is None:
        return items
    return [
        replace(item, usd_per_month=last.retraining_usd)
        if item.name == _RETRAINING and item.usd_per_month is None
        else item
        for item in items
    ]


@dataclass(frozen=True)
class _Day:
    day: date
    share: float
    """The share of the day that has passed."""
    paid: _Api | None
    """The API that would be paid without the model; None: none is known, because the one paid for today has ended."""
    requests: float
    escalated: float
    api_usd: float
    own_usd: float


def _days(
    spec: Spec, book: PriceBook, tallies: Iterable[Tally], verdicts: _Verdicts, upkeep_usd: float, now: datetime
) -> list[_Day]:
    """Every day from the first tally on, including days without requests.

    Args:
        upkeep_usd: a month's upkeep besides storage.
    """
    by_day = {day: list(of_day) for day, of_day in groupby(tallies, lambda tally: tally.day)}
    if not by_day:
        return []
    first, last = min(by_day), max(max(by_day), now.astimezone(UTC).date())
    return [
        _priced(spec, book, day, by_day.get(day, []), verdicts, upkeep_usd, now)
        for day in (first + timedelta(n) for n in range((last - first).days + 1))
    ]


def _priced(
    spec: Spec,
    book: PriceBook,
    day: date,
    tallies: list[Tally],
    verdicts: _Verdicts,
    upkeep_usd: float,
    now: datetime,
) -> _Day:
    today = _Api(spec.api.label, spec.api.model)
    named = verdicts.last.named if verdicts.last else []
    paid = next((api for api in (today, *named) if not _has_ended(spec, book, api, day)), None)
    bills = [_bill(spec, book, tally, verdicts, paid) for tally in tallies]
    passed = (now - datetime.combine(day, time(), UTC)) / timedelta(days=1)
    requests = sum(tally.answered for tally in tallies)
    share = min(1.0, passed) if passed > 0 else float(requests > 0)  # with a clock that was set back
    machine = book.machine(spec.traffic.machine)
    tokens = sum(tally.prompt_tokens for tally in tallies), sum(tally.answer_tokens for tally in tallies)
    stored = upkeep_of(spec, book, letters=letters_of(*tokens) / requests if requests else 0.0).request_usd
    if requests:
        seconds = sum(tally.seconds for tally in tallies) / requests
        cost = host_cost(
            machine,
            Service(seconds, seconds, spec.goal.p95_ms / 1000),
            requests=requests / share * _DAYS_A_MONTH,
            peak_to_average=spec.traffic.peak_to_average,
            redundancy=spec.traffic.redundancy,
            upkeep_usd=upkeep_usd,
        )
        month = cost.usd_per_month
    else:
        ready = spec.traffic.redundancy - machine.scales_to_zero
        month = ready * machine.usd_per_hour * HOURS_A_MONTH + upkeep_usd
    own = month * share / _DAYS_A_MONTH + sum(bill.escalated_usd for bill in bills)
    own += stored * sum(tally.captured for tally in tallies)
    escalated, api = sum(bill.escalated for bill in bills), sum(bill.api_usd for bill in bills)
    return _Day(day, share, paid, requests, escalated, api, own)


def _has_ended(spec: Spec, book: PriceBook, api: _Api, day: date) -> bool:
    settings = spec.candidate_apis.get(api.name, spec.api)
    return lifetime(api.model, book.api(api.model), settings.url, day, 0).ended


def _after_end(spec: Spec, book: PriceBook, days: list[_Day]) -> str:
    """A sentence on the days after the end of the API paid for today; empty where there are none."""
    after = [day for day in days if day.paid is None or day.paid.name != spec.api.label]
    if not after:
        return ""
    end = lifetime(spec.api.model, book.api(spec.api.model), spec.api.url, after[0].day, 0).summary
    said = []
    if others := dict.fromkeys(f"{day.paid.name}{day.paid.note}" for day in after if day.paid):
        said.append(f"from then on requests count at the price of {' and '.join(others)}")
    if unpaid := [day for day in after if not day.paid]:
        sums = _sum("", unpaid)
        said.append(
            f"{sums.days:,.1f} days since then, with {sums.requests:,.0f} requests that cost ${sums.own_usd:,.2f}, are "
            "left out, because no verdict names an API that could be paid instead"
        )
    return f"{end.rstrip('.')}: {', and '.join(said)}."


@dataclass(frozen=True)
class _Bill:
    """The APIs' prices for a tally's requests."""

    api_usd: float
    """All of them at the API that would be paid without the model; 0 where none is known."""
    escalated: float
    escalated_usd: float
    """The escalated ones at the API to which they go, which is really paid."""


def _bill(spec: Spec, book: PriceBook, tally: Tally, verdicts: _Verdicts, paid: _Api | None) -> _Bill:
    """Price a tally's requests.

    Args:
        paid: the API that would be paid without the model; None: none is known.
    """
    verdict = verdicts.by_version.get(tally.version)
    # A version whose verdict is gone had the same job, so its requests are those of another version.
    alike = verdict or verdicts.last
    usage = _usage(spec, tally, alike)
    # The bundle carries a threshold, and servers say `escalate`, whatever the verdict.
    escalated = 0.0 if verdict and verdict.alone else tally.escalated
    rest = alike.rest if alike and alike.rest and not _has_ended(spec, book, alike.rest, tally.day) else paid
    return _Bill(_usd(spec, book, paid, usage) * tally.answered, escalated, _usd(spec, book, rest, usage) * escalated)


def _usd(spec: Spec, book: PriceBook, api: _Api | None, usage: MeanUsage) -> float:
    """The price of a request to an API; 0 for none.

    Args:
        usage: mean tokens of a request to the API paid for today.
    """
    if api is None:
        return 0.0
    if api.name != spec.api.label:  # another API's tokens, by the rule of `compare`
        settings = spec.candidate_apis.get(api.name)
        alike = usage.without_thinking()
        usage = api.usage or (uncounted(settings, alike) if settings else alike)
    tokens = usage.prompt_tokens, usage.answer_tokens, usage.cached_tokens, usage.cache_write_tokens
    return book.api(api.model).usd(*tokens)


def _usage(spec: Spec, tally: Tally, verdict: _Verdict | None) -> MeanUsage:
    """Mean tokens of one request to the API, by the verdict's rule: as the API counted them, else the spec's figures,
    else those of the verdict. Where these are the own model's, the tally has them for the requests that really came."""
    if verdict and verdict.usage_from == "api":
        return verdict.usage
    if verdict and verdict.usage_from != "model":
        own = verdict.usage
    else:
        requests = tally.answered or 1.0
        own = MeanUsage(tally.prompt_tokens / requests, tally.answer_tokens / requests)
    return uncounted(spec.api, own)


def _sum(name: str, days: list[_Day]) -> LedgerEntry:
    return LedgerEntry(
        name,
        days=sum(day.share for day in days),
        requests=sum(day.requests for day in days),
        escalated=sum(day.escalated for day in days),
        api_usd=sum(day.api_usd for day in days),
        own_usd=sum(day.own_usd for day in days),
    )
