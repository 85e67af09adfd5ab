"""Made-up evidence: candidates with a chosen accuracy, confidence and latency."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

import time_machine

from tests.conftest import LABELS, make_spec
from tunewright.config import Spec
from tunewright.economics import price_book
from tunewright.economics.mean_usage import MeanUsage
from tunewright.evaluation.candidates.cascade import ONE_BY_ONE, Drawing
from tunewright.evaluation.evidence import VALIDATION, Latency, Record
from tunewright.evaluation.verdict.comparison import Comparison, compare
from tunewright.evaluation.verdict.decision import Verdict, decide

PER_SPLIT = 100
DAY = date(2026, 11, 27)


def candidate(
    share: float,
    *,
    sure: float = 0.0,
    ms: float = 20.0,
    splits: tuple[str, ...] = (VALIDATION, "test"),
    per_split: int = PER_SPLIT,
) -> list[Record]:
    """Records, the first `share` of them right; the first `sure` of them at a confidence of 0.99, the rest at 0.5."""
    made = []
    for split in splits:
        for n in range(per_split):
            certain, gold = n < sure * per_split, LABELS[n % 3]
            answer = gold if n < share * per_split else LABELS[(n + 1) % 3]
            made.append(Record(f"{split}-{n}", split, gold, answer, 0.99 if certain else 0.5, ms, 480, 20))
    return made


def evidence_of(served: list[Record], svm: list[Record]) -> dict[str, list[Record]]:
    return {"svm": svm, "adapter": served, "served": served}


def compared(
    spec: Spec,
    evidence: dict[str, list[Record]],
    *,
    day: date = DAY,
    counted: Mapping[str, MeanUsage] | None = None,
    logged: MeanUsage | None = None,
    logged_latency: Latency | None = None,
) -> Comparison:
    """As of the day on which the built-in prices were read, or of another."""
    with time_machine.travel(datetime.combine(day, time(12), UTC)):
        prices = price_book(spec.price_file)
        return compare(spec, evidence, prices, counted, logged=logged, logged_latency=logged_latency)


def verdict(
    served: list[Record],
    svm: list[Record],
    *,
    parity_passed: bool = True,
    api_answers: list[Record] | None = None,
    drawing: Drawing = ONE_BY_ONE,
    day: date = DAY,
    others: dict[str, list[Record]] | None = None,
    market: bool = False,
    **spec: Any,
) -> Verdict:
    """What is decided.

    Args:
        api_answers: of the API paid for today.
        others: answers of others of the spec's APIs, by name.
        market: whether the price book's APIs come into question too, where the spec has no list.
    """
    changes = {"traffic": {"requests_per_month": 10_000_000}, **spec}
    if not market and "apis" not in spec:
        changes["apis"] = [changes.pop("api", {})]
    made, evidence = make_spec(**changes), evidence_of(served, svm)
    if api_answers:
        evidence["api"] = api_answers
    evidence |= {f"api {name}": records for name, records in (others or {}).items()}
    return decide(made, compared(made, evidence, day=day), evidence, parity_passed=parity_passed, drawing=drawing)
