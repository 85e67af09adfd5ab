"""The fit forecast: whether a job suits a small tuned model, before anybody pays for one.

For a classification, the forecast multiplies the cheap model's error, which has an interval, by the ratio of errors
that tuned models had on jobs with as many groups a label (`evidence.yaml`). This gives the expected accuracy as an
interval for a further job. Labels that contradict each other cap it. The goal against that range gives the answer. The
forecast says "don't" only where the interval leaves no chance for a switch nor for a cascade. The rule rests on few
data points, and names them: `python bench/fit.py` compares it with every job whose result is known, and counts its
errors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tunewright.core.errors import UserError
from tunewright.data.curve.learning_curve import NORMAL_90, CurveRange
from tunewright.economics.evidence import EvidenceBook, evidence_book
from tunewright.economics.facts import JobFacts, gather
from tunewright.tasks import Example

Answer = Literal["good fit", "worth a try", "poor fit", "no signal", "too little data", "classical"]

LEAST_A_LABEL = 10
"""The evidence book knows no job with fewer groups a label."""
BLUNT_TEST = 0.07
"""A test whose 95 % interval is wider than twice this decides nothing."""
SHARP_TEST = 0.03
EXTRACTION = 0.75
"""From this share of copied words on, answers count as taken from the request."""
LEAST_ROWS = 200
"""Least rows for jobs without labels. A rule of thumb; nothing was measured below."""
CASCADE = 4.0
"""A model with up to this many times the errors that the goal allows may still answer a part by itself: three of four
trainings with so many errors answer a fifth of their test or more well enough (`python bench/diagnosis.py cascades`).
"""
LONG_ANSWER = 50
"""With more words of free text, no evidence supports a small model."""


@dataclass(frozen=True)
class Reason:
    what: str
    evidence: str


@dataclass(frozen=True)
class FitForecast:
    answer: Answer
    """classical: the cheap model alone reaches the goal. no signal: the cheap model finds nothing. The book knows no
    such job; the labels may be shuffled, or depend on more than words."""
    sentence: str
    goal: float
    low: float | None
    high: float | None
    """Ends of the 90 % interval of a tuned small model's expected accuracy. None: nothing is known."""
    reasons: tuple[Reason, ...]
    changes: tuple[str, ...]
    """What would change the answer."""
    facts: JobFacts


def forecast_fit(
    examples: Sequence[Example], *, goal: float, seed: int, test_rows: int | None = None, test_share: float = 0.2
) -> FitForecast:
    """Forecast whether a small tuned model will reach the goal.

    Args:
        examples: the training examples.
        goal: accuracy that the job needs, 0 to 1.
        seed: seed of folds and subsets.
        test_rows: number of separate test rows; without it, `test_share` of the examples.

    Raises:
        UserError: there are no examples, or all have the same answer.
    """
    if len({example.answer for example in examples}) < 2:
        raise UserError("A forecast needs rows with at least two different answers.", fix="Add rows.")
    facts = gather(examples, test_rows if test_rows is not None else round(test_share * len(examples)), seed)
    return forecast_from(facts, goal, evidence_book())


def forecast_from(facts: JobFacts, goal: float, book: EvidenceBook) -> FitForecast:
    """The forecast from the facts of the job and of other jobs."""
    return _classification(facts, goal, book) if facts.curve else _other(facts, goal, book)


def _classification(facts: JobFacts, goal: float, book: EvidenceBook) -> FitForecast:
    assert facts.curve
    now = facts.curve.now
    blockers = _too_little(facts, goal)
    if now is None:
        return _forecast("too little data", goal, None, None, [*blockers, *_agreement(facts)], facts)
    low, high = expected_range(facts, book)
    reasons = [*blockers, *_cheap_model(facts, now, book), *_agreement(facts)]
    answer: Answer
    if now.low >= goal:
        answer = "classical"
    elif blockers:
        answer = "too little data"
    elif facts.no_signal:
        answer = "no signal"
    else:
        answer = "good fit" if low >= goal else "worth a try" if _leaves_room(high, goal) else "poor fit"
    return _forecast(answer, goal, low, high, reasons, facts)


def _leaves_room(high: float, goal: float) -> bool:
    """Whether a model with this accuracy could answer by itself the part that it is sure of."""
    return 1 - high <= CASCADE * (1 - goal)


def _cheap_model(facts: JobFacts, now: CurveRange, book: EvidenceBook) -> list[Reason]:
    curve, groups = facts.curve, facts.groups / facts.answers
    near, (least, most) = book.near(groups), book.error_ratio(groups).ends()
    assert curve
    return [
        Reason(
            f"a linear SVM is right on {_percent(now.value)} ({_percent(now.low)} to {_percent(now.high)}) of held-out "
            f"rows, macro-F1 {curve.macro_f1:.2f}",
            "cross-validation by whole groups on your rows",
        ),
        Reason(
            f"with {groups:,.0f} groups a label, nine tuned models of ten make {least:.2f} to {most:.2f} times the "
            "SVM's errors",
            f"{sum(map(len, near))} trainings on {len(near)} jobs with about as many, nearest: "
            + "; ".join(f"{rows[0].data} ({rows[0].source})" for rows in near[:3]),
        ),
        Reason(curve.sentence.rstrip("."), "learning curve of the SVM on your rows"),
    ]


def expected_range(facts: JobFacts, book: EvidenceBook) -> tuple[float, float]:
    """The 90 % interval of a tuned model's accuracy, from the cheap model's accuracy and the evidence.

    Labels that contradict each other are known to be wrong and cap the interval. Labels that only look wrong may be
    right, so they lower only its lower end.
    """
    assert facts.curve
    assert facts.curve.now
    svm = facts.curve.now
    # At least half an error: a model without errors might have made one.
    least, middle, most = (max(1 - end, 0.5 / facts.rows) for end in (svm.high, svm.value, svm.low))
    unsure = (math.log(most) - math.log(least)) / (2 * NORMAL_90)
    least, most = book.error_ratio(facts.groups / facts.answers).ends(unsure)
    high = min(1 - middle * least, facts.ceiling)
    # It learns at least which label is the most frequent.
    return min(max(facts.majority, 1 - middle * most), facts.likely_ceiling, high), high


def _too_little(facts: JobFacts, goal: float) -> list[Reason]:
    reasons = []
    if facts.curve and facts.curve.rows_needed:
        reasons.append(
            Reason(
                f"{facts.rows:,} rows in {facts.groups:,} groups for {facts.answers} labels, where "
                f"{facts.curve.rows_needed:,} rows are needed to judge",
                "the learning curve needs sizes that differ",
            )
        )
    if facts.median_a_label < LEAST_A_LABEL:
        reasons.append(
            Reason(
                f"half of the labels have fewer than {LEAST_A_LABEL} different "
                f"{'groups' if facts.grouped else 'texts'}",
                "no job in the evidence book had so few",
            )
        )
    if _half_width(facts.test_rows, goal) > BLUNT_TEST:
        reasons.append(
            Reason(
                f"a test of {facts.test_rows} rows shows an accuracy to "
                f"±{100 * _half_width(facts.test_rows, goal):.0f} points only",
                "95 % interval of a share (normal approximation)",
            )
        )
    return reasons


def _agreement(facts: JobFacts) -> list[Reason]:
    reasons = []
    if facts.contradicting:
        reasons.append(
            Reason(
                f"{_percent(facts.contradicting)} of the rows contradict another row of the same text, so that no "
                f"one can show more than {_percent(facts.ceiling)}",
                "equal texts with different labels (finding D006); the upper end of a 95 % interval",
            )
        )
    if facts.suspects:
        reasons.append(
            Reason(
                f"{_percent(facts.suspects)} of the labels look wrong; if half of them are, about "
                f"{_percent(facts.likely_ceiling)} is the most anyone can show",
                "confident learning (finding D014); where labels had been flipped, about half of its suspects were "
                "wrong",
            )
        )
    return reasons


def _other(facts: JobFacts, goal: float, book: EvidenceBook) -> FitForecast:
    """The forecast for a job without a fixed set of answers. It has no cheap model, and one figure from elsewhere rules
    out nothing."""
    kind = "extraction" if facts.copied >= EXTRACTION else "free text"
    (known,) = (row for row in book.other if row.kind == kind)
    reasons = [
        Reason(f"{_percent(facts.copied)} of the answers' words are in the request or in most answers", f"so: {kind}"),
        Reason(
            f"answers have {facts.answer.median:.0f} words (95 %: {facts.answer.p95:.0f}), requests "
            f"{facts.request.median:.0f} (95 %: {facts.request.p95:.0f})",
            "your rows",
        ),
        Reason(f"{known.data}: {known.figure}", known.source),
    ]
    answer: Answer = "worth a try"
    if facts.rows < LEAST_ROWS:
        answer = "too little data"
        reasons.insert(0, Reason(f"{facts.rows} rows, fewer than {LEAST_ROWS}", "a rule of thumb"))
    elif kind == "free text" and facts.answer.median > LONG_ANSWER:
        reasons.insert(0, Reason("long free answers", "no measurement that we know supports a small model there"))
    return _forecast(answer, goal, None, None, reasons, facts)


def _forecast(
    answer: Answer, goal: float, low: float | None, high: float | None, reasons: list[Reason], facts: JobFacts
) -> FitForecast:
    expected = (
        "The accuracy to expect is not known"
        if low is None or high is None
        else f"A tuned small model is expected to reach {_percent(low)} to {_percent(high)}"
    )
    heads: dict[Answer, str] = {
        "classical": f"Classical: a linear SVM already reaches the goal of {_percent(goal)}; tune nothing.",
        "too little data": "Too little data: collect more before paying for anything.",
        "good fit": f"Good fit. {expected}; the goal is {_percent(goal)}.",
        "worth a try": f"Worth a try{_as_cascade(high, goal)}. {expected}; the goal is {_percent(goal)}.",
        "no signal": "No signal: a linear SVM of the words does no better than always giving the most frequent "
        f"label ({_percent(facts.majority)}). Read ten rows: could you label them? If so, train on a part of the data.",
        "poor fit": f"Poor fit: don't. {expected}; the goal is {_percent(goal)}.",
    }
    changes = tuple(_changes(answer, goal, high, facts))
    return FitForecast(answer, heads[answer], goal, low, high, tuple(reasons), changes, facts)


def _as_cascade(high: float | None, goal: float) -> str:
    return ", as a cascade that passes on what it is not sure of" if high is not None and high < goal else ""


def _changes(answer: Answer, goal: float, high: float | None, facts: JobFacts) -> list[str]:
    changes = []
    if facts.curve and facts.curve.rows_needed:
        changes.append(f"{facts.curve.rows_needed:,} rows, new groups of them, instead of {facts.rows:,}")
    elif facts.curve and answer != "classical":
        changes += [
            f"{forecast.factor} times the data would bring the SVM alone to about {_percent(forecast.accuracy.value)}"
            for forecast in facts.curve.forecasts
            if forecast.gain.value >= 0.01
        ]
    if facts.suspects and answer not in ("classical", "good fit"):
        changes.append(f"correcting the {_percent(facts.suspects)} of labels that look wrong (finding D014)")
    if high is not None and high < goal:
        changes.append(f"a goal of {_percent(high)} or less")
    if _half_width(facts.test_rows, goal) > SHARP_TEST:
        rows = math.ceil(1.96**2 * goal * (1 - goal) / SHARP_TEST**2)
        changes.append(f"a test of {rows:,} rows, which shows an accuracy to ±{100 * SHARP_TEST:.0f} points")
    if not facts.grouped:
        changes.append(
            "naming data.group, if rows are variants of few sentences or come from few customers: all figures here are "
            "too good then"
        )
    return changes


def _half_width(rows: int, share: float) -> float:
    return 1.96 * math.sqrt(share * (1 - share) / max(rows, 1))


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
