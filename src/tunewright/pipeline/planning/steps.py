"""A plan of each step on one machine, and of all of them together."""

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
"""Seconds that a rented machine is paid for before a step begins and after it ends: its image, its inputs, its output;
an assumption."""
_NOTHING = Range(0.0, 0.0)


@dataclass(frozen=True)
class Memory:
    """What a step holds of a machine's main memory, or of its GPU's."""

    peak_gib: float
    usable_gib: float | None
    """What there is; None: not known, and then it fits."""
    on_gpu: bool
    why: str
    """What takes most of it."""
    able: bool = True
    """Whether what has this memory can compute the step at all."""
    holder: str | None = None
    """A machine that would hold it, where one is known beforehand."""

    @property
    def fits(self) -> bool:
        return self.able and (self.usable_gib is None or self.peak_gib <= self.usable_gib)

    @property
    def said(self) -> str:
        """For people, as 15.4 of 14.6 GiB."""
        there = "" if self.usable_gib is None else f" of {self.usable_gib:.1f}"
        return f"{self.peak_gib:.1f}{there} GiB{' on the GPU' if self.on_gpu else ''}"


@dataclass(frozen=True)
class StepPlan:
    """What one step needs on one machine."""

    step: str
    machine: str
    """Its name in the price book, or `tunewright.pipeline.planning.machines.HERE`."""
    memory: Memory
    """The scarcer one, the machine's or its GPU's."""
    disk_gib: float
    """What the step writes and leaves."""
    hours: Range | None
    """None where the machine's GPU is one that nobody has timed."""
    usd: Range
    fits: bool
    why: str
    """What is in the way, and what to do; empty where it fits."""


@dataclass(frozen=True)
class StepsPlan:
    """All steps, each on its machine."""

    steps: list[StepPlan]

    @property
    def hours(self) -> Range:
        """Of the steps whose time is known."""
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
        known: seconds of steps that were measured or counted elsewhere.
        api_usd: what steps that ask an API pay for it.
        training: of a step that trains, the memory that was counted.
        count: machines that work on it together.
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
    """What a step holds of the main memory, and of a GPU's where it holds any."""
    sides = [(need.memory, machine.memory, False, need.because), (need.gpu, machine.gpu, True, need.gpu_because)]
    return [
        Memory(held / GIB, None if there is None else there / GIB, on_gpu, why)
        for held, there, on_gpu, why in sides
        if held
    ]


def scarcer(need: Need, machine: Machine) -> Memory:
    """The memory that leaves a step least room."""
    return max(memories(need, machine), key=lambda each: each.peak_gib / each.usable_gib if each.usable_gib else 0)


def remedy(step: Step, memory: Memory, book: PriceBook) -> str:
    """What to do where a step does not fit: its own remedy, and a machine that would do."""
    holding = cheapest_gpu_holding if memory.on_gpu else cheapest_holding
    other = memory.holder or holding(book, memory.peak_gib * GIB, taken=lambda name: book.machines[name].clusters)
    return step.less_memory + (f" {other} would hold it." if other else "")
