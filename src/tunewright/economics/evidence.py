"""The evidence book: what tuned models reached on jobs where the cheap model's accuracy is known too."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib import resources
from statistics import fmean, variance

from pydantic import BaseModel, ConfigDict, Field

NEAR = 4.0
"""Jobs count as near where they have up to so many times more or fewer groups a label."""
AT_LEAST = 5
"""Jobs that are looked at though they are farther away; of fewer a spread tells little."""
LEVEL = 0.95
"""Of either end of what is to be expected."""


class Tuned(BaseModel):
    """One tuned classifier beside the cheap model."""

    model_config = ConfigDict(extra="forbid")

    data: str
    groups_a_label: float = Field(gt=0)
    svm: float = Field(gt=0, lt=100)
    """Accuracy of the cheap model, in percent, as a forecast measures it: by cross-validation of the training rows."""
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
    """Standard deviation of a further model on a further job around it."""
    freedom: int
    """Degrees of freedom."""

    def ends(self, more: float = 0.0) -> tuple[float, float]:
        """What the multiple is not below and not above, each up to an error of 5 %.

        Args:
            more: standard deviation of what it is multiplied with, in logarithms.
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
        """What the jobs in the book say of a further one with so many groups a label.

        Jobs with about as many count, all alike and each once, however many models were tuned on it: with few groups
        what a model knows from elsewhere is worth most, and least sure. The spread is that of a further model on a
        further job, not of the mean.

        Source: Higgins, Thompson and Spiegelhalter 2009, section 3.1, the prediction interval of a random effect.
        """
        jobs = [[math.log(row.error_ratio) for row in rows] for rows in self.near(groups_a_label)]
        ratios = [fmean(found) for found in jobs]
        within = [variance(found) for found in jobs if len(found) > 1]
        spread = math.sqrt(variance(ratios) * (1 + 1 / len(jobs)) + (fmean(within) if within else 0.0))
        return ErrorRatio(fmean(ratios), spread, len(jobs) - 1)

    def near(self, groups_a_label: float) -> list[list[Tuned]]:
        """The trainings of each job with about as many groups a label, the nearest first; AT_LEAST jobs in any case."""
        jobs: dict[str, list[Tuned]] = defaultdict(list)
        for row in self.classification:
            jobs[row.data].append(row)

        def distance(rows: list[Tuned]) -> float:
            return abs(math.log(rows[0].groups_a_label / groups_a_label))

        found = sorted(jobs.values(), key=distance)
        return found[: max(AT_LEAST, sum(distance(rows) <= math.log(NEAR) for rows in found))]


@cache
def evidence_book() -> EvidenceBook:
    from ruamel.yaml import YAML

    text = (resources.files("tunewright.economics") / "evidence.yaml").read_text("utf-8")
    return EvidenceBook.model_validate(YAML(typ="safe").load(text))
