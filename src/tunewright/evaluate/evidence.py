"""Evidence: every predictor's answers on the same examples, with confidence, latency and tokens. One file for each."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tunewright.artifacts import read_jsonl, write_jsonl
from tunewright.evaluate.predictors.base import Predictor
from tunewright.evaluate.statistics import Interval, accuracy, macro_f1
from tunewright.progress import track
from tunewright.tasks import Example

VALIDATION = "validation"
"""The split that thresholds are chosen on; it is never reported as a result."""


@dataclass(frozen=True)
class Record:
    """One answer. `latency_ms` is the time of this one request, alone on the machine."""

    id: str
    split: str
    gold: str
    answer: str
    confidence: float | None
    latency_ms: float
    prompt_tokens: int
    answer_tokens: int
    group: str | None = None

    @property
    def right(self) -> bool:
        return self.answer == self.gold


def collect(name: str, predictor: Predictor, splits: Mapping[str, Sequence[Example]], folder: Path) -> list[Record]:
    """Ask a predictor everything, one request at a time; answers already on disk are not asked again."""
    file = folder / f"{name}.jsonl"
    if file.exists():
        return load_records(file)
    todo = [(split, example) for split, examples in splits.items() for example in examples]
    # The first request pays for warm-up (and for the cached prompt); a server pays that once, before it is ready.
    predictor.answer(todo[0][1].request)
    records = []
    with track(name, len(todo), "answers") as tracker:
        for split, example in todo:
            started = time.perf_counter()
            answer = predictor.answer(example.request)
            elapsed = (time.perf_counter() - started) * 1000
            records.append(
                Record(example.meta.id, split, example.answer, answer.text, answer.confidence, round(elapsed, 3),
                       answer.prompt_tokens, answer.answer_tokens, example.meta.group)
            )  # fmt: skip
            tracker.update(len(records))
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(file, (asdict(record) for record in records))
    return records


def load_records(file: Path) -> list[Record]:
    return [Record(**row) for row in read_jsonl(file)]


@dataclass(frozen=True)
class Score:
    """One predictor on one split."""

    count: int
    accuracy: Interval
    macro_f1: Interval


@dataclass(frozen=True)
class Latency:
    p50_ms: float
    p95_ms: float
    mean_ms: float


def score(records: Sequence[Record], seed: int) -> Score:
    gold, answers = [r.gold for r in records], [r.answer for r in records]
    groups = groups_of(records)
    return Score(
        len(records), accuracy([r.right for r in records], groups, seed), macro_f1(gold, answers, groups, seed)
    )


def groups_of(records: Sequence[Record]) -> list[str] | None:
    """The group of each record, or None where the data has no groups."""
    groups = [record.group for record in records]
    return None if any(group is None for group in groups) else [str(group) for group in groups]


def latency(records: Sequence[Record]) -> Latency:
    values = np.array([record.latency_ms for record in records])
    return Latency(float(np.quantile(values, 0.5)), float(np.quantile(values, 0.95)), float(values.mean()))
