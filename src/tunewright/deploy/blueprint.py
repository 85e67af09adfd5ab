"""The plan of a deployment before anything is made: its resources, and what they would cost a month."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tunewright.economics.cost import HOURS_A_MONTH
from tunewright.economics.prices import MachinePrice


@dataclass(frozen=True)
class Resource:
    """A resource that is made in Azure, or updated."""

    kind: str
    name: str
    said: str
    """A summary of its settings in a line."""
    body: dict[str, Any] = field(default_factory=dict)
    """The whole request that makes it."""


@dataclass(frozen=True)
class RunningMachines:
    """Machines that cost money as long as they exist."""

    what: str
    usd_per_month: float


@dataclass(frozen=True)
class Blueprint:
    """A deployment as it would be made."""

    target: str
    """aml, aks or aca."""
    resources: list[Resource]
    standing: list[RunningMachines]
    notes: list[str]
    """Other facts that the user should know."""

    @property
    def usd_per_month(self) -> float:
        return sum(each.usd_per_month for each in self.standing)

    @property
    def lines(self) -> list[str]:
        """The plan as lines for people."""
        width = max(len(each.kind) for each in self.resources)
        return [
            *(f"{each.kind:<{width}}  {each.name}: {each.said}" for each in self.resources),
            *(f"{each.what}: ${each.usd_per_month:,.2f} a month" for each in self.standing),
            f"Together ${self.usd_per_month:,.2f} a month.",
            *self.notes,
        ]


def standing(what: str, machine: MachinePrice, count: int) -> RunningMachines:
    """Machines that run day and night."""
    return RunningMachines(what, count * machine.usd_per_hour * HOURS_A_MONTH)
