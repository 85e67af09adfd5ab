"""The evidence book: what tuned models reached on jobs where the cheap model's accuracy is known too."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib import resources
from statistics import fmean, variance

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

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
    """Standard deviation of a further job around it: of jobs, of models on one job, and of the fit itself."""
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

        A line through the jobs' mean log ratios over the logarithm of their groups a label: the more there is to learn
        from, the less a model's knowledge from elsewhere is worth. A job is one point, however many models were tuned
        on it. The spread is that of a prediction, not of the line.

        Source: Seber and Lee 2003, section 5.3.
        """
        jobs: dict[tuple[str, float], list[float]] = defaultdict(list)
        for row in self.classification:
            jobs[row.data, row.groups_a_label].append(math.log(row.error_ratio))
        sizes = np.log([groups for _, groups in jobs])
        ratios = np.array([fmean(found) for found in jobs.values()])
        about = sizes.mean()
        slope = float(((sizes - about) * ratios).sum() / np.square(sizes - about).sum())
        freedom = len(jobs) - 2
        between = float(np.square(ratios - ratios.mean() - slope * (sizes - about)).sum()) / freedom
        beyond = math.log(groups_a_label) - about
        of_line = 1 / len(jobs) + beyond**2 / float(np.square(sizes - about).sum())
        within = [variance(found) for found in jobs.values() if len(found) > 1]
        spread = math.sqrt(between * (1 + of_line) + (fmean(within) if within else 0.0))
        return ErrorRatio(float(ratios.mean() + slope * beyond), spread, freedom)

    def nearest(self, groups_a_label: float, count: int = 3) -> list[Tuned]:
        """The rows of the jobs that are most like one with so many groups a label."""
        distance = {row.data: abs(math.log(row.groups_a_label / groups_a_label)) for row in self.classification}
        named = sorted(distance, key=distance.__getitem__)[:count]
        return [row for name in named for row in self.classification if row.data == name]


@cache
def evidence_book() -> EvidenceBook:
    from ruamel.yaml import YAML

    text = (resources.files("tunewright.assess") / "evidence.yaml").read_text("utf-8")
    return EvidenceBook.model_validate(YAML(typ="safe").load(text))
