"""Budgets: what may be paid to upstreams in a month, of a client's key, of a job, or of everything."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from tunewright.core.progress import say
from tunewright.gateway.config import BudgetSpec
from tunewright.gateway.metrics import GatewayMetrics
from tunewright.gateway.takeover.regularly import Regularly
from tunewright.gateway.takeover.store import GatewayStore


class Budgets:
    """The budgets of a gateway, and what was spent of them. Thread-safe. It is written four times a second, so several
    gateways may together overspend by what they pay in that time.

    Args:
        budgets: at most one of each scope, by which what was spent is kept.
        store: keeps what was spent.
    """

    def __init__(self, budgets: Sequence[BudgetSpec], store: GatewayStore, metrics: GatewayMetrics):
        self._budgets, self._store, self._metrics = budgets, store, metrics
        self._name = uuid.uuid4().hex
        self._lock = threading.Lock()
        self._month = _this_month()
        self._own: dict[str, float] = {}
        self._others: dict[str, float] = store.spend(self._name, self._month, {})
        self._warned: set[tuple[str, str]] = set()
        self.writes = Regularly(self._write, "What is spent can't be kept at the moment; answers go on.")
        """Write what was spent, and read what other gateways have spent."""

    def spend(self, client: str | None, job: str | None, usd: float) -> None:
        """Count what was paid for an answer."""
        with self._lock:
            self._begin_month()
            for budget in self._of(client, job):
                self._own[budget.scope] = self._own.get(budget.scope, 0.0) + usd
                self._warn(budget)

    def used_up(self, client: str | None, job: str | None) -> BudgetSpec | None:
        """The first budget of a request that is used up; None: it may be asked of an upstream."""
        with self._lock:
            self._begin_month()
            return next((each for each in self._of(client, job) if self._spent(each) >= each.usd_per_month), None)

    def _write(self) -> None:
        with self._lock:
            self._begin_month()
            month, own = self._month, dict(self._own)
        others = self._store.spend(self._name, month, own)
        with self._lock:
            if month == self._month:
                self._others = others
            for budget in self._budgets:
                self._metrics.budget_used(budget.scope, self._spent(budget) / budget.usd_per_month)

    def _of(self, client: str | None, job: str | None) -> list[BudgetSpec]:
        return [each for each in self._budgets if each.key in (None, client) and each.job in (None, job)]

    def _spent(self, budget: BudgetSpec) -> float:
        return self._own.get(budget.scope, 0.0) + self._others.get(budget.scope, 0.0)

    def _warn(self, budget: BudgetSpec) -> None:
        share, seen = self._spent(budget) / budget.usd_per_month, (self._month, budget.scope)
        if share >= budget.warn_at and seen not in self._warned:
            self._warned.add(seen)
            say(
                f"{share:.0%} of the budget of {budget.scope} for {self._month} is used (${budget.usd_per_month:,.2f})."
            )

    def _begin_month(self) -> None:
        if (month := _this_month()) != self._month:
            self._month, self._own, self._others = month, {}, {}


def _this_month() -> str:
    return f"{datetime.now(UTC):%Y-%m}"
