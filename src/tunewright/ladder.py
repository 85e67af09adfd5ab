"""The ladder: base models from the smallest on, until one passes; and what the next step would cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tunewright.assess.hosting import Hosting, hosting_of
from tunewright.assess.prices import price_book
from tunewright.data import load_dataset
from tunewright.errors import UserError
from tunewright.evaluate.comparison import SERVED
from tunewright.evaluate.targets import SPEED
from tunewright.models.catalogue import CatalogueEntry, catalogue
from tunewright.models.resolve import encoder_window, is_encoder
from tunewright.models.sizes import shape_in
from tunewright.models.skeleton import config_of, parameters_of
from tunewright.models.torch_model import quiet_libraries
from tunewright.spec import Spec
from tunewright.train.able import require_able
from tunewright.train.encoders.footprint import shape_of_encoder
from tunewright.train.plan import Plan, plan, spoken


class Outcome(Protocol):
    """A run of one rung."""

    @property
    def data(self) -> Mapping[str, Any]:
        """What its verdict.json holds."""
        ...

    @property
    def split(self) -> Path:
        """The folder of its dataset."""
        ...


_Run = TypeVar("_Run", bound=Outcome)


@dataclass(frozen=True)
class Rung:
    """One base model that was tuned and judged."""

    model: str
    decision: str
    usd_per_month: float
    """Of what its verdict recommends."""
    missed: list[str]
    """The targets that the tuned model misses, with what was found."""
    ends: str
    """Why no larger model is tried: it passes, something simpler does, or a larger one could not do better. Empty where
    the next one is."""


@dataclass(frozen=True)
class NextStep:
    """What the base model after the last one that was tried would cost."""

    model: str
    training: str
    """Where it would be trained, how long and for how much."""
    serving: str
    """Where it would be served, and for how much a month."""


@dataclass(frozen=True)
class Ladder:
    rungs: list[Rung]
    """In the order they were tried."""
    best: str
    """The model whose verdict stands: the last one where it ends the ladder, else the one whose verdict costs least, of
    equal ones the largest."""
    next: NextStep | None
    """None where the last one was tried, or nothing larger is needed."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Models that can't do the job at all, each with the reason; they are not tried."""

    @property
    def told(self) -> list[str]:
        """How it went, a sentence each."""
        told = [f"{model} is left out: {why}" for model, why in self.left_out.items()]
        told += [_told(rung) for rung in self.rungs]
        if self.next:
            step = self.next
            told.append(f"The next step would be {step.model}: training {step.training}; serving {step.serving}.")
        if not self.rungs[-1].ends:
            told.append(f"No model is left to try; the verdict on {self.best} stands.")
        return told


def climb(spec: Spec, run: Callable[[Spec], _Run]) -> tuple[_Run, Ladder]:
    """Run one base model after the other, and stop at the first that is good enough.

    Args:
        run: the whole job for one rung.

    Returns: the run whose verdict stands, and how it came to it.

    Raises:
        UserError: none of them can do the job.
    """
    able, left_out = _able(spec)
    rungs: list[Rung] = []
    for each in able:
        outcome = run(each)
        rungs.append(_rung(each.model_name, outcome.data["verdict"]))
        if rungs[-1].ends:
            break
    else:
        cheapest = min(range(len(rungs)), key=lambda number: (rungs[number].usd_per_month, -number))
        if cheapest != len(rungs) - 1:
            outcome = run(able[cheapest])  # all of it is there; it becomes the latest again
        return outcome, Ladder(rungs, rungs[cheapest].model, None, left_out)
    left = [] if outcome.data["verdict"]["shown"] == "classical" else able[len(rungs) :]
    return outcome, Ladder(rungs, rungs[-1].model, next_step(left[0], outcome) if left else None, left_out)


def _able(spec: Spec) -> tuple[list[Spec], dict[str, str]]:
    """(the rungs whose model can do the job, why the others can't)."""
    able, left_out = [], {}
    for each in spec.rungs:
        try:
            require_able(each)
        except UserError as error:
            left_out[each.model_name] = error.what
            last = error
        else:
            able.append(each)
    if not able:
        raise last
    return able, left_out


def _rung(model: str, verdict: Mapping[str, Any]) -> Rung:
    missed = [target for target in verdict["targets"] if not target["met"]]
    ends = ""
    if not missed:
        ends = f"{model} meets every target."
    elif verdict["good_enough"] == SERVED:
        ends = f"It is as good as the API all the same: {verdict['decision']}."
    elif verdict["good_enough"]:
        ends = "Something simpler is good enough, so nothing larger is tried."
    elif all(target["name"] == SPEED for target in missed):
        ends = "A larger one would be slower still."
    found = [f"{target['name']} ({target['found']})" for target in missed]
    return Rung(model, verdict["decision"], verdict["usd_per_month"], found, ends)


def next_step(spec: Spec, last: Outcome) -> NextStep:
    """What a rung would cost, from the run before it."""
    quiet_libraries()
    dataset = load_dataset(last.split)
    try:
        training = _training(plan(spec, dataset.train, len(dataset.validation)))
        usage, book = last.data["comparison"]["usage"], price_book(spec.price_file)
        serving = _serving(
            hosting_of(spec, spec.model, _entry(spec), book, usage["prompt_tokens"], usage["answer_tokens"])
        )
    # A ladder that ended well is not lost over a model that can't be looked up, or whose config is of another kind.
    except (UserError, ValueError, AttributeError, KeyError) as error:
        why = error.what if isinstance(error, UserError) else str(error)
        training, serving = f"can't be told here ({why.rstrip('.')})", "neither"
    return NextStep(spec.model_name, training, serving)


def _training(planned: Plan) -> str:
    here = f"{spoken(planned.here.hours)} on this machine" if planned.here and planned.here.fits else ""
    best = planned.cheapest
    rented = f"{spoken(best.hours)} and ${best.usd:,.2f} on {best.machine}" if best else ""
    return ", or ".join(filter(None, (here, rented))) or planned.sentence


def _serving(hosting: Hosting | None) -> str:
    if hosting is None:
        return "no machine of the price book holds it"
    late = "" if hosting.in_time else ", where it would be too slow"
    return f"about ${hosting.cost.usd_per_month:,.0f} a month on {hosting.cost.replicas} x {hosting.machine}{late}"


def _entry(spec: Spec) -> CatalogueEntry:
    """A base model's size and shape: without a shape no GPU can be sized for a decoder."""
    if entry := catalogue().get(spec.model):
        return entry
    if is_encoder(spec.model, spec.folder):
        shape, (_, window) = shape_of_encoder(spec), encoder_window(spec.model, spec.folder)
        return CatalogueEntry(
            hub=spec.model, kind="encoder", parameters=shape.parameters / 1e9, embeddings=shape.embeddings / 1e9,
            context=window, licence="",
        )  # fmt: skip
    config = config_of(spec.model, spec.folder)
    return CatalogueEntry(
        hub=spec.model, parameters=parameters_of(config) / 1e9, context=config.max_position_embeddings, licence="",
        template="", shape=shape_in(config.to_dict()),
    )  # fmt: skip


def _told(rung: Rung) -> str:
    missed = f"{rung.model} misses {'; '.join(rung.missed)}." if rung.missed else ""
    return " ".join(filter(None, (missed, rung.ends)))
