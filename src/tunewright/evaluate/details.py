"""What the evidence tells beyond one figure: single labels, slices, every other arm, the labels' ceiling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunewright.artifacts import read_jsonl
from tunewright.data import load_dataset
from tunewright.data.examine import EXAMPLES
from tunewright.evaluate.ceiling import ceiling
from tunewright.evaluate.comparison import SERVED
from tunewright.evaluate.evidence import VALIDATION, Record, groups_of
from tunewright.evaluate.pairs import Paired, holm, paired
from tunewright.evaluate.slices import slices
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


def details(spec: Spec, inputs: Mapping[str, Path], evidence: Mapping[str, Sequence[Record]]) -> dict[str, Any]:
    """As plain values.

    Args:
        inputs: the folders of the steps check and split.
    """
    served = [record for record in evidence[SERVED] if record.split != VALIDATION]
    task = task_of(spec.task)
    tests = load_dataset(inputs["split"]).test
    examples = {example.meta.id: example for part in tests.values() for example in part}
    labels: dict[str, list[dict[str, Any]]] = {}
    found = None
    if task.answers:
        for split in dict.fromkeys(record.split for record in served):
            part = [record for record in served if record.split == split]
            labels[split] = [asdict(each) for each in label_scores(part, spec.seed)]
        files = sorted((inputs["check"] / EXAMPLES).glob("*.jsonl"))
        rows = (Example.model_validate(row) for file in files for row in read_jsonl(file))
        found = ceiling(rows, len(task.answers), spec.seed)
    return {
        "labels": labels,
        "slices": [asdict(each) | {"falls_short": each.falls_short} for each in slices(served, examples, spec.seed)],
        "against": [asdict(each) for each in against(evidence, spec.seed)],
        "ceiling": asdict(found) if found else None,
    }


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
