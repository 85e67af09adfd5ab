"""Forecasts for candidates that were not tried: the cost to try and to serve them, and the accuracy to expect."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tunewright.backends.azure.machines import nodes_of, size_of
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import quiet_libraries
from tunewright.data import load_dataset
from tunewright.economics.evidence import evidence_book
from tunewright.economics.hosting import hosting_of
from tunewright.economics.prices import price_book
from tunewright.economics.speed import Range, around
from tunewright.evaluation.statistics.intervals import Interval
from tunewright.evaluation.steps import written_usage
from tunewright.ladder.tried import TRYING, Outcome, Tried
from tunewright.models.catalogue import CatalogueEntry, catalogue
from tunewright.models.linear_model import LINEAR
from tunewright.models.naming import known_kind
from tunewright.models.resolve import encoder_window, is_encoder
from tunewright.models.sizes import shape_in
from tunewright.models.skeleton import config_of, parameters_of
from tunewright.pipeline.planning.project import ProjectPlan, plan_project
from tunewright.pipeline.planning.steps import StepsPlan
from tunewright.tasks import task_of
from tunewright.training.encoders.footprint import shape_of_encoder
from tunewright.training.planning.plan import spoken


@dataclass(frozen=True)
class CandidateForecast:
    """The forecast for one candidate."""

    name: str
    hours: Range | None
    """Hours of its own steps on this machine; None where it does not fit, or the time is not known."""
    rented: Range | None
    """The same in Azure; None where the time is not known."""
    usd: Range | None
    """Cost of those hours."""
    trying: str
    """Time and cost in words, or why they are not known."""
    serving: str
    """The machine that would serve it, and what a month would cost, with the upkeep of the last run."""
    serving_usd: float | None
    """That cost; None where it is not known."""
    worth: str = ""
    """The accuracy to expect, in a sentence; empty where nothing is known."""

    @property
    def summary(self) -> str:
        worth = f" {self.worth}" if self.worth else ""
        return f"{self.name} would take {self.trying} to try; serving: {self.serving}.{worth}"


def forecast_candidate(
    spec: Spec, last: Outcome, earlier: list[Tried], plan: Callable[[Spec, Outcome], ProjectPlan] | None = None
) -> CandidateForecast:
    """Forecast the cost of a candidate.

    Args:
        last: a run on the same data.
        earlier: the candidates that were tried.
        plan: plans a project; by default as `tunewright plan` does.
    """
    name = spec.model_name
    if spec.model == LINEAR:
        return CandidateForecast(
            name, Range(0, 1 / 60), None, None, "less than a minute here", "as cheap as it gets", None
        )
    quiet_libraries()
    try:
        planned = (plan or _planned)(spec, last)
        usage = written_usage(task_of(spec.task), load_dataset(last.folders["split"]))  # its own prompt, not an API's
        book = price_book(spec.price_file)
        hosting = hosting_of(spec, spec.model, _entry(spec), book, usage.prompt_tokens, usage.answer_tokens)
    # A model that can't be looked up, or whose config is of another kind, must not lose a search that ended well.
    except (UserError, ValueError, AttributeError, KeyError) as error:
        why = error.what if isinstance(error, UserError) else str(error)
        return CandidateForecast(
            name, None, None, None, f"an unknown time ({why.rstrip('.')})", "not known either", None
        )
    here, there = _own(planned.here), _own(planned.azure)
    hours = None if here.misfits else here.hours
    rented, usd = (None, None) if there.misfits else (there.hours, there.usd)
    ways = [f"{spoken(hours)} here"] if hours else []
    ways += [f"{spoken(rented)} and ${usd.low:,.2f} to ${usd.high:,.2f} in Azure"] if rented and usd else []
    if rented is None and (best := planned.training.cheapest):  # on another machine than the spec's
        rented, usd = around(best.hours, 1.0), around(best.usd, 1.0)
        ways.append(f"{spoken(best.hours)} and ${best.usd:,.2f} to train on {best.machine}")
    trying = ", or ".join(ways) or f"more memory than there is, {here.misfits[0].memory.summary},"
    if hosting is None:
        serving, monthly = "no machine of the price book holds it", None
    else:
        late = "" if hosting.in_time else ", where it would be too slow"
        monthly = hosting.cost.usd_per_month + _upkeep(last)
        serving = f"about ${monthly:,.0f} a month on {hosting.cost.replicas} x {hosting.machine}{late}"
    return CandidateForecast(name, hours, rented, usd, trying, serving, monthly, _expectation(spec, last, earlier))


def _planned(spec: Spec, last: Outcome) -> ProjectPlan:
    return plan_project(
        spec,
        last.folders["split"],
        last.folders["split"].parent,
        {},
        lambda step: size_of(step, spec),
        lambda step: nodes_of(step, spec),
    )


def _own(plan: StepsPlan) -> StepsPlan:
    """The steps that each candidate does by itself."""
    return StepsPlan([each for each in plan.steps if each.step in TRYING])


def _upkeep(last: Outcome) -> float:
    """A month of a run's model besides its machines: people, retraining, storage. It is much the same for all."""
    items = last.data["comparison"]["money"]["items"]
    return sum(item["usd_per_month"] or 0.0 for item in items if item["name"] not in ("machines", "standby"))


def _expectation(spec: Spec, last: Outcome, earlier: list[Tried]) -> str:
    """The accuracy to expect of a language model, from jobs where a linear model did as well as on this one."""
    linear = next((each for each in earlier if each.kind == "linear"), None)
    if linear is None or known_kind(spec.model, spec.folder) != "decoder":
        return ""
    train = load_dataset(last.folders["split"]).train
    groups = len({example.meta.group or example.request for example in train})
    least, most = evidence_book().error_ratio(groups / max(1, len(task_of(spec.task).answers))).ends()
    low, high = expected(linear.worst, least, most)
    return (
        f"On other jobs tuned language models made {least:.2f} to {most:.2f} times a linear model's errors, so expect "
        f"{100 * low:.0f} to {100 * high:.0f} % on the hardest split, where the linear model has "
        f"{100 * linear.worst.value:.0f} %."
    )


def expected(linear: Interval, least: float, most: float) -> tuple[float, float]:
    """The 90 % interval of a tuned language model's accuracy, from a linear model's. It is computed as in
    `tunewright assess fit`, but from a test in the place of cross-validation.

    Args:
        least, most: ends of a tuned model's errors as a multiple of a linear model's.
    """
    error = 1 - linear.value
    return max(0.0, 1 - error * most), 1 - error * least


def _entry(spec: Spec) -> CatalogueEntry:
    """A base model's size and shape; a GPU for a decoder can't be sized without the shape."""
    if entry := catalogue().get(spec.model):
        return entry
    if is_encoder(spec.model, spec.folder):
        shape, (_, window) = shape_of_encoder(spec), encoder_window(spec.model, spec.folder)
        return CatalogueEntry(
            hub=spec.model,
            kind="encoder",
            parameters=shape.parameters / 1e9,
            embeddings=shape.embeddings / 1e9,
            context=window,
            licence="",
        )
    config = config_of(spec.model, spec.folder)
    return CatalogueEntry(
        hub=spec.model,
        parameters=parameters_of(config) / 1e9,
        context=config.max_position_embeddings,
        licence="",
        template="",
        shape=shape_in(config.to_dict()),
    )
