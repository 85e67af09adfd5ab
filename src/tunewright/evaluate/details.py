"""What the evidence tells beyond one figure: single labels, slices, every other arm, the labels' ceiling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tunewright.artifacts import read_jsonl
from tunewright.data import load_dataset
from tunewright.data.examine import EXAMPLES
from tunewright.evaluate.ceiling import Ceiling, ceiling
from tunewright.evaluate.comparison import SERVED
from tunewright.evaluate.evidence import VALIDATION, Record, groups_of
from tunewright.evaluate.pairs import Paired, holm, paired
from tunewright.evaluate.slices import Slice, slices
from tunewright.evaluate.statistics import Interval, accuracy
from tunewright.spec import Spec
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

    arm: str
    split: str
    pairs: int
    paired: Paired
    p_value: float
    """Of the sign test, corrected for the number of such comparisons (Holm)."""


@dataclass(frozen=True)
class Details:
    labels: dict[str, list[LabelScore]]
    """Of a classifier, its labels on each test split."""
    slices: list[Slice]
    against: list[Against]
    ceiling: Ceiling | None

    def reasons(self, headline: str) -> list[str]:
        """What of it belongs beside the verdict, a sentence each."""
        told = [
            f"On {found.split}, {headline} is lower where {found.by} is {found.name}: {found.headline.value:.1%} of "
            f"{found.count:,} examples against {found.rest:.1%} of the rest."
            for found in self.slices
            if found.falls_short
        ]
        if self.ceiling and self.ceiling.accuracy.high < 1:
            limit = self.ceiling.accuracy
            told.append(
                f"Going by {self.ceiling.texts:,} texts that were labelled more than once, a system that is always "
                f"right would agree with {limit.value:.1%} ({limit.low:.1%} to {limit.high:.1%}) of these labels."
            )
        return told


def details(spec: Spec, inputs: Mapping[str, Path], evidence: Mapping[str, Sequence[Record]]) -> Details:
    """What the served model's answers tell, and those of the others beside them.

    Args:
        inputs: the folders of the steps check and split.
    """
    served = [record for record in evidence[SERVED] if record.split != VALIDATION]
    task = task_of(spec.task)
    tests = load_dataset(inputs["split"]).test
    examples = {example.meta.id: example for part in tests.values() for example in part}
    labels: dict[str, list[LabelScore]] = {}
    limit = None
    if task.answers:
        for split in dict.fromkeys(record.split for record in served):
            labels[split] = label_scores([record for record in served if record.split == split], spec.seed)
        files = sorted((inputs["check"] / EXAMPLES).glob("*.jsonl"))
        rows = (Example.model_validate(row) for file in files for row in read_jsonl(file))
        limit = ceiling(rows, len(task.answers), spec.seed)
    return Details(labels, slices(served, examples, spec.seed), against(evidence, spec.seed), limit)


def label_scores(records: Sequence[Record], seed: int) -> list[LabelScore]:
    """Each label of one split, the one that is found least first."""
    scores = []
    for label in sorted({record.gold for record in records}):
        those = [record for record in records if record.gold == label]
        given = [record for record in records if record.answer == label]
        scores.append(LabelScore(
            label, len(those), accuracy([record.right for record in those], groups_of(those), seed), len(given),
            accuracy([record.right for record in given], groups_of(given), seed) if given else None,
        ))  # fmt: skip
    return sorted(scores, key=lambda each: each.recall.value)


def against(evidence: Mapping[str, Sequence[Record]], seed: int) -> list[Against]:
    """The served model against every other arm, on the examples that both answered."""
    made = list(_compared(evidence, seed))
    corrected = holm([found.p_value for _, _, _, found in made])
    return [
        Against(arm, split, pairs, found, p_value)
        for (arm, split, pairs, found), p_value in zip(made, corrected, strict=True)
    ]


def _compared(evidence: Mapping[str, Sequence[Record]], seed: int) -> Iterator[tuple[str, str, int, Paired]]:
    served = [record for record in evidence[SERVED] if record.split != VALIDATION]
    for arm, records in evidence.items():
        other = {record.id: record for record in records}
        if arm == SERVED:
            continue
        for split in dict.fromkeys(record.split for record in served):
            part = [record for record in served if record.split == split and record.id in other]
            if part:
                second = [other[record.id].headline for record in part]
                found = paired([record.headline for record in part], second, groups_of(part), seed)
                yield arm, split, len(part), found
