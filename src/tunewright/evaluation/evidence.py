"""Evidence: every predictor's answers on the same examples, with confidence, latency and tokens, one file each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tunewright.core.artifacts import read_jsonl, write_jsonl
from tunewright.core.progress import track
from tunewright.data.readers.forms import LOGGED
from tunewright.evaluation.statistics.intervals import Interval, macro_f1, macro_of, ratio
from tunewright.inference.predictors.base import Answer, Predictor
from tunewright.inference.predictors.encoder import EncoderPredictor
from tunewright.inference.predictors.prompted import LanguageModel, PromptBatcher
from tunewright.logs.values import mapping, number
from tunewright.tasks import Example, Task
from tunewright.tasks.measures import LABEL, SINGLE, Ratio

VALIDATION = "validation"
"""The split for choosing thresholds; it is never reported as a result."""
LEAST_ANSWERED = 0.9
"""The share of a test split that an API must have answered, because the other examples may be the hard ones."""


@dataclass(frozen=True)
class Record:
    """One answer. `latency_ms` is the time of this request alone on the machine; 0 where it was not alone."""

    id: str
    split: str
    gold: str
    answer: str
    confidence: float | None
    latency_ms: float
    prompt_tokens: int
    answer_tokens: int
    group: str | None = None
    measures: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """Part and whole of each measure, the primary metric first; empty where the only measure is right or wrong."""
    fields: Mapping[str, float] = field(default_factory=dict)
    """The predictor's confidence in single fields."""
    uncalibrated: float | None = None
    """A language model's confidence before calibration, where it is known."""
    weight: float = 1.0
    """How many examples it counts as in every figure."""
    cut: bool = False
    """Whether its token limit cut an API's reply. It counts as wrong, and no other predictor is compared with it."""

    @property
    def right(self) -> bool:
        return self.answer == self.gold

    @property
    def primary_metric(self) -> Ratio:
        if self.measures:
            return self.measure(next(iter(self.measures)))
        return Ratio(self.right * self.weight, self.weight)

    @property
    def score(self) -> float:
        """The primary metric of this answer alone, 0 to 1."""
        return self.primary_metric.score

    def measure(self, name: str) -> Ratio:
        """Part and whole of a measure; 0 of 0 where the example has no such measure."""
        part, whole = self.measures.get(name, (0, 0))
        return Ratio(part * self.weight, whole * self.weight)


_TIMED = 20
"""Requests that are timed one at a time, where the rest are asked together."""
_PATIENCE = 60.0
"""Seconds after which no more requests are timed one at a time."""
_TOGETHER = 64
"""Requests asked together."""


def collect(
    name: str,
    predictor: Predictor,
    task: Task,
    splits: Mapping[str, Sequence[Example]],
    folder: Path,
    together: PromptBatcher | EncoderPredictor | None = None,
) -> list[Record]:
    """Ask a predictor about every example, unless its answers are already on disk.

    Args:
        together: the predictor's model, where it can answer many requests at once. Some requests are then asked alone
            and timed; the others have no latency. Without it every request is asked alone.
    """
    file = folder / f"{name}.jsonl"
    if file.exists():
        return load_records(file)
    pending = [(split, example) for split, examples in splits.items() for example in examples]
    # The first request pays for warm-up (and for the cached prompt); a server pays that once, before it is ready.
    predictor.answer(pending[0][1].request)
    records: list[Record] = []
    began = time.perf_counter()
    with track(name, len(pending), "answers") as tracker:
        for split, example in pending:
            started = time.perf_counter()
            if together and (len(records) >= _TIMED or started - began > _PATIENCE):
                break
            answer = predictor.answer(example.request)
            elapsed = (time.perf_counter() - started) * 1000
            records.append(record_of(split, example, answer, elapsed, task))
            tracker.update(len(records))
        while together and (batch := pending[len(records) : len(records) + _TOGETHER]):
            requests = [example.request for _, example in batch]
            if isinstance(predictor, EncoderPredictor):
                answered = predictor.answers(requests)
            else:
                assert isinstance(predictor, LanguageModel)
                assert not isinstance(together, EncoderPredictor)
                answered = predictor.answers(requests, together)
            records += [record_of(*one, answer, 0.0, task) for one, answer in zip(batch, answered, strict=True)]
            tracker.update(len(records))
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(file, (asdict(record) for record in records))
    return records


def record_of(split: str, example: Example, answer: Answer, latency_ms: float, task: Task) -> Record:
    """The record of an answer to an example."""
    return Record(
        example.meta.id,
        split,
        example.answer,
        answer.text,
        answer.confidence,
        round(latency_ms, 3),
        answer.prompt_tokens,
        answer.answer_tokens,
        example.meta.group,
        task.measures(example.request, example.answer, answer.text),
        answer.fields,
        answer.uncalibrated,
        example.importance,
    )


def load_records(file: Path) -> list[Record]:
    return [Record(**row) for row in read_jsonl(file)]


@dataclass(frozen=True)
class Score:
    """One predictor on one split."""

    count: int
    primary_metric: Interval
    others: dict[str, Interval]
    """Further measures by name, the most telling first."""
    fields: dict[str, Interval] = field(default_factory=dict)
    """F1 of each field of a JSON record, or of each label where an example has several."""


@dataclass(frozen=True)
class Latency:
    """Latency of requests that were asked alone, in milliseconds, each by its weight."""

    p50_ms: float
    p95_ms: float
    mean_ms: float
    p95_at_most_ms: float
    """Upper end of the P95's one-sided 95 % interval; with fewer than `_BOUNDED` effective requests, the longest time
    of all."""
    count: int
    """Requests that were timed."""
    effective: int
    """Requests of one weight that would say as much (Kish's effective number); `count` where all weights are equal."""
    start_ms: float = 0.0
    """Start of a machine that had scaled to zero, where more than one answer in twenty waits for it."""

    @property
    def worst_p95_ms(self) -> float:
        """The upper end of the P95, with the start of the machine."""
        return self.start_ms + self.p95_at_most_ms

    @property
    def bounded(self) -> bool:
        """Whether there are enough requests to bound the P95."""
        return self.effective >= _BOUNDED


def score(records: Sequence[Record], seed: int) -> Score:
    groups = groups_of(records)
    primary_metric = ratio([record.primary_metric for record in records], groups)
    names = list(dict.fromkeys(name for record in records for name in record.measures))
    if len(names) < 2:
        gold, answers = [record.gold for record in records], [record.answer for record in records]
        macro = macro_f1(gold, answers, groups, seed, [record.weight for record in records])
        return Score(len(records), primary_metric, {"macro-F1": macro})
    measured = {name: ratio([record.measure(name) for record in records], groups) for name in names[1:]}
    fields = {name.split(" ", 1)[1]: value for name, value in measured.items() if name.startswith(SINGLE)}
    others = {name: value for name, value in measured.items() if not name.startswith(SINGLE)}
    if labels := [name for name in names if name.startswith(LABEL)]:
        single = [[record.measure(name) for name in labels] for record in records]
        others = {"macro-F1": macro_of(single, groups, seed)} | others
    return Score(len(records), primary_metric, others, fields)


@dataclass(frozen=True)
class CutReplies:
    """An API's replies on one test split, of which so many were cut that the others prove nothing."""

    cut: int
    count: int
    """Replies in all."""


def cut_short(records: Sequence[Record]) -> dict[str, CutReplies]:
    """The test splits on which fewer than `LEAST_ANSWERED` of a predictor's replies are whole."""
    short = {}
    for split, part in by_test(records).items():
        cut = sum(record.cut for record in part)
        if len(part) - cut < LEAST_ANSWERED * len(part):
            short[split] = CutReplies(cut, len(part))
    return short


def by_test(records: Sequence[Record]) -> dict[str, list[Record]]:
    """The records of each test split, without those of the validation part."""
    parts: dict[str, list[Record]] = {}
    for record in records:
        if record.split != VALIDATION:
            parts.setdefault(record.split, []).append(record)
    return parts


def groups_of(records: Sequence[Record]) -> list[str] | None:
    """The group of each record; None where no record has one. A record without a group is a group of its own."""
    if all(record.group is None for record in records):
        return None
    return [record.group or f"alone {record.id}" for record in records]


_BOUNDED = 59
"""With this many requests the longest is above the 95th percentile with a chance of 95 %: 0.95^59 < 0.05."""


def latency(records: Sequence[Record]) -> Latency:
    """The latency of the records that were timed."""
    return _latency([(record.latency_ms, record.weight) for record in records if record.latency_ms])


def logged_latency(rows: Iterable[Example]) -> Latency | None:
    """How long an API took for the calls in a log; None: the rows have no times. A call that the log counts as nothing
    is left out."""
    calls = ((row.importance, mapping(row.meta.extra.get(LOGGED))) for row in rows if row.importance)
    timed = [
        (1000 * seconds, weight) for weight, call in calls if (seconds := number(call.get("seconds"))) and seconds > 0
    ]
    return _latency(timed) if timed else None


def _latency(timed: Sequence[tuple[float, float]]) -> Latency:
    """The bound is an order statistic and assumes no distribution of the times: the k-th of n sorted times is above the
    95th percentile with the chance that fewer than k of n are below it, which is binomial. Where weights differ, n is
    the effective number, and the time is that at the share k / n of all weights.

    Args:
        timed: the milliseconds and the weight of each request.
    """
    values, weights = np.array(sorted(timed)).T
    below = np.cumsum(weights)
    effective = int(below[-1] ** 2 / np.square(weights).sum() + 1e-6)
    by_weight: dict[str, Any] = {"weights": weights, "method": "inverted_cdf"} if np.ptp(weights) else {}
    p50, p95 = np.quantile(values, [0.5, 0.95], **by_weight)
    reached = below >= _rank_above_p95(effective) / effective * below[-1] * (1 - 1e-9)
    return Latency(
        float(p50),
        float(p95),
        float(np.average(values, weights=weights)),
        float(values[reached.argmax()]),
        len(values),
        effective,
    )


@cache
def _rank_above_p95(count: int) -> int:
    """The least k for which the k-th of `count` sorted values is above the 95th percentile with a chance of 95 %;
    `count` where there is none."""
    from scipy.stats import binom

    return min(count, 1 + int(binom.ppf(0.95, count, 0.95)))
