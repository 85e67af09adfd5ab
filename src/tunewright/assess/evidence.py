"""The evidence book: what tuned models reached on jobs where the cheap model's accuracy is known too."""

from __future__ import annotations

import math
from functools import cache
from importlib import resources

from pydantic import BaseModel, ConfigDict, Field

NEAR = 4.0
"""Rows of evidence count as near where they have up to so many times more or fewer groups a label."""
ENOUGH_DATA_SETS = 3
"""From fewer data sets nobody may conclude that a tuned model beats the cheap one."""


class Tuned(BaseModel):
    """One tuned classifier beside the cheap model, both on one test part."""

    model_config = ConfigDict(extra="forbid")

    data: str
    groups_a_label: float = Field(gt=0)
    svm: float = Field(gt=0, lt=100)
    """Accuracy of the cheap model, in percent."""
    model: str
    accuracy: float = Field(gt=0, lt=100)
    """Accuracy of the tuned model, in percent."""
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
    low: float | None = None
    high: float | None = None
    """Ends of the published range, in percent."""
    source: str


class EvidenceBook(BaseModel):
    model_config = ConfigDict(extra="forbid")

    as_of: str
    classification: list[Tuned]
    other: list[OtherEvidence]

    def near(self, groups_a_label: float) -> list[Tuned]:
        """The classifiers with about as many groups a label, or the nearest one's data set where there are none."""

        def distance(row: Tuned) -> float:
            return abs(math.log(row.groups_a_label / groups_a_label))

        found = [row for row in self.classification if distance(row) <= math.log(NEAR)]
        least = min(map(distance, self.classification))
        return found or [row for row in self.classification if distance(row) == least]


def error_ratios(rows: list[Tuned]) -> tuple[float, float]:
    """The least and the greatest error of a tuned model to be expected, as multiples of the cheap model's.

    With too few data sets behind them the cheap model's own error stays in the range.
    """
    ratios = [row.error_ratio for row in rows]
    few = len({row.data for row in rows}) < ENOUGH_DATA_SETS
    return min(ratios), max(*ratios, 1.0) if few else max(ratios)


@cache
def evidence_book() -> EvidenceBook:
    from ruamel.yaml import YAML

    text = (resources.files("tunewright.assess") / "evidence.yaml").read_text("utf-8")
    return EvidenceBook.model_validate(YAML(typ="safe").load(text))
