"""The monthly cost of your own model besides its machines (people, retraining, storage), and the whole of it
itemised."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tunewright.config import MoneySpec, Spec
from tunewright.economics.cost import HOURS_A_MONTH, LETTERS_A_TOKEN, Item
from tunewright.economics.memory import GIB
from tunewright.economics.prices import PriceBook
from tunewright.economics.scenario import Scenario

YOURS, ASSUMED, NOT_COUNTED = "yours", "assumed", "not counted: "
_DAYS_A_MONTH = HOURS_A_MONTH / 24
_REVIEWS_A_DAY = 10
"""Answers that the review queue draws at random (`tunewright.monitoring.queue`)."""
_REVIEW_MINUTES = 1.0
_TIMES_KEPT, _BYTES_BESIDE = 2, 750
"""A capture is kept twice, in the request log and in the store, and needs these bytes besides its text (log 312, SQLite
442, for 10,000 captures as bench/store.py makes them). A server writes nothing else for a request."""


@dataclass(frozen=True)
class Upkeep:
    """The monthly costs besides the machines."""

    items: tuple[Item, ...]
    """The costs that do not depend on the traffic."""
    request_usd: float
    """Storage of one request, for as long as it is kept."""
    storage: str
    """How the storage was calculated, in words."""
    prices: str
    """The source of the prices."""

    @property
    def usd(self) -> float:
        """The counted costs of a month that do not depend on the traffic."""
        return sum(item.usd_per_month or 0.0 for item in self.items)

    def at(self, requests: float) -> float:
        """The counted costs of a month."""
        return self.usd + self.request_usd * requests

    def itemised(self, requests: float) -> list[Item]:
        stored = Item("storage", self.request_usd * requests, f"{ASSUMED}; {self.prices}", self.storage)
        return [*self.items, stored]


def upkeep_of(
    spec: Spec | MoneySpec, book: PriceBook, *, letters: float, trained: tuple[float, str] | None = None
) -> Upkeep:
    """The upkeep that a spec sets and implies.

    Args:
        letters: letters of a request and its answer.
        trained: (hours of a training with its tests, the machine at whose price it counts); None: nothing was trained.
    """
    days = spec.monitor.keep_days
    size = _TIMES_KEPT * letters + _BYTES_BESIDE
    each = size / GIB * days / _DAYS_A_MONTH * book.disk_usd_per_gib
    kept = f"every request with its answer, {size / 1000:.1f} kB, for {days} days at ${book.disk_usd_per_gib:g} a GiB"
    items = [_reviews(spec), _retraining(spec, book, trained)]
    if spec.costs.upkeep_usd_per_month:
        items.append(Item("other upkeep", spec.costs.upkeep_usd_per_month, YOURS, "costs.upkeep_usd_per_month"))
    return Upkeep(tuple(items), each, kept, prices_of(book))


def letters_of(prompt_tokens: float, answer_tokens: float) -> float:
    return LETTERS_A_TOKEN * (prompt_tokens + answer_tokens)


def review_hours(spec: Spec | MoneySpec) -> float:
    """Hours of review a month."""
    minutes = spec.costs.review_minutes
    return _reviews_a_month(spec) * (_REVIEW_MINUTES if minutes is None else minutes) / 60


def unpriced(spec: Spec | MoneySpec) -> list[str]:
    """People's work that the spec does not price; a saving has to pay for it all the same."""
    hours = review_hours(spec) * spec.costs.horizon_months
    named = [] if spec.costs.engineering_usd else ["engineering"]
    return named + ([f"reviews ({hours:,.0f} hours)"] if spec.costs.hourly_usd is None and hours else [])


def prices_of(book: PriceBook) -> str:
    """The source and the date of a book's prices of machines and disks."""
    return f"prices of {book.as_of} ({book.source})"


def items_of(scenario: Scenario, machine: str, beside: Upkeep, book: PriceBook) -> list[Item]:
    """A month of your own model, itemised.

    Args:
        machine: the name of the scenario's machine.
    """
    bare = replace(scenario, upkeep_usd=0.0, request_usd=0.0)
    alone = replace(bare, redundancy=1).own_month
    spare = bare.own_month.usd_per_month - alone.usd_per_month
    price = f"{machine} at ${scenario.machine.usd_per_hour:g} an hour"
    if scenario.machine.scales_to_zero:
        busy = f"{alone.usd_per_month / (scenario.machine.usd_per_hour * HOURS_A_MONTH or 1):.2f}"
    else:
        busy = str(alone.replicas)
    more = scenario.redundancy - (1 if scenario.machine.scales_to_zero else alone.replicas or 1)
    return [
        Item("machines", alone.usd_per_month, prices_of(book), f"{busy} x {price}, sized for the busiest minute"),
        Item("standby", spare, prices_of(book), f"{max(0, more)} more, for traffic.redundancy: {scenario.redundancy}"),
        *beside.itemised(scenario.requests),
    ]


def _reviews_a_month(spec: Spec | MoneySpec) -> float:
    count = spec.costs.reviews_per_month
    return _REVIEWS_A_DAY * _DAYS_A_MONTH if count is None else count


def _reviews(spec: Spec | MoneySpec) -> Item:
    costs, hours = spec.costs, review_hours(spec)
    count = _reviews_a_month(spec)
    minutes = _REVIEW_MINUTES if costs.review_minutes is None else costs.review_minutes
    basis = f"{count:,.0f} reviews of {minutes:g} minute{'' if minutes == 1 else 's'}, {hours:.1f} hours"
    if costs.hourly_usd is None and hours:
        return Item("reviews", None, f"{NOT_COUNTED}costs.hourly_usd", basis)
    rate = costs.hourly_usd or 0.0
    assumed = [
        key for key, value in (("reviews", costs.reviews_per_month), ("minutes", costs.review_minutes)) if value is None
    ]
    source = f"{YOURS}; {' and '.join(assumed)} {ASSUMED}" if assumed else YOURS
    return Item("reviews", hours * rate, source, f"{basis} at ${rate:g}")


def _retraining(spec: Spec | MoneySpec, book: PriceBook, trained: tuple[float, str] | None) -> Item:
    count = _reviews_a_month(spec) / spec.monitor.reviews_to_retrain
    each = f"{count:.1f} trainings, one for every {spec.monitor.reviews_to_retrain} reviews"
    if spec.costs.retraining_usd is not None:
        return Item(
            "retraining", count * spec.costs.retraining_usd, YOURS, f"{each}, at ${spec.costs.retraining_usd:g}"
        )
    machine = book.machines.get(trained[1]) if trained else None
    if trained is None or machine is None:
        return Item("retraining", None if count else 0.0, f"{NOT_COUNTED}costs.retraining_usd", each)
    hours, name = trained
    source = f"measured; {prices_of(book)}"
    basis = f"{each}, of {hours:.2f} hours as this run took, on {name} at ${machine.usd_per_hour:g} an hour"
    return Item("retraining", count * hours * machine.usd_per_hour, source, basis)
