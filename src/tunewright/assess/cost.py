"""What answers cost: an API by its tokens, a served model by the machines that must stand ready."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tunewright.assess.prices import ApiPrice, MachinePrice

HOURS_A_MONTH = 730.0
SECONDS_A_MONTH = HOURS_A_MONTH * 3600
# Above this share of its measured throughput a server's queue grows fast.
MAX_UTILISATION = 0.7


@dataclass(frozen=True)
class Cost:
    usd_per_month: float
    usd_per_1000: float
    replicas: int | None = None
    """Machines that stand ready, for a served model."""


def api_cost(price: ApiPrice, *, prompt_tokens: float, answer_tokens: float, requests: int,
             cached_tokens: float = 0) -> Cost:  # fmt: skip
    """`requests` answers a month from an API.

    Args:
        prompt_tokens, answer_tokens: mean tokens in one prompt and in one answer.
        cached_tokens: mean tokens of a prompt that the API had read before.
    """
    each = price.usd(prompt_tokens, answer_tokens, cached_tokens)
    return Cost(each * requests, each * 1000)


def host_cost(machine: MachinePrice, *, seconds_per_answer: float, requests: int, peak_to_average: float) -> Cost:
    """`requests` answers a month from machines of our own, always on.

    Args:
        seconds_per_answer: measured time one machine is busy with one answer, one at a time.
        peak_to_average: the busiest minute over the average one; the machines are sized for the peak.
    """
    peak_rate = requests / SECONDS_A_MONTH * peak_to_average
    replicas = max(1, math.ceil(peak_rate * seconds_per_answer / MAX_UTILISATION))
    month = replicas * machine.usd_per_hour * HOURS_A_MONTH
    return Cost(month, month / requests * 1000, replicas)
