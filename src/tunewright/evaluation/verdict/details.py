"""Details beyond one figure: single labels, slices, comparisons with every other candidate, and the labels' ceiling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import read_jsonl
from tunewright.data.examine import EXAMPLES
from tunewright.evaluation.evidence import Record, by_test, groups_of
from tunewright.evaluation.statistics.ceiling import UNSEEN, Ceiling, label_ceiling
from tunewright.evaluation.statistics.intervals import Interval, ratio
from tunewright.evaluation.statistics.pairs import Paired, holm, paired_records
from tunewright.evaluation.statistics.slices import Slice, find_slices
from tunewright.evaluation.verdict.comparison import EXPORTED, SERVED
from tunewright.evaluation.verdict.truth import Truth, truths
from tunewright.inference.calibration import Bin, bins, calibration_noise, expected_calibration_error
from tunewright.tasks import Example, task_of


@dataclass(frozen=True)
class LabelScore:
    """One label on one split."""

    label: str
    count: int
    """Examples that have this label."""
    recall: Interval
    """Share of these examples that the model gave the label."""
    given: int
    """Answers with this label."""
    precision: Interval | None
    """Share of these answers that are right; None where there are none."""


@dataclass(frozen=True)
class Against:
    """The served model and another predictor on one split."""

    candidate: str
    split: str
    paired: Paired
    p_value: float
    """p-value of the sign test, corrected for the number of such comparisons (Holm)."""


@dataclass(frozen=True)
class CalibrationChange:
    """ECE before and after calibration, on the same answers, because fewer answers show more of it by chance."""

    count: int
    """The answers whose confidence before calibration is known."""
    before: float
    """Of the same weights without the server."""
    after: float
    noise: float
    """As in `Reliability`, for these answers."""


@dataclass(frozen=True)
class Reliability:
    """How well confidence matches the answers' scores: expected calibration error (ECE), and its bins."""

    after: float
    noise: float
    """ECE that this many answers would show by chance if confidence were exactly right."""
    bins: list[Bin]
    change: CalibrationChange | None
    """None where confidence before calibration is not known."""


@dataclass(frozen=True)
class Details:
    labels: dict[str, list[LabelScore]]
    """A classifier's labels on each test split."""
    slices: list[Slice]
    against: list[Against]
    ceiling: Ceiling | None
    reliability: dict[str, Reliability]
    """By test split: how far the served model's confidence can be trusted."""
    truths: list[Truth]
    """The test splits of which an API gave answers that count as right."""

    def reasons(self, primary_metric: str) -> list[str]:
        """The details that belong beside the verdict, a sentence each."""
        sentences = [each.reason for each in self.truths]
        sentences += [
            f"On {part.split}, {primary_metric} is lower where {part.by} is {part.name}: "
            f"{part.primary_metric.value:.1%} of {part.count:,} examples against {part.rest:.1%} of the rest."
            for part in self.slices
            if part.falls_short
        ]
        if self.ceiling and self.ceiling.accuracy.high < 1:
            limit = self.ceiling.accuracy
            sentences.append(
                f"Going by {self.ceiling.texts:,} texts that were labelled more than once, a system that is always "
                f"right would agree with {limit.value:.1%} ({limit.low:.1%} to {limit.high:.1%}) of these labels. "
                f"{UNSEEN}"
            )
        return sentences


def gather_details(
    spec: Spec, check: Path, examples: Mapping[str, Example], evidence: Mapping[str, Sequence[Record]]
) -> Details:
    """Work out the details of the served model's answers, and compare them with the other candidates'.

    Args:
        check: the folder of the step `check`.
        examples: the test examples by id.
    """
    served, task = by_test(evidence[SERVED]), task_of(spec.task)
    labels: dict[str, list[LabelScore]] = {}
    limit = None
    if task.answers:
        labels = {split: label_scores(part) for split, part in served.items()}
        files = sorted((check / EXAMPLES).glob("*.jsonl"))
        rows = (Example.model_validate(row) for file in files for row in read_jsonl(file))
        limit = label_ceiling(rows, len(task.answers))
    parts = find_slices(served, examples, spec.seed)
    exported = by_test(evidence.get(EXPORTED, ()))
    reliability = {split: reliability_of(part, exported.get(split, [])) for split, part in served.items()}
    return Details(labels, parts, against(evidence), limit, reliability, truths(served, examples))


def reliability_of(served: Sequence[Record], exported: Sequence[Record]) -> Reliability:
    """The reliability of the served model's confidence on one split, before and after calibration."""
    change, (confidence, score, weights) = _change(served, exported), _confidences(served)
    after = expected_calibration_error(confidence, score, weights)
    return Reliability(after, calibration_noise(confidence, weights), bins(confidence, score, weights), change)


def _change(served: Sequence[Record], exported: Sequence[Record]) -> CalibrationChange | None:
    raw = {record.id: record for record in exported if record.uncalibrated is not None}
    both = [record for record in served if record.id in raw]
    if not both:
        return None
    before = [replace(raw[record.id], confidence=raw[record.id].uncalibrated) for record in both]
    confidence, score, weights = _confidences(both)
    return CalibrationChange(
        len(both),
        expected_calibration_error(*_confidences(before)),
        expected_calibration_error(confidence, score, weights),
        calibration_noise(confidence, weights),
    )


def _confidences(records: Sequence[Record]) -> tuple[list[float], list[float], list[float]]:
    """(the confidence in each answer, its score, its weight)."""
    confidence = [record.confidence or 0.0 for record in records]
    return confidence, [record.score for record in records], [record.weight for record in records]


def label_scores(records: Sequence[Record]) -> list[LabelScore]:
    """Each label of one split, the one with the lowest recall first."""
    scores = []
    for label in sorted({record.gold for record in records}):
        actual = [record for record in records if record.gold == label]
        given = [record for record in records if record.answer == label]
        scores.append(
            LabelScore(
                label,
                len(actual),
                _right(actual),
                len(given),
                _right(given) if given else None,
            )
        )
    return sorted(scores, key=lambda each: each.recall.value)


def _right(records: Sequence[Record]) -> Interval:
    """The share of right answers, each by its weight."""
    return ratio([record.primary_metric for record in records], groups_of(records))


def against(evidence: Mapping[str, Sequence[Record]]) -> list[Against]:
    """The served model against every other candidate, on the examples that both answered."""
    comparisons = [
        (candidate, split, pair)
        for candidate, records in evidence.items()
        if candidate != SERVED
        for split, pair in paired_records(evidence[SERVED], records).items()
    ]
    corrected = holm([pair.p_value for _, _, pair in comparisons])
    return [Against(*each, p_value) for each, p_value in zip(comparisons, corrected, strict=True)]
