"""The evidence book: the accuracy of tuned models on jobs where the cheap model's is known too."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib import resources
from statistics import fmean, variance

from pydantic import BaseModel, ConfigDict, Field

NEAR = 4.0
"""Jobs are near where they have up to this many times more or fewer groups a label."""
AT_LEAST = 5
"""The least number of jobs to use, even where they are farther away; with fewer a spread says little."""
LEVEL = 0.95
"""Level of either end of the expected range."""


class Tuned(BaseModel):
    """One tuned classifier beside the cheap model."""

    model_config = ConfigDict(extra="forbid")

    data: str
    groups_a_label: float = Field(gt=0)
    svm: float = Field(gt=0, lt=100)
    """Accuracy of the cheap model, in percent, measured as in a forecast: by cross-validation of the training rows."""
    model: str
    accuracy: float = Field(gt=0, lt=100)
    """Accuracy of the tuned model on the job's test, in percent."""
    source: str

    @property
    def error_ratio(self) -> float:
        """The tuned model's error as a multiple of the cheap model's."""
        return (100 - self.accuracy) / (100 - self.svm)


class OtherEvidence(BaseModel):
    """A published figure for a kind of job that has no cheap model."""

    model_config = ConfigDict(extra="forbid")

    kind: str
    data: str
    figure: str
    source: str


@dataclass(frozen=True)
class ErrorRatio:
    """The error of a tuned model on a further job, as a multiple of the cheap model's, in logarithms."""

    middle: float
    spread: float
    """Standard deviation of a further model on a further job."""
    freedom: int
    """Degrees of freedom."""

    def ends(self, more: float = 0.0) -> tuple[float, float]:
        """The lower and upper end of the multiple, each up to an error of 5 %.

        Args:
            more: standard deviation, in logarithms, of the factor that it is multiplied by.
        """
        from scipy.stats import t

        reach = float(t.ppf(LEVEL, self.freedom)) * math.hypot(self.spread, more)
        return math.exp(self.middle - reach), math.exp(self.middle + reach)


class EvidenceBook(BaseModel):
    model_config = ConfigDict(extra="forbid")

    as_of: str
    classification: list[Tuned]
    other: list[OtherEvidence]

    def error_ratio(self, groups_a_label: float) -> ErrorRatio:
        """The error ratio on a further job with so many groups a label, from the jobs in the book.

        Jobs with about as many groups count equally and once, however many models were tuned on them. With few groups
        a model's prior knowledge helps most, and least surely. The spread is that of a further model on a further job,
        not of the mean.

        Source: Higgins, Thompson and Spiegelhalter 2009, section 3.1, the prediction interval of a random effect.
        """
        jobs = [[math.log(row.error_ratio) for row in rows] for rows in self.near(groups_a_label)]
        ratios = [fmean(logs) for logs in jobs]
        within = [variance(logs) for logs in jobs if len(logs) > 1]
        spread = math.sqrt(variance(ratios) * (1 + 1 / len(jobs)) + (fmean(within) if within else 0.0))
        return ErrorRatio(fmean(ratios), spread, len(jobs) - 1)

    def near(self, groups_a_label: float) -> list[list[Tuned]]:
        """The trainings of each job with about as many groups a label, the nearest job first; at least AT_LEAST
        jobs."""
        jobs: dict[str, list[Tuned]] = defaultdict(list)
        for row in self.classification:
            jobs[row.data].append(row)

        def distance(rows: list[Tuned]) -> float:
            return abs(math.log(rows[0].groups_a_label / groups_a_label))

        ordered = sorted(jobs.values(), key=distance)
        return ordered[: max(AT_LEAST, sum(distance(rows) <= math.log(NEAR) for rows in ordered))]


@cache
def evidence_book() -> EvidenceBook:
    from ruamel.yaml import YAML

    text = (resources.files("tunewright.economics") / "evidence.yaml").read_text("utf-8")
    return EvidenceBook.model_validate(YAML(typ="safe").load(text))
