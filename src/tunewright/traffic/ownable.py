"""What share of each job, and of the whole bill, an owned model could answer: the fit forecast on captured answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunewright.core.errors import UserError
from tunewright.core.samples import evenly
from tunewright.economics.fit import FitForecast, forecast_fit
from tunewright.gateway.jobs.outcomes import label_in
from tunewright.tasks import Example, Meta
from tunewright.traffic.jobs import TrafficJob

_ROWS = 600
"""Answered requests of a job that the forecast looks at."""
_FORECAST = ("labels", "record", "short text", "long text")
"""Forms of answers that a project can be made of."""
_CASCADE = 0.2
"""The share that a model whose accuracy misses the goal may still answer by itself (`tunewright.economics.fit`)."""


@dataclass(frozen=True)
class Ownable:
    """How much of a job an owned model could answer."""

    low: float | None
    """The share of its requests at least; None: not known."""
    high: float | None
    why: str


def ownable(job: TrafficJob, goal: float) -> Ownable:
    """The forecast for a job.

    Right is here what the API said, so the goal is an agreement with the API: the API's own errors count as right.

    Args:
        goal: the share of answers that must be right.
    """
    if job.form.kind not in _FORECAST:
        what = "There is no forecast for" if job.answer else "No project can be made of"
        return Ownable(None, None, f"{what} {job.form.kind} yet.")
    rows = [
        Example.of(each.input, answer, Meta(id=str(number)))
        for number, each in enumerate(evenly(job.drawn, _ROWS))
        if each.input and (answer := label_in(each.choice.text, job.form.key))
    ]
    try:
        forecast = forecast_fit(rows, goal=goal, seed=0, test_rows=len(job.drawn) // 5)
    except UserError as error:
        return Ownable(None, None, error.paragraph())
    return Ownable(*_shares(forecast), forecast.sentence)


def _shares(forecast: FitForecast) -> tuple[float | None, float | None]:
    match forecast.answer:
        case "classical" | "good fit":
            return 1.0, 1.0
        case "worth a try":
            return _CASCADE, 1.0
        case "poor fit" | "no signal":
            return 0.0, 0.0
        case _:
            return None, None


def of_the_bill(jobs: Sequence[TrafficJob], shares: Sequence[Ownable]) -> tuple[float, float, float]:
    """(dollars of a month that could be owned at least, at most, and those of jobs where that is not known)."""
    low = high = unknown = 0.0
    for job, share in zip(jobs, shares, strict=True):
        usd = job.usd_per_month or 0.0
        if share.low is None or share.high is None:
            unknown += usd
        else:
            low, high = low + share.low * usd, high + share.high * usd
    return low, high, unknown
