"""Is it worth it? A month of the API against a month of a model of one's own, when they cost the same, and which input
the answer hinges on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from tunewright.assess.cost import Cost, Service, api_cost, host_cost
from tunewright.assess.prices import ApiPrice, MachinePrice

_MOST_REPLICAS = 10_000


@dataclass(frozen=True)
class Scenario:
    """Everything that the money depends on."""

    requests: float
    """A month."""
    prompt_tokens: float
    answer_tokens: float
    cached_tokens: float
    api: ApiPrice
    machine: MachinePrice
    service: Service
    peak_to_average: float
    redundancy: int
    upkeep_usd: float
    """A month, beside the machines: people, retraining, storage."""
    engineering_usd: float
    """Once."""

    @property
    def api_month(self) -> Cost:
        return api_cost(
            self.api, prompt_tokens=self.prompt_tokens, answer_tokens=self.answer_tokens,
            cached_tokens=self.cached_tokens, requests=self.requests,
        )  # fmt: skip

    @property
    def own_month(self) -> Cost:
        """Machines and upkeep."""
        machines = host_cost(
            self.machine, self.service, requests=self.requests, peak_to_average=self.peak_to_average,
            redundancy=self.redundancy,
        )  # fmt: skip
        month = machines.usd_per_month + self.upkeep_usd
        return Cost(month, month / self.requests * 1000, machines.replicas)

    @property
    def saving(self) -> float:
        """USD a month; below nothing where the API is cheaper."""
        return self.api_month.usd_per_month - self.own_month.usd_per_month

    @property
    def payback_months(self) -> float | None:
        """Months after which what was saved has paid for the engineering; None: never."""
        return self.engineering_usd / self.saving if self.saving > 0 else None

    @property
    def break_even_requests(self) -> float | None:
        """Requests a month from which on a model of one's own costs less than the API; None: at no volume.

        Machines come one by one, so it is the first volume that so many of them can answer and the API charges more
        for. Of a machine that scales to zero it is found by halving.
        """
        each = self.api_month.usd_per_1000 / 1000
        if self.machine.scales_to_zero:
            return self._crossing()
        for replicas in range(self.redundancy, _MOST_REPLICAS):
            fixed = replicas * self.machine.usd_per_hour * 730 + self.upkeep_usd
            volume = fixed / each
            if replace(self, requests=max(volume, 1)).own_month.replicas == replicas:
                return volume
        return None

    def _crossing(self) -> float | None:
        low, high = 1.0, 1e12
        if replace(self, requests=high).saving <= 0:
            return None
        for _ in range(200):
            middle = math.sqrt(low * high)
            low, high = (low, middle) if replace(self, requests=middle).saving > 0 else (middle, high)
        return high


@dataclass(frozen=True)
class Swing:
    """What the saving becomes when one input is another."""

    name: str
    low: str
    """The input at its lower end, in words."""
    high: str
    saving_low: float
    """USD a month, with the input at its lower end."""
    saving_high: float

    @property
    def width(self) -> float:
        return abs(self.saving_high - self.saving_low)


@dataclass(frozen=True)
class Money:
    """What a scenario comes to, as plain values."""

    saving: float
    """USD a month of the own model against the API; below nothing where the API is cheaper."""
    break_even_requests: float | None
    payback_months: float | None
    swings: list[Swing]
    """What the saving hinges on, the widest first."""


def money(scenario: Scenario) -> Money:
    return Money(scenario.saving, scenario.break_even_requests, scenario.payback_months, tornado(scenario))


def tornado(scenario: Scenario) -> list[Swing]:
    """The inputs by how much the monthly saving hinges on them, each moved by itself, the widest first.

    The ranges are what such estimates are commonly off by, not intervals of confidence.
    """
    s = scenario
    inputs: list[tuple[str, str, str, Callable[[float], Scenario], float, float]] = [
        ("requests a month", f"{s.requests / 2:,.0f}", f"{s.requests * 2:,.0f}",
         lambda by: replace(s, requests=s.requests * by), 0.5, 2),
        ("API price", "half", "as today", lambda by: replace(s, api=s.api.times(by)), 0.5, 1),
        ("tokens a request", f"{(s.prompt_tokens + s.answer_tokens) / 2:,.0f}",
         f"{(s.prompt_tokens + s.answer_tokens) * 2:,.0f}",
         lambda by: replace(s, prompt_tokens=s.prompt_tokens * by, answer_tokens=s.answer_tokens * by,
                            cached_tokens=s.cached_tokens * by), 0.5, 2),
        ("own model's time an answer", f"{s.service.seconds * 500:,.0f} ms", f"{s.service.seconds * 2000:,.0f} ms",
         lambda by: replace(s, service=replace(s.service, seconds=s.service.seconds * by,
                                               slowest=s.service.slowest * by)), 0.5, 2),
        ("machine price", "-20 %", "+20 %",
         lambda by: replace(s, machine=s.machine.model_copy(update={"usd_per_hour": s.machine.usd_per_hour * by})),
         0.8, 1.2),
        ("peak over average", f"{max(1.0, s.peak_to_average / 2):g}", f"{s.peak_to_average * 2:g}",
         lambda by: replace(s, peak_to_average=max(1.0, s.peak_to_average * by)), 0.5, 2),
        ("upkeep a month", "none", f"${max(2 * s.upkeep_usd, 1000):,.0f}",
         lambda by: replace(s, upkeep_usd=by), 0, max(2 * s.upkeep_usd, 1000)),
    ]  # fmt: skip
    swings = [
        Swing(name, low, high, change(least).saving, change(most).saving)
        for name, low, high, change, least, most in inputs
    ]
    return sorted(swings, key=lambda swing: -swing.width)
