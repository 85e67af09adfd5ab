"""The plan of a project: its training on every machine, and every step here and in Azure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tunewright.config import Spec
from tunewright.data import Dataset, load_dataset
from tunewright.economics.cost import LETTERS_A_TOKEN
from tunewright.economics.memory import GIB
from tunewright.economics.prices import PriceBook, price_book
from tunewright.economics.speed import PLAIN_NF4, Range, around
from tunewright.evaluation.api.baseline import forecast
from tunewright.evaluation.steps import tests_of
from tunewright.models.resolve import is_encoder
from tunewright.models.sizes import Sizes, shape_in, sizes_of
from tunewright.models.skeleton import config_of
from tunewright.pipeline.planning.machines import HERE, Machine, key_of, priced_machine, this_machine, this_speed
from tunewright.pipeline.planning.steps import Memory, StepsPlan, plan_step
from tunewright.pipeline.planning.times import PlannedJob
from tunewright.pipeline.steps import Step, steps_to
from tunewright.training.encoders.footprint import shape_of_encoder
from tunewright.training.planning.cpu import DEQUANTISED, held
from tunewright.training.planning.plan import PARALLEL, Plan, plan, spoken

_TRAINED = 1.5
"""The accuracy, as a factor, of the predicted training time on a GPU (docs/plan.md)."""
_MEASURED = 1.25
"""The accuracy, as a factor, of the time of a step that ran here before."""
_JUDGE_TOKENS = 150
"""Tokens of a judge's instructions without the rubric."""


@dataclass(frozen=True)
class ProjectPlan:
    """The resources that a project needs."""

    training: Plan
    here: StepsPlan
    """Every step on this machine."""
    azure: StepsPlan
    """Every step on the machine that the spec chooses for it in Azure."""
    stops: list[str]
    """A sentence for each step that its budget would stop."""
    as_of: str
    """Date of the prices of machines."""

    @property
    def sentence(self) -> str:
        """The plan in a line."""
        return " ".join([f"Here {_summary(self.here)}. In Azure {_summary(self.azure)}.", *self.stops])


@dataclass(frozen=True)
class ApiForecast:
    """What a step that calls an API would pay it."""

    usd: float
    least: float
    """The low end of what it may be, in USD; the high end is twice `usd`."""
    budget: float
    """The step's `budget_usd`."""
    spent: float = 0.0
    """What earlier runs have spent of it, in USD."""

    @property
    def left(self) -> float:
        """What is left of the budget."""
        return max(self.budget - self.spent, 0.0)

    @property
    def paid(self) -> Range:
        """What is paid before the budget stops the step."""
        return Range(min(self.least, self.left), min(2 * self.usd, self.left))

    def stop(self, step: str) -> str:
        """A sentence that the budget would stop the step; empty where the forecast is within it."""
        if self.usd <= self.left:
            return ""
        stops = "would" if self.least > self.left else "may"
        budget = f"{step}.budget_usd={self.budget:g}"
        spent = f", of which ${self.spent:,.2f} are spent" if self.spent else ""
        return f"{step} {stops} stop at its budget, {budget}{spent}: its forecast is ${self.usd:,.2f}."


def _summary(plan: StepsPlan) -> str:
    if plan.misfits:
        first = plan.misfits[0]
        others = len(plan.misfits) - 1
        more = f", nor do{'' if others > 1 else 'es'} {others} other step{'s' if others > 1 else ''}" if others else ""
        return f"{first.step} does not fit ({first.memory.summary}){more}"
    money = f" and ${plan.usd.low:.2f} to ${plan.usd.high:.2f}" if plan.usd.high else ""
    untimed = [each.step for each in plan.steps if each.hours is None]
    return f"it takes {spoken(plan.hours)}{money}" + (f", {' and '.join(untimed)} not counted" if untimed else "")


def plan_project(
    spec: Spec,
    split: Path,
    runs: Path,
    measured: Mapping[str, float],
    size_of: Callable[[Step], str],
    count_of: Callable[[Step], int],
) -> ProjectPlan:
    """Plan everything after the split.

    Args:
        split: the folder of the dataset.
        runs: the folder of all outputs.
        measured: the seconds of steps that ran here before.
        size_of, count_of: the machine of a step in Azure, by its name in the price book, and their number.

    Raises:
        UserError: the base model is unknown, an example can't be trained on, or a machine has no price.
    """
    dataset = load_dataset(split)
    training = plan(spec, dataset.train, dataset.validation)
    sizes = _sizes(spec, training)
    job, book, steps = _job(spec, dataset, sizes, training), price_book(spec.price_file), steps_to(spec, "bundle")
    forecasts = _api_forecasts(spec, dataset, job, split, runs, book)
    api = {name: each.paid for name, each in forecasts.items()}

    def plan_steps(machine_of: Callable[[Step], tuple[Machine, int]], factor: float) -> StepsPlan:
        plans = []
        for step in steps:
            machine, count = machine_of(step)
            known = {name: around(seconds, factor) for name, seconds in measured.items()}
            memory, hours = _training(training, machine) if step.trains else (None, None)
            if hours:
                known[step.name] = hours.times(3600 / (count * PARALLEL if count > 1 else 1))
            plans.append(plan_step(step, job, machine, book, known, api, memory, count))
        return StepsPlan(plans)

    here = replace(this_machine(), speed=this_speed())
    rented = {name: priced_machine(name, book, key_of(name, spec)) for name in {size_of(step) for step in steps}}
    return ProjectPlan(
        training,
        plan_steps(lambda _: (here, 1), _MEASURED),
        plan_steps(lambda step: (rented[size_of(step)], count_of(step)), 2.0),
        list(filter(None, (each.stop(name) for name, each in forecasts.items()))),
        book.as_of,
    )


def _sizes(spec: Spec, training: Plan) -> Sizes:
    if is_encoder(spec.model, spec.folder):
        shape = shape_of_encoder(spec)
        return sizes_of(spec.model, spec.folder) or Sizes.of_encoder(shape.parameters, shape.embeddings)
    of_decoder = shape_in(config_of(spec.model, spec.folder).to_dict())
    # Fewer than its parameters where it trains in NF4.
    numbers = training.footprint.weights // (4 if spec.train.precision == "float32" else 2)
    return Sizes.of(of_decoder).counted(numbers) if of_decoder else Sizes.roughly(numbers)


def _job(spec: Spec, dataset: Dataset, sizes: Sizes, training: Plan) -> PlannedJob:
    batches = training.batches
    return PlannedJob(
        spec,
        sizes,
        len(dataset.train),
        len(dataset.validation),
        [len(examples) for examples in tests_of(spec, dataset).values()],
        batches.prefix,
        training.chunks * max(1.0, batches.mean - batches.prefix - batches.learnt),
        training.chunks * batches.learnt,
    )


def _training(training: Plan, machine: Machine) -> tuple[Memory | None, Range | None]:
    """(the memory of a training on a machine, its hours); None for what was not counted."""
    if machine.name == HERE:
        here = training.here
        if here is None:
            return None, None
        return Memory(here.peak_gib, here.memory_gib, False, "the model, its libraries and a batch"), here.hours
    option = next((each for each in training.options if each.machine == machine.name), None)
    if option:
        able = option.fits or option.peak_gib > option.usable_gib
        best = training.cheapest
        memory = Memory(option.peak_gib, option.usable_gib, True, option.why, able, best.machine if best else None)
        return memory, around(option.hours, _TRAINED)
    return _on_rented_cpu(training, machine)


def _on_rented_cpu(training: Plan, machine: Machine) -> tuple[Memory, Range]:
    """(memory, hours) of a training in float32 on a machine of the price book without a GPU."""
    assert machine.speed
    batches = training.batches
    peak, middle = (training.count(rows, "float32", on_cpu=True) for rows in (batches.heaviest_pass(), batches.middle))
    usable = None if machine.memory is None else machine.memory / GIB
    speed, work = machine.speed, middle.work
    dense = work.dequantised / (speed.nf4 / PLAIN_NF4 * DEQUANTISED)
    seconds = training.passes * (work.flops / speed.floats + work.moved / speed.bytes + dense)
    return Memory(held(peak) / GIB, usable, False, "the model, its libraries and a batch"), around(seconds / 3600, 2.0)


def _api_forecasts(
    spec: Spec, dataset: Dataset, job: PlannedJob, split: Path, runs: Path, book: PriceBook
) -> dict[str, ApiForecast]:
    """The costs of each step that calls an API whose price is known."""
    forecasts = {}
    if spec.asked_apis:
        asking = forecast(spec, split, runs)
        usd = sum(each.usd for each in asking.apis)
        forecasts["baseline"] = ApiForecast(usd, usd / 2, spec.baseline.budget_usd, asking.spent)
    if spec.judge and (price := book.apis.get(spec.judge.priced_as or spec.judge.model)):
        questions = 2 * sum(min(len(examples), spec.judge.sample) for examples in tests_of(spec, dataset).values())
        tokens = _JUDGE_TOKENS + len(spec.judge.rubric) / LETTERS_A_TOKEN + job.own + 2 * job.written
        # Answers like the data's are not judged, so it may pay nothing.
        forecasts["judge"] = ApiForecast(questions * price.usd(tokens, 1), 0.0, spec.judge.budget_usd)
    return forecasts
