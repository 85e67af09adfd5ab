"""The plan of one step on one machine, and of all steps together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

from tunewright.economics.machines import cheapest_gpu_holding, cheapest_holding
from tunewright.economics.memory import GIB
from tunewright.economics.prices import PriceBook
from tunewright.economics.speed import Range
from tunewright.pipeline.planning.machines import HERE, Machine
from tunewright.pipeline.planning.needs import Need, need_of
from tunewright.pipeline.planning.times import PlannedJob, seconds_of
from tunewright.pipeline.steps import Step

START = Range(60.0, 300.0)
"""Seconds that a rented machine costs before and after a step: image, inputs, output; an assumption."""
_NOTHING = Range(0.0, 0.0)


@dataclass(frozen=True)
class Memory:
    """A step's use of a machine's main memory, or of its GPU memory."""

    peak_gib: float
    usable_gib: float | None
    """The available memory; None: unknown, and the step counts as fitting."""
    on_gpu: bool
    why: str
    """The largest part of the memory."""
    able: bool = True
    """Whether the device can compute the step at all."""
    holder: str | None = None
    """A machine that is large enough, if one is known beforehand."""

    @property
    def fits(self) -> bool:
        """Whether the step can run with the available memory."""
        return self.able and (self.usable_gib is None or self.peak_gib <= self.usable_gib)

    @property
    def summary(self) -> str:
        """The figures for people, such as 15.4 of 14.6 GiB."""
        usable = "" if self.usable_gib is None else f" of {self.usable_gib:.1f}"
        return f"{self.peak_gib:.1f}{usable} GiB{' on the GPU' if self.on_gpu else ''}"


@dataclass(frozen=True)
class StepPlan:
    """The resources of one step on one machine."""

    step: str
    machine: str
    """Its name in the price book, or `tunewright.pipeline.planning.machines.HERE`."""
    memory: Memory
    """The scarcer memory, the machine's or its GPU's."""
    disk_gib: float
    """Files that the step writes and leaves."""
    hours: Range | None
    """None if nobody has measured the machine's GPU."""
    usd: Range
    fits: bool
    why: str
    """The obstacle and its remedy; empty if the step fits."""


@dataclass(frozen=True)
class StepsPlan:
    """All steps, each on its machine."""

    steps: list[StepPlan]

    @property
    def hours(self) -> Range:
        """The hours of all steps whose time is known."""
        return reduce(Range.__add__, (each.hours for each in self.steps if each.hours), _NOTHING)

    @property
    def usd(self) -> Range:
        return reduce(Range.__add__, (each.usd for each in self.steps), _NOTHING)

    @property
    def misfits(self) -> list[StepPlan]:
        return [each for each in self.steps if not each.fits]


def plan_step(
    step: Step,
    job: PlannedJob,
    machine: Machine,
    book: PriceBook,
    known: Mapping[str, Range],
    api_usd: Mapping[str, Range],
    training: Memory | None,
    count: int,
) -> StepPlan:
    """Plan one step.

    Args:
        known: the seconds of steps that were measured or counted elsewhere.
        api_usd: the API costs of steps that call an API.
        training: the counted memory of a training, for steps that train.
        count: how many machines run the step together.
    """
    need = need_of(step, job.spec, job.sizes, machine)
    memory = training if training and step.trains else scarcer(need, machine)
    seconds, hours = seconds_of(step, job, machine, known), None
    if seconds:
        hours = (seconds if machine.name == HERE else seconds + START).times(1 / 3600)
    rent = hours.times(count * machine.usd_per_hour) if hours else _NOTHING
    return StepPlan(
        step.name,
        machine.name,
        memory,
        need.disk / GIB,
        hours,
        rent + api_usd.get(step.name, _NOTHING),
        memory.fits,
        "" if memory.fits else f"{memory.why}. {remedy(step, memory, book)}" if memory.able else f"{memory.why}.",
    )


def memories(need: Need, machine: Machine) -> list[Memory]:
    """A step's use of main memory, and of GPU memory if it uses any."""
    kinds = [(need.memory, machine.memory, False, need.because), (need.gpu, machine.gpu, True, need.gpu_because)]
    return [
        Memory(held / GIB, None if usable is None else usable / GIB, on_gpu, why)
        for held, usable, on_gpu, why in kinds
        if held
    ]


def scarcer(need: Need, machine: Machine) -> Memory:
    """The memory of which a step uses the largest share."""
    return max(memories(need, machine), key=lambda each: each.peak_gib / each.usable_gib if each.usable_gib else 0)


def remedy(step: Step, memory: Memory, book: PriceBook) -> str:
    """The advice if a step does not fit: its own remedy, and a machine that is large enough."""
    holding = cheapest_gpu_holding if memory.on_gpu else cheapest_holding
    other = memory.holder or holding(book, memory.peak_gib * GIB, taken=lambda name: book.machines[name].clusters)
    return step.less_memory + (f" {other} is large enough." if other else "")
