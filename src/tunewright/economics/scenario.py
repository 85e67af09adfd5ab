"""A month of the API against a month of your own model: the saving, the break-even volume, and the inputs that matter
most."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tunewright.economics.cost import HOURS_A_MONTH, SECONDS_A_MONTH, Cost, Item, Service, api_cost, host_cost
from tunewright.economics.prices import ApiPrice, MachinePrice


@dataclass(frozen=True)
class Scenario:
    """Everything that the money depends on."""

    requests: float
    """Requests a month."""
    prompt_tokens: float
    answer_tokens: float
    cached_tokens: float
    api: ApiPrice
    machine: MachinePrice
    service: Service
    peak_to_average: float
    redundancy: int
    upkeep_usd: float
    """Costs a month besides the machines, at any traffic: people, retraining."""
    cache_write_tokens: float = 0.0
    request_usd: float = 0.0
    """Cost of each request to your own model besides its machine: storage of its capture."""

    @property
    def api_month(self) -> Cost:
        return api_cost(
            self.api,
            prompt_tokens=self.prompt_tokens,
            answer_tokens=self.answer_tokens,
            cached_tokens=self.cached_tokens,
            cache_write_tokens=self.cache_write_tokens,
            requests=self.requests,
        )

    @property
    def own_month(self) -> Cost:
        """Cost of machines and upkeep."""
        return host_cost(
            self.machine,
            self.service,
            requests=self.requests,
            peak_to_average=self.peak_to_average,
            redundancy=self.redundancy,
            upkeep_usd=self.upkeep_usd + self.request_usd * self.requests,
        )

    @property
    def saving(self) -> float:
        """USD a month; negative where the API is cheaper."""
        return self.api_month.usd_per_month - self.own_month.usd_per_month

    @property
    def break_even_requests(self) -> float | None:
        """Requests a month from which on your own model costs less than the API, at this and every larger volume;
        None: at no volume.

        Machines come one by one, so the cost climbs in steps. The last step above the API's bill decides. For a machine
        that scales to zero, bisection finds the volume.
        """
        each = self.api_month.usd_per_1000 / 1000 - self.request_usd
        if each <= 0:
            return None
        if self.machine.scales_to_zero:
            return self._crossing()
        machine = self.machine.usd_per_hour * HOURS_A_MONTH
        capacity = SECONDS_A_MONTH / self.peak_to_average * self.service.utilisation / self.service.seconds
        gain = each * capacity - machine
        if gain <= 0:
            return None

        def month(replicas: int) -> float:
            return max(replicas, self.redundancy) * machine + self.upkeep_usd

        # From here on, the API's bill already pays for every further machine.
        last = max(1, self.redundancy, math.ceil((machine + self.upkeep_usd) / gain))
        while last > 1 and each * capacity * (last - 1) >= month(last):
            last -= 1
        return max(capacity * (last - 1), month(last) / each)

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
    """How the saving changes with one input."""

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
    """The results of a scenario, as plain values."""

    saving: float
    """USD a month that your own model saves against the API; negative where the API is cheaper."""
    break_even_requests: float | None
    swings: list[Swing]
    """The inputs that the saving hinges on, the widest swing first."""
    items: list[Item]
    """The parts of a month of your own model."""


def money_of(scenario: Scenario, items: Sequence[Item]) -> Money:
    return Money(scenario.saving, scenario.break_even_requests, tornado(scenario), list(items))


def tornado(scenario: Scenario) -> list[Swing]:
    """How much the monthly saving hinges on each input, moved by itself; the widest swing first.

    The ranges are the usual errors of such estimates, not confidence intervals.
    """
    s = scenario
    inputs: list[tuple[str, str, str, Callable[[float], Scenario], float, float]] = [
        (
            "requests a month",
            f"{s.requests / 2:,.0f}",
            f"{s.requests * 2:,.0f}",
            lambda by: replace(s, requests=s.requests * by),
            0.5,
            2,
        ),
        ("API price", "half", "as today", lambda by: replace(s, api=s.api.times(by)), 0.5, 1),
        (
            "tokens a request",
            f"{(s.prompt_tokens + s.answer_tokens) / 2:,.0f}",
            f"{(s.prompt_tokens + s.answer_tokens) * 2:,.0f}",
            lambda by: replace(
                s,
                prompt_tokens=s.prompt_tokens * by,
                answer_tokens=s.answer_tokens * by,
                cached_tokens=s.cached_tokens * by,
                cache_write_tokens=s.cache_write_tokens * by,
            ),
            0.5,
            2,
        ),
        (
            "own model's time an answer",
            f"{s.service.seconds * 500:,.0f} ms",
            f"{s.service.seconds * 2000:,.0f} ms",
            lambda by: replace(
                s, service=replace(s.service, seconds=s.service.seconds * by, slowest=s.service.slowest * by)
            ),
            0.5,
            2,
        ),
        (
            "machine price",
            "-20 %",
            "+20 %",
            lambda by: replace(s, machine=s.machine.model_copy(update={"usd_per_hour": s.machine.usd_per_hour * by})),
            0.8,
            1.2,
        ),
        (
            "peak over average",
            f"{max(1.0, s.peak_to_average / 2):g}",
            f"{s.peak_to_average * 2:g}",
            lambda by: replace(s, peak_to_average=max(1.0, s.peak_to_average * by)),
            0.5,
            2,
        ),
        (
            "upkeep a month",
            "none",
            f"${max(2 * s.upkeep_usd, 1000):,.0f}",
            lambda by: replace(s, upkeep_usd=by),
            0,
            max(2 * s.upkeep_usd, 1000),
        ),
    ]
    swings = [
        Swing(name, low, high, change(least).saving, change(most).saving)
        for name, low, high, change, least, most in inputs
    ]
    return sorted(swings, key=lambda swing: -swing.width)
