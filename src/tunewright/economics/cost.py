"""What answers cost: an API by its tokens, a served model by the machines that must stand ready."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunewright.economics.prices import ApiPrice, MachinePrice

HOURS_A_MONTH = 730.0
SECONDS_A_MONTH = HOURS_A_MONTH * 3600
# Above this share of its measured throughput a server's queue grows fast.
MAX_UTILISATION = 0.7
LETTERS_A_TOKEN = 4
"""Of English, roughly, where nobody has counted tokens."""
COOLING_SECONDS = 300
"""How long a machine that scales to zero stays up after its last request: the usual setting of Container Apps (rule
apps-cool-down)."""
LATE = 0.05
"""The share of requests that may find a machine asleep before its start counts for the 95th percentile."""


@dataclass(frozen=True)
class Cost:
    usd_per_month: float
    usd_per_1000: float
    replicas: int | None = None
    """Machines that stand ready, for a served model."""

    def times(self, factor: float) -> Cost:
        """So many times the money."""
        return Cost(self.usd_per_month * factor, self.usd_per_1000 * factor, self.replicas)


@dataclass(frozen=True)
class Item:
    """A part of what a model of one's own costs a month."""

    name: str
    usd_per_month: float | None
    """None: not counted, because nobody has said what it costs."""
    source: str
    """Where the figure is from: "yours" (the spec's), "assumed", "measured", a price book with its date; of what is not
    counted, the key that would count it."""
    basis: str
    """The sum in words."""


def api_cost(
    price: ApiPrice,
    *,
    prompt_tokens: float,
    answer_tokens: float,
    requests: float,
    cached_tokens: float = 0,
    cache_write_tokens: float = 0,
) -> Cost:
    """`requests` answers a month from an API.

    Args:
        prompt_tokens, answer_tokens: mean tokens in one prompt and in one answer.
        cached_tokens: mean tokens of a prompt that the API had read before.
        cache_write_tokens: mean tokens of a prompt that it kept for the next request.
    """
    each = price.usd(prompt_tokens, answer_tokens, cached_tokens, cache_write_tokens)
    return Cost(each * requests, each * 1000)


@dataclass(frozen=True)
class Service:
    """How a model of our own answers on one machine, and how quickly it must."""

    seconds: float
    """Mean time for which the machine is busy with one answer."""
    slowest: float
    """The 95th percentile of that time."""
    target: float
    """What the 95th percentile may be with waiting, seconds."""

    @property
    def utilisation(self) -> float:
        """The share of its time for which a machine may be busy.

        In a queue before one server with even service times an answer waits longer than t with probability
        u exp(-2 (1 - u) t / s) where the server is busy for a share u (heavy traffic, Kingman 1962). The largest u for
        which the 95th percentile of the wait leaves the target; at most MAX_UTILISATION, which also holds where the
        service alone takes longer than the target.
        """
        room = self.target - self.slowest
        if room <= 0:
            return MAX_UTILISATION
        low, high = 0.0, MAX_UTILISATION
        for _ in range(40):
            middle = (low + high) / 2
            late = middle * math.exp(-2 * (1 - middle) * room / self.seconds)
            low, high = (middle, high) if late <= 0.05 else (low, middle)
        return low

    def replicas(self, per_second: float) -> int:
        """Machines that answer so many requests a second."""
        return max(1, math.ceil(per_second * self.seconds / self.utilisation - 1e-9))


def cold_share(requests: float) -> float:
    """Of so many requests a month, at random times, the share that finds a machine that scales to zero asleep: those
    that come after a longer pause than COOLING_SECONDS (Poisson)."""
    return math.exp(-requests / SECONDS_A_MONTH * COOLING_SECONDS)


def asleep_saves(machine: MachinePrice, cost: Cost) -> float:
    """Dollars that a machine saves a month because it scales to zero, beside one that stands day and night.

    Args:
        cost: as of `host_cost`, without upkeep.
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
    """`requests` answers a month from machines of our own.

    Args:
        peak_to_average: the busiest minute over the average one; the machines are sized for the peak.
        redundancy: machines at the least; of those that scale to zero all but one stay up.
        upkeep_usd: what else a month costs.
    """
    average = requests / SECONDS_A_MONTH
    replicas = max(redundancy, service.replicas(average * peak_to_average))
    month = replicas * machine.usd_per_hour * HOURS_A_MONTH
    if machine.scales_to_zero:
        # Up while somebody asked within the last minutes, at random times (Poisson); beyond one, as many as are busy.
        up = 1 - cold_share(requests)
        busy = max(up, average * service.seconds / service.utilisation)
        month = (busy + redundancy - 1) * machine.usd_per_hour * HOURS_A_MONTH
    month += upkeep_usd
    return Cost(month, month / requests * 1000, replicas)
