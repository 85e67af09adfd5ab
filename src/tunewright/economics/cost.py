"""The cost of answers: an API's by tokens, a served model's by the machines that must stand ready."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from tunewright.economics.prices import ApiPrice, MachinePrice

if TYPE_CHECKING:
    from tunewright.tasks import Example, Task

HOURS_A_MONTH = 730.0
SECONDS_A_MONTH = HOURS_A_MONTH * 3600
# Above this share of its measured throughput a server's queue grows fast.
MAX_UTILISATION = 0.7
LETTERS_A_TOKEN = 4
"""Rough figure for English, where nobody has counted tokens."""
COOLING_SECONDS = 300
"""Seconds that a machine that scales to zero stays up after its last request: the usual setting of Container Apps (rule
apps-cool-down)."""
LATE = 0.05
"""The share of requests that may find a machine asleep before its start counts in the 95th percentile."""


def usd(amount: float) -> str:
    """An amount of dollars for a sentence."""
    return f"${amount:,.0f}" if amount >= 10 else f"${amount:,.2f}"


def tokens_by_letters(task: Task, examples: Sequence[Example]) -> tuple[float, float]:
    """(mean tokens of a prompt, of an answer), estimated from their letters, each example by its weight."""
    weights = [example.importance for example in examples]
    sent = fmean((sum(len(each.content) for each in task.prompt(example.request)) for example in examples), weights)
    written = fmean((len(example.answer) for example in examples), weights)
    return sent / LETTERS_A_TOKEN, max(1.0, written / LETTERS_A_TOKEN)


@dataclass(frozen=True)
class Cost:
    usd_per_month: float
    usd_per_1000: float
    replicas: int | None = None
    """Machines that stand ready, for a served model."""

    def times(self, factor: float) -> Cost:
        """The cost multiplied by a factor."""
        return Cost(self.usd_per_month * factor, self.usd_per_1000 * factor, self.replicas)


@dataclass(frozen=True)
class Item:
    """A part of the monthly cost of your own model."""

    name: str
    usd_per_month: float | None
    """None: not counted, because the spec does not price it."""
    source: str
    """Where the figure is from: "yours" (the spec's), "assumed", "measured", or a price book with its date. For an item
    that is not counted, the key that would count it."""
    basis: str
    """The calculation in words."""


def api_cost(
    price: ApiPrice,
    *,
    prompt_tokens: float,
    answer_tokens: float,
    requests: float,
    cached_tokens: float = 0,
    cache_write_tokens: float = 0,
) -> Cost:
    """The cost of `requests` answers a month from an API.

    Args:
        prompt_tokens, answer_tokens: mean tokens in one prompt and in one answer.
        cached_tokens: mean prompt tokens from the API's cache.
        cache_write_tokens: mean prompt tokens that the API writes to its cache.
    """
    each = price.usd(prompt_tokens, answer_tokens, cached_tokens, cache_write_tokens)
    return Cost(each * requests, each * 1000)


@dataclass(frozen=True)
class Service:
    """How fast your own model answers on one machine, and how fast it must."""

    seconds: float
    """Mean time that the machine is busy with one answer."""
    slowest: float
    """The 95th percentile of that time."""
    target: float
    """The allowed 95th percentile with waiting, seconds."""

    @property
    def utilisation(self) -> float:
        """The share of its time that a machine may be busy.

        In a queue before one server with even service times an answer waits longer than t with probability
        u exp(-2 (1 - u) t / s), where u is the share of time that the server is busy (heavy traffic, Kingman 1962). The
        result is the largest u at which the 95th percentile keeps the target, and at most MAX_UTILISATION. Where the
        service alone takes longer than the target, it is MAX_UTILISATION.
        """
        slack = self.target - self.slowest
        if slack <= 0:
            return MAX_UTILISATION
        low, high = 0.0, MAX_UTILISATION
        for _ in range(40):
            middle = (low + high) / 2
            late = middle * math.exp(-2 * (1 - middle) * slack / self.seconds)
            low, high = (middle, high) if late <= 0.05 else (low, middle)
        return low

    def replicas(self, per_second: float) -> int:
        """The number of machines that answer `per_second` requests a second."""
        return max(1, math.ceil(per_second * self.seconds / self.utilisation - 1e-9))


def cold_share(requests: float) -> float:
    """The share of requests that find a machine asleep, where it scales to zero and `requests` a month come at random
    times: those after a pause longer than COOLING_SECONDS (Poisson)."""
    return math.exp(-requests / SECONDS_A_MONTH * COOLING_SECONDS)


def asleep_saves(machine: MachinePrice, cost: Cost) -> float:
    """Dollars a month that scaling to zero saves against a machine that runs day and night.

    Args:
        cost: the result of `host_cost`, without upkeep.
    """
    return max(0.0, machine.usd_per_hour * HOURS_A_MONTH - cost.usd_per_month)


def host_cost(
    machine: MachinePrice,
    service: Service,
    *,
    requests: float,
    peak_to_average: float,
    redundancy: int = 1,
    upkeep_usd: float = 0.0,
) -> Cost:
    """The cost of `requests` answers a month from your own machines.

    Args:
        peak_to_average: the busiest minute over the average one; the machines are sized for the peak.
        redundancy: the least number of machines; where they scale to zero, all but one stay up.
        upkeep_usd: the other costs of a month.
    """
    average = requests / SECONDS_A_MONTH
    replicas = max(redundancy, service.replicas(average * peak_to_average))
    month = replicas * machine.usd_per_hour * HOURS_A_MONTH
    if machine.scales_to_zero:
        # The first is up while a request came in the last minutes (Poisson); beyond it, as many as are busy.
        up = 1 - cold_share(requests)
        busy = max(up, average * service.seconds / service.utilisation)
        month = (busy + redundancy - 1) * machine.usd_per_hour * HOURS_A_MONTH
    month += upkeep_usd
    return Cost(month, month / requests * 1000, replicas)
