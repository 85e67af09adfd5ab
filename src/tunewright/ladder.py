"""The ladder: base models from the smallest on, until one passes; and what the next step would cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from tunewright.assess.hosting import Hosting, cheapest_hosting
from tunewright.assess.prices import price_book
from tunewright.data import load_dataset
from tunewright.errors import UserError
from tunewright.models.catalogue import CatalogueEntry, Shape, catalogue
from tunewright.models.skeleton import config_of, parameters_of
from tunewright.spec import Spec
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
    missed: list[str]
    """The targets it misses, with what was found; none where it passes."""

    @property
    def ends(self) -> bool:
        """Whether no larger model is needed: it passes, or something simpler does."""
        return not self.missed or self.decision == "classical"


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
    next: NextStep | None
    """None where the last one was tried."""

    @property
    def told(self) -> list[str]:
        """How it went, a sentence each."""
        return [*map(_told, self.rungs), _told_next(self.rungs[-1], self.next)]


def climb(spec: Spec, run: Callable[[Spec], _Run]) -> tuple[_Run, Ladder]:
    """Run one base model after the other, and stop at the first that meets every target.

    Args:
        run: the whole job for one rung.

    Returns: the last run, and how it came to it.
    """
    rungs = []
    for each in spec.rungs:
        outcome = run(each)
        verdict = outcome.data["verdict"]
        missed = [f"{target['name']} ({target['found']})" for target in verdict["targets"] if not target["met"]]
        rungs.append(Rung(each.model, verdict["decision"], missed))
        if rungs[-1].ends:
            break
    left = spec.rungs[len(rungs) :]
    return outcome, Ladder(rungs, next_step(left[0], outcome) if left else None)


def next_step(spec: Spec, last: Outcome) -> NextStep:
    """What a rung would cost, from the run before it."""
    dataset = load_dataset(last.split)
    try:
        training = _training(plan(spec, dataset.train, len(dataset.validation)))
    except UserError as error:
        training = f"can't be planned here: {error.what}"
    usage = last.data["comparison"]["usage"]
    book = price_book(spec.price_file)
    hosting = cheapest_hosting(
        spec.model, _entry(spec), book, prompt_tokens=usage["prompt_tokens"], answer_tokens=usage["answer_tokens"],
        target=spec.goal.p95_ms / 1000, requests=spec.traffic.requests_per_month,
        peak_to_average=spec.traffic.peak_to_average, redundancy=spec.traffic.redundancy,
    )  # fmt: skip
    return NextStep(spec.model, training, _serving(hosting))


def _training(planned: Plan) -> str:
    here = f"{spoken(planned.here.hours)} on this machine" if planned.here else ""
    best = planned.cheapest
    rented = f"{spoken(best.hours)} and ${best.usd:,.2f} on {best.machine}" if best else ""
    return ", or ".join(filter(None, (here, rented))) or planned.sentence


def _serving(hosting: Hosting | None) -> str:
    if hosting is None:
        return "no machine of the price book holds it"
    late = "" if hosting.in_time else ", where it would be too slow"
    return f"about ${hosting.cost.usd_per_month:,.0f} a month on {hosting.cost.replicas} x {hosting.machine}{late}"


def _entry(spec: Spec) -> CatalogueEntry:
    """A base model's size and shape, as the catalogue has them or as its folder says."""
    if entry := catalogue().get(spec.model):
        return entry
    config = config_of(spec.model, spec.folder)
    shape = Shape(
        type=config.model_type, hidden=config.hidden_size, layers=config.num_hidden_layers,
        heads=config.num_attention_heads, kv_heads=config.num_key_value_heads,
        intermediate=config.intermediate_size, vocabulary=config.vocab_size,
        head_width=getattr(config, "head_dim", None), tied=config.tie_word_embeddings,
    )  # fmt: skip
    return CatalogueEntry(
        hub=spec.model, parameters=parameters_of(config) / 1e9, context=config.max_position_embeddings, licence="",
        template="", shape=shape,
    )  # fmt: skip


def _told(rung: Rung) -> str:
    if not rung.missed:
        return f"{rung.model} meets every target."
    missed = f"{rung.model} misses {'; '.join(rung.missed)}."
    return f"{missed} Something simpler is enough, so nothing larger was tried." if rung.ends else missed


def _told_next(last: Rung, step: NextStep | None) -> str:
    if step is None:
        return "It was the last of the ladder." if not last.ends else "No larger model was left to try."
    return f"The next step would be {step.model}: training {step.training}; serving {step.serving}."
