"""A candidate that was tried: the figures of its run that a search compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from tunewright.core.artifacts import read_manifest
from tunewright.evaluation.statistics.intervals import Interval
from tunewright.evaluation.verdict.comparison import CONTROLS, SERVED
from tunewright.evaluation.verdict.targets import SPEED
from tunewright.models.naming import Kind

TRYING = ("train", "export", "evaluate", "parity", "verdict", "bundle")
"""The steps of a single candidate; the checked and split data are shared by all."""


class Outcome(Protocol):
    """A candidate's run."""

    @property
    def data(self) -> Mapping[str, Any]:
        """The content of its verdict.json."""
        ...

    @property
    def folders(self) -> Mapping[str, Path]:
        """The output of each step."""
        ...


@dataclass(frozen=True)
class Tried:
    """A candidate that was tried and judged."""

    name: str
    kind: Kind | Literal["cascade"]
    decision: str
    sentence: str
    """Its verdict."""
    usd_per_month: float
    """Monthly cost of what its verdict recommends."""
    served_usd: float
    """Monthly cost of the model by itself."""
    scores: dict[str, Interval]
    """The primary metric of the served model, by test split."""
    p95_ms: float
    minutes: float
    """Time of its steps; for a cascade, with those of its parts."""
    missed: dict[str, str]
    """The targets that the model misses, with the measured values."""
    good: bool
    """Whether the model, or a simpler baseline beside it, does the job."""
    ends: str
    """Why the search tries no dearer candidate: this one does the job, or a dearer one could not do better. Empty where
    the search goes on."""
    report: Path
    """The candidate's own report."""

    @property
    def worst(self) -> Interval:
        """The score on the split where the candidate does worst."""
        return min(self.scores.values(), key=lambda score: score.value)

    @property
    def summary(self) -> str:
        """The result in a sentence or two; empty where there is nothing to say."""
        missed = "; ".join(f"{name} ({measured})" for name, measured in self.missed.items())
        missed = f"{self.name} misses {missed}." if missed else ""
        return " ".join(filter(None, (missed, self.ends)))


def summarise(name: str, kind: Kind | Literal["cascade"], outcome: Outcome, parts: Sequence[Outcome] = ()) -> Tried:
    """The figures of a candidate's run.

    Args:
        parts: the runs of a cascade's two candidates.
    """
    data = outcome.data
    verdict, served = data["verdict"], data["comparison"]["candidates"][SERVED]
    missed = [target for target in verdict["targets"] if not target["met"]]
    ends = ""
    if not missed:
        ends = f"{name} meets every target."
    elif verdict["good_enough"] == SERVED:
        ends = f"{name} is as good as the API all the same: {verdict['decision']}."
    elif verdict["good_enough"] in CONTROLS:
        ends = f"{CONTROLS[verdict['good_enough']]} is good enough, so nothing dearer is tried."
    elif all(target["name"] == SPEED for target in missed):
        ends = "A dearer candidate would be slower still."
    return Tried(
        name,
        kind,
        verdict["decision"],
        verdict["sentence"],
        verdict["usd_per_month"],
        served["cost"]["usd_per_month"],
        {split: Interval(**score["primary_metric"]) for split, score in served["scores"].items()},
        verdict["p95_ms"],
        _minutes([outcome, *parts]),
        {target["name"]: target["found"] for target in missed},
        not missed or bool(verdict["good_enough"]),
        ends,
        outcome.folders["verdict"] / "report.html",
    )


def _minutes(outcomes: Sequence[Outcome]) -> float:
    """Time of the steps that made some runs' outputs; an output that they share counts once."""
    folders = sorted({each.folders[step] for each in outcomes for step in TRYING if step in each.folders})
    manifests = (read_manifest(folder, whole=False) for folder in folders)
    return sum(manifest.wall_seconds for manifest in manifests if manifest) / 60
