"""The verdict: what to do, in one sentence a manager can read, with the figures it rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from tunewright.evaluate.cascade import (
    ONE_BY_ONE,
    CascadePoint,
    CascadeResult,
    Drawing,
    Threshold,
    apply_threshold,
    cascade_curve,
    choose_threshold,
)
from tunewright.evaluate.comparison import API, CONTROLS, SERVED, Arm, Comparison
from tunewright.evaluate.evidence import VALIDATION, Record, by_test
from tunewright.evaluate.pairs import Paired, paired_records
from tunewright.evaluate.reasons import (
    api_reasons,
    doubt_reasons,
    goal_reason,
    money_reason,
    pct,
    sureness,
    threshold_reason,
    usd,
)
from tunewright.evaluate.statistics import Interval
from tunewright.evaluate.targets import Target, api_targets, goal_targets, is_fast
from tunewright.spec import Spec
from tunewright.tasks import task_of

Decision = Literal["switch", "cascade", "keep-api", "cheaper-api", "classical"]
SERVES: tuple[Decision, ...] = ("switch", "cascade")
"""Those by which the tuned model is to serve."""


@dataclass(frozen=True)
class Verdict:
    decision: Decision
    sentence: str
    reasons: list[str]
    """What was checked and how it came out, a sentence each."""
    usd_per_month: float
    """Cost of what the verdict recommends."""
    usd_per_month_now: float
    """Cost of the API paid for today."""
    break_even_requests: float | None
    """Requests a month from which on the served model costs less than the API; None: at no volume."""
    p95_ms: float
    """95th percentile of the served model's latency, in milliseconds."""
    good_enough: str | None = None
    """The arm of one's own that meets the goal, or is as good as the API, whatever it costs; None where none is."""
    threshold: Threshold | None = None
    """From which the small model answers by itself, chosen on validation data."""
    cascade: dict[str, CascadeResult] = field(default_factory=dict)
    """By test split: coverage and accuracy at that threshold."""
    curve: dict[str, list[CascadePoint]] = field(default_factory=dict)
    """By test split: accuracy and cost of the cascade at other thresholds; to look at, nothing is chosen on it."""
    against_control: dict[str, Paired] = field(default_factory=dict)
    """By test split: the served model against the best control arm on the same examples."""
    against_api: dict[str, Paired] = field(default_factory=dict)
    """By test split: the served model against the API paid for today, on the examples that it answered."""
    targets: list[Target] = field(default_factory=list)
    """What the spec asks of the served model, and how it came out."""


def decide(spec: Spec, comparison: Comparison, evidence: dict[str, list[Record]], *, parity_passed: bool,
           drawing: Drawing = ONE_BY_ONE) -> Verdict:  # fmt: skip
    """Choose among the five decisions.

    An arm meets the goal where, on every test split, its accuracy reaches `goal.accuracy` and the lower end of its
    95 % interval comes within `goal.margin` of it, and its P95 keeps `goal.p95_ms`. Where the API was measured, an arm
    that is not inferior to it (on every split the difference, paired by example, is not below -`goal.margin`, up to an
    error of 5 %) is as good as what there is today, and so good enough too. Too few groups prove neither. The worst
    split decides. Where the best control arm is good enough nothing larger is recommended; where an arm of our own is
    but costs more than the API, money decides; where none is, a cascade is tried at a threshold chosen on validation
    data.
    """
    now = next(iter(comparison.apis.values()))
    cheapest = min(comparison.apis.values(), key=lambda arm: arm.cost.usd_per_month)
    served, control = comparison.arms[SERVED], comparison.control
    api = {
        arm.key: paired_records(evidence[arm.key], evidence[API]) if API in evidence else {}
        for arm in (served, control)
    }
    reasons = [goal_reason(arm, spec, met=_meets(arm, spec)) for arm in (served, control)]
    reasons += doubt_reasons(served, comparison.headline)
    if not parity_passed:
        reasons.append("The served bundle does not answer like the trained adapter: the parity gate failed.")
    reasons += api_reasons(now, api[SERVED], spec)
    reasons.append(money_reason(comparison, spec))
    validation = [record for record in evidence[SERVED] if record.split == VALIDATION]
    threshold = choose_threshold(validation, spec.goal.accuracy, drawing)
    reasons.append(threshold_reason(threshold, spec))
    cascade = {
        split: apply_threshold(part, threshold) for split, part in by_test(evidence[SERVED]).items() if threshold
    }
    good = (arm for arm in (control, served) if _meets(arm, spec) or _is_as_good(arm, api[arm.key], spec))
    own = next((arm for arm in good if arm is control or parity_passed), None)
    decision, cost, sentence = _conclude(spec, own, now, cheapest, served, threshold, cascade, parity_passed)
    return Verdict(
        decision, sentence, reasons, cost, now.cost.usd_per_month,
        break_even_requests=comparison.money.break_even_requests,
        p95_ms=served.latency.p95_ms if served.latency else 0.0,
        good_enough=own.key if own else None, threshold=threshold, cascade=cascade, curve=_curve(evidence, served, now),
        against_control=paired_records(evidence[SERVED], evidence[control.key]),
        against_api=api[SERVED],
        targets=[
            *goal_targets(served, comparison.headline, spec), *api_targets(api[SERVED], spec),
            Target("parity", parity_passed, f"the served bundle {'keeps' if parity_passed else 'breaks'} its gates"),
        ],
    )  # fmt: skip


def _conclude(
    spec: Spec,
    own: Arm | None,
    now: Arm,
    cheapest: Arm,
    served: Arm,
    threshold: Threshold | None,
    cascade: dict[str, CascadeResult],
    parity_passed: bool,
) -> tuple[Decision, float, str]:
    """(decision, its cost in USD a month, the sentence)."""
    if own:
        return _own_model_is_good(spec, own, now, cheapest)
    paid = now.cost.usd_per_month
    coverage = min((part.coverage for part in cascade.values()), default=0.0)
    mixed = served.cost.usd_per_month + (1 - coverage) * paid
    trusted = parity_passed and is_fast(served, spec) and _holds(cascade, spec)
    shortfall = _shortfall(served, spec, parity_passed)
    if threshold and trusted and mixed < paid:
        sentence = (
            f"Run a cascade: {shortfall}, but where it is at least {sureness(threshold.value)} sure it is right often "
            f"enough, so it can answer {pct(coverage)} of the requests itself and leave the rest to {now.key}, for "
            f"{usd(mixed)} instead of {usd(paid)} a month."
        )
        return "cascade", mixed, sentence
    sentence = f"Keep {now.key} for now: {shortfall}"
    if parity_passed and is_fast(served, spec):
        why = "would not save money" if threshold and trusted else "is not accurate enough either"
        sentence += f", and letting it answer only what it is sure of {why}"
    return "keep-api", paid, f"{sentence}."


def _shortfall(served: Arm, spec: Spec, parity_passed: bool) -> str:
    """Why the served model is not simply switched to."""
    goal, worst, claim = spec.goal, _worst(served), task_of(spec.task).claim
    if worst.value < goal.accuracy:
        return (
            f"on the hardest test split the tuned model {claim(pct(worst.value))}, short of the "
            f"{pct(goal.accuracy)} you need"
        )
    if not parity_passed:
        return "what would be served does not answer like what was trained"
    if not is_fast(served, spec) and served.latency:
        return f"the tuned model's P95 of {served.latency.p95_ms:.0f} ms is over the {goal.p95_ms:.0f} ms you allow"
    if doubt := next((score.headline.doubt for score in served.scores.values() if score.headline.doubt), ""):
        return (
            f"the tuned model {claim(pct(worst.value))} of the hardest test split, but there are {doubt}: collect test "
            "examples from more groups"
        )
    return (
        f"the tuned model {claim(pct(worst.value))} of the hardest test split, but with so few test examples it "
        f"could be as little as {pct(worst.low)}"
    )


def _own_model_is_good(spec: Spec, own: Arm, now: Arm, cheapest: Arm) -> tuple[Decision, float, str]:
    """An arm of our own meets the goal: now money decides."""
    paid, cost, cheap = now.cost.usd_per_month, own.cost.usd_per_month, cheapest.cost.usd_per_month
    if cost < paid:
        simple = CONTROLS.get(own.key)
        advice = f"Use {simple}: it" if simple else "Switch: the tuned model"
        sentence = (
            f"{advice} {task_of(spec.task).claim(pct(_worst(own).value))} of the hardest test split"
            f"{_beside(own, now)} and costs {usd(cost)} a month against {usd(paid)} for {now.key}."
        )
        return "classical" if simple else "switch", cost, sentence
    if cheapest is not now:
        sentence = (
            f"Try {cheapest.key} first: at this volume it costs {usd(cheap)} a month, a machine of your own "
            f"{usd(cost)} and {now.key} {usd(paid)}; measure its accuracy before you move."
        )
        return "cheaper-api", cheap, sentence
    sentence = f"Keep {now.key}: at this volume it costs {usd(paid)} a month, a machine of your own {usd(cost)}."
    return "keep-api", paid, sentence


def _beside(own: Arm, now: Arm) -> str:
    """What the API reaches on the split where an arm does worst."""
    split = min(own.scores, key=lambda name: own.scores[name].headline.value)
    return f" ({now.key}: {pct(now.scores[split].headline.value)})" if split in now.scores else ""


def _is_as_good(arm: Arm, against: dict[str, Paired], spec: Spec) -> bool:
    """Whether an arm is fast enough and on no split inferior to the API, as far as that was measured."""
    as_good = bool(against) and all(target.met for target in api_targets(against, spec))
    return as_good and is_fast(arm, spec)


def _worst(arm: Arm) -> Interval:
    return min((score.headline for score in arm.scores.values()), key=lambda interval: interval.value)


def _meets(arm: Arm, spec: Spec) -> bool:
    return all(target.met for target in goal_targets(arm, task_of(spec.task).headline, spec))


def _curve(evidence: dict[str, list[Record]], served: Arm, now: Arm) -> dict[str, list[CascadePoint]]:
    own, paid = served.cost.usd_per_month, now.cost.usd_per_month
    parts = by_test(evidence[SERVED])
    return {split: cascade_curve(part, evidence.get(API, ()), own, paid) for split, part in parts.items()}


def _holds(cascade: dict[str, CascadeResult], spec: Spec) -> bool:
    """The threshold keeps its promise on every test split, which it was not chosen on."""
    inside = [part.headline for part in cascade.values()]
    return bool(inside) and all(each is not None and each.value >= spec.goal.accuracy for each in inside)
