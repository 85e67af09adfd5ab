"""What the evidence tells beyond one figure: single labels, slices, every other candidate, the labels' ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import read_jsonl
from tunewright.data.examine import EXAMPLES
from tunewright.evaluation.evidence import Record, by_test, groups_of
from tunewright.evaluation.statistics.ceiling import UNSEEN, Ceiling, ceiling
from tunewright.evaluation.statistics.intervals import Interval, accuracy
from tunewright.evaluation.statistics.pairs import Paired, holm, paired_records
from tunewright.evaluation.statistics.slices import Slice, slices
from tunewright.evaluation.verdict.comparison import EXPORTED, SERVED
from tunewright.inference.calibration import Bin, bins, calibration_noise, expected_calibration_error
from tunewright.tasks import Example, task_of


@dataclass(frozen=True)
class LabelScore:
    """One label on one split."""

    label: str
    count: int
    """Examples that have it."""
    recall: Interval
    """Share of these that were given it."""
    given: int
    """Answers that are it."""
    precision: Interval | None
    """Share of these that are right; None where there are none."""


@dataclass(frozen=True)
class Against:
    """The served model and another predictor on one split."""

    candidate: str
    split: str
    paired: Paired
    p_value: float
    """Of the sign test, corrected for the number of such comparisons (Holm)."""


@dataclass(frozen=True)
class Reliability:
    """How near confidence is to what answers are worth: expected calibration error, and the bins it is made of."""

    before: float | None
    """Before calibration, of the same weights asked without the server; None where that is not known."""
    after: float
    noise: float
    """What so many answers would show by chance if confidence were exactly right."""
    bins: list[Bin]


@dataclass(frozen=True)
class Details:
    labels: dict[str, list[LabelScore]]
    """Of a classifier, its labels on each test split."""
    slices: list[Slice]
    against: list[Against]
    ceiling: Ceiling | None
    reliability: dict[str, Reliability]
    """By test split: how far the served model's confidence can be believed."""

    def reasons(self, primary_metric: str) -> list[str]:
        """What of it belongs beside the verdict, a sentence each."""
        told = [
            f"On {found.split}, {primary_metric} is lower where {found.by} is {found.name}: "
            f"{found.primary_metric.value:.1%} of {found.count:,} examples against {found.rest:.1%} of the rest."
            for found in self.slices
            if found.falls_short
        ]
        if self.ceiling and self.ceiling.accuracy.high < 1:
            limit = self.ceiling.accuracy
            told.append(
                f"Going by {self.ceiling.texts:,} texts that were labelled more than once, a system that is always "
                f"right would agree with {limit.value:.1%} ({limit.low:.1%} to {limit.high:.1%}) of these labels. "
                f"{UNSEEN}"
            )
        return told


def details(
    spec: Spec, check: Path, examples: Mapping[str, Example], evidence: Mapping[str, Sequence[Record]]
) -> Details:
    """What the served model's answers tell, and those of the others beside them.

    Args:
        check: the folder of the step check.
        examples: the test examples by id.
    """
    served, task = by_test(evidence[SERVED]), task_of(spec.task)
    labels: dict[str, list[LabelScore]] = {}
    limit = None
    if task.answers:
        labels = {split: label_scores(part) for split, part in served.items()}
        files = sorted((check / EXAMPLES).glob("*.jsonl"))
        rows = (Example.model_validate(row) for file in files for row in read_jsonl(file))
        limit = ceiling(rows, len(task.answers))
    found = slices(served, examples, spec.seed)
    exported = by_test(evidence.get(EXPORTED, ()))
    reliability = {split: reliability_of(part, exported.get(split, [])) for split, part in served.items()}
    return Details(labels, found, against(evidence), limit, reliability)


def reliability_of(served: Sequence[Record], exported: Sequence[Record]) -> Reliability:
    """What the served model's confidence is worth on one split, and what it was worth before calibration."""
    raw = [(record.uncalibrated, record.score) for record in exported if record.uncalibrated is not None]
    before = expected_calibration_error(*zip(*raw, strict=True)) if raw else None
    sure, score = [record.confidence or 0.0 for record in served], [record.score for record in served]
    return Reliability(before, expected_calibration_error(sure, score), calibration_noise(sure), bins(sure, score))


def label_scores(records: Sequence[Record]) -> list[LabelScore]:
    """Each label of one split, the one that is found least first."""
    scores = []
    for label in sorted({record.gold for record in records}):
        those = [record for record in records if record.gold == label]
        given = [record for record in records if record.answer == label]
        scores.append(
            LabelScore(
                label,
                len(those),
                accuracy([record.right for record in those], groups_of(those)),
                len(given),
                accuracy([record.right for record in given], groups_of(given)) if given else None,
            )
        )
    return sorted(scores, key=lambda each: each.recall.value)


def against(evidence: Mapping[str, Sequence[Record]]) -> list[Against]:
    """The served model against every other candidate, on the examples that both answered."""
    made = [
        (candidate, split, found)
        for candidate, records in evidence.items()
        if candidate != SERVED
        for split, found in paired_records(evidence[SERVED], records).items()
    ]
    corrected = holm([found.p_value for _, _, found in made])
    return [Against(*each, p_value) for each, p_value in zip(made, corrected, strict=True)]
