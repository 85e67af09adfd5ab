"""The verdict: what to do, in one sentence a manager can read, with the figures it rests on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tunewright.assess.upkeep import unpriced
from tunewright.evaluate.cascade import (
    MIN_ACCEPTED,
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
    points,
    sureness,
    threshold_reason,
    usd,
)
from tunewright.evaluate.statistics import Interval
from tunewright.evaluate.targets import Target, api_targets, goal_targets, is_fast
from tunewright.spec import Spec
from tunewright.tasks import task_of

Decision = Literal["switch", "cascade", "keep-api", "cheaper-api", "classical"]
_SAME_COST = 0.01
"""Costs a month that differ by no larger share are the same."""
_NEARLY_ALL = 0.95
"""A cascade that answers a larger share of the requests itself is a switch."""
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
    95 % interval comes within `goal.margin` of it, and its P95 keeps `goal.p95_ms`. Where the API was measured, that is
    the yardstick instead: an arm must not be inferior to it (on every split the difference, paired by example, is not
    below -`goal.margin`, up to an error of 5 %), unless `goal.accept_worse`. Too few groups prove neither. The worst
    split decides. The cheapest arm that is good enough is recommended; of two that cost the same the better one, where
    it is better by more than the margin, else the simpler. Where it costs more than the API, or does not pay for its
    engineering within `costs.horizon_months`, money decides. Where none is good enough, a cascade is tried at a
    threshold chosen on validation data. An API that has been shut down is neither kept nor left the rest of a cascade;
    another one is recommended only if it outlasts the horizon.
    """
    now = next(iter(comparison.apis.values()))
    cheapest = _cheapest(comparison.apis.values())
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
    if comparison.stale:
        reasons.append(comparison.stale)
    validation = [record for record in evidence[SERVED] if record.split == VALIDATION]
    threshold = choose_threshold(validation, spec.goal.accuracy, drawing)
    reasons.append(threshold_reason(threshold, spec))
    cascade = {
        split: apply_threshold(part, threshold) for split, part in by_test(evidence[SERVED]).items() if threshold
    }
    good = [arm for arm in (control, served) if _is_good(arm, api[arm.key], spec)]
    own = _choose([arm for arm in good if arm is control or parity_passed], spec)
    mixed = _mixed(evidence, threshold) if threshold and API in evidence else {}
    decision, cost, sentence = _conclude(
        spec, own, now, cheapest, served, threshold, cascade, parity_passed, api, mixed
    )
    sentence = " ".join([sentence, *_lifetimes(decision, now, cheapest)])
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


def _cheapest(apis: Iterable[Arm]) -> Arm | None:
    """Of those that can be recommended: the one paid for today while it runs, and others that will last."""
    now, *others = apis
    lasting = [arm for arm in others if not arm.lifetime.near]
    able = lasting if now.lifetime.ended else [now, *lasting]
    return min(able, key=lambda arm: arm.cost.usd_per_month, default=None)


def _lifetimes(decision: Decision, now: Arm, cheapest: Arm | None) -> list[str]:
    """What must be said of the APIs that a sentence speaks of, a sentence each."""
    told = [now.lifetime.summary]
    if decision == "cheaper-api" and cheapest:
        told.append(cheapest.thinking)
    return [each for each in told if each]


def _conclude(
    spec: Spec,
    own: Arm | None,
    now: Arm,
    cheapest: Arm | None,
    served: Arm,
    threshold: Threshold | None,
    cascade: dict[str, CascadeResult],
    parity_passed: bool,
    against: Mapping[str, Mapping[str, Paired]],
    whole: Mapping[str, Paired],
) -> tuple[Decision, float, str]:
    """(decision, its cost in USD a month, the sentence).

    Args:
        against: each arm against the API, as far as that was measured.
        whole: the cascade against it.
    """
    if own:
        return _own_model_is_good(spec, own, now, cheapest, against[own.key])
    paid = now.cost.usd_per_month
    coverage = min((part.coverage for part in cascade.values()), default=0.0)
    mixed = served.cost.usd_per_month + (1 - coverage) * paid
    shortfall = _shortfall(served, spec, parity_passed, now, against[served.key])
    if now.lifetime.ended:
        return _without_the_api(now, cheapest, shortfall)
    doubt = _doubt(cascade, threshold, spec, whole, now) if threshold else "is not accurate enough either"
    trusted = parity_passed and is_fast(served, spec)
    if threshold and trusted and not doubt and _pays(paid - mixed, spec):
        sentence = (
            f"Run a cascade: {shortfall}, but where it is at least {sureness(threshold.value)} sure it is right often "
            f"enough{'' if threshold.guaranteed else ' on the tests, which is no guarantee'}, so it can answer "
            f"{pct(coverage)} of the requests itself and leave the rest to {now.key}, for "
            f"{usd(mixed)} instead of {usd(paid)} a month{_budget(paid - mixed, spec)}."
        )
        return "cascade", mixed, sentence
    sentence = f"Keep {now.key} for now: {shortfall}"
    if trusted:
        sentence += f", and letting it answer only what it is sure of {doubt or 'would not save money'}"
    return "keep-api", paid, f"{sentence}."


def _without_the_api(now: Arm, cheapest: Arm | None, shortfall: str) -> tuple[Decision, float, str]:
    """The API paid for today is gone, and no arm of our own does the job."""
    if cheapest is None:
        return "keep-api", now.cost.usd_per_month, (
            f"{now.key} can't be asked any more, and the price book has no API that will last: {shortfall}."
        )  # fmt: skip
    cost = cheapest.cost.usd_per_month
    return "cheaper-api", cost, (
        f"Measure {cheapest.key} in the place of {now.key}: at this volume it costs {usd(cost)} a month, "
        f"and {shortfall}."
    )  # fmt: skip


def _shortfall(served: Arm, spec: Spec, parity_passed: bool, now: Arm, against: Mapping[str, Paired]) -> str:
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
    if _is_compared(against, spec) and (behind := _behind(against, spec)):
        return (
            f"on {behind[0]} the tuned model is {_gap(behind[1])} points against {now.key}, which is not shown to "
            f"be within the {100 * goal.margin:g} that it may be worse"
        )
    return (
        f"the tuned model {claim(pct(worst.value))} of the hardest test split, but with so few test examples it "
        f"could be as little as {pct(worst.low)}"
    )


def _own_model_is_good(spec: Spec, own: Arm, now: Arm, cheapest: Arm | None,
                       against: Mapping[str, Paired]) -> tuple[Decision, float, str]:  # fmt: skip
    """An arm of our own is good enough: now money decides."""
    paid, cost = now.cost.usd_per_month, own.cost.usd_per_month
    if _pays(paid - cost, spec) or cheapest is None:
        simple = CONTROLS.get(own.key)
        advice = f"Use {simple}: it" if simple else "Switch: the tuned model"
        sentence = (
            f"{advice} {task_of(spec.task).claim(pct(_worst(own).value))} of the hardest test split"
            f"{_beside(own, now)} and costs {usd(cost)} a month against {usd(paid)} for {now.key}"
            f"{_budget(paid - cost, spec)}."
        )
        if behind := _behind(against, spec):  # the spec accepts that
            sentence += f" It is {_gap(behind[1])} points against {now.key} on {behind[0]}, which you accept."
        return "classical" if simple else "switch", cost, sentence
    if cheapest is not now:
        cheap = cheapest.cost.usd_per_month
        sentence = (
            f"Try {cheapest.key} first: at this volume it costs {usd(cheap)} a month, a machine of your own "
            f"{usd(cost)} and {now.key} {usd(paid)}; measure its accuracy before you move."
        )
        return "cheaper-api", cheap, sentence
    sentence = f"Keep {now.key}: at this volume it costs {usd(paid)} a month, a machine of your own {usd(cost)}"
    if cost < paid:
        sentence += (
            f", which does not pay for {usd(spec.costs.engineering_usd)} of engineering within "
            f"{spec.costs.horizon_months} months"
        )
    return "keep-api", paid, f"{sentence}."


def _pays(saving: float, spec: Spec) -> bool:
    """Whether so many USD a month pay for the engineering in time."""
    return saving > 0 and saving * spec.costs.horizon_months >= spec.costs.engineering_usd


def _budget(saving: float, spec: Spec) -> str:
    """What people's work may cost, as far as the spec does not say what it costs."""
    costs, work = spec.costs, " and ".join(unpriced(spec))
    left = saving * costs.horizon_months - costs.engineering_usd
    if not work or left <= 0:
        return ""
    beside = " beside its engineering" if costs.engineering_usd else ""
    return f", which{beside} pays for up to {usd(left)} of {work} within {costs.horizon_months} months"


def _beside(own: Arm, now: Arm) -> str:
    """What the API reaches on the split where an arm does worst."""
    split = min(own.scores, key=lambda name: own.scores[name].headline.value)
    return f" ({now.key}: {pct(now.scores[split].headline.value)})" if split in now.scores else ""


def _is_good(arm: Arm, against: Mapping[str, Paired], spec: Spec) -> bool:
    """Whether an arm is as good as the API, or, where that was not measured, meets the goal."""
    if _is_compared(against, spec):
        return is_fast(arm, spec) and not _behind(against, spec)
    return _meets(arm, spec)


def _is_compared(against: Mapping[str, Paired], spec: Spec) -> bool:
    """Whether the API is the yardstick, rather than the goal."""
    return bool(against) and not spec.goal.accept_worse


def _behind(against: Mapping[str, Paired], spec: Spec) -> tuple[str, Paired] | None:
    """The split, of those on which an arm is not shown to be as good as the API, on which it is furthest behind."""
    missed = [(split, pair) for split, pair in against.items() if not pair.not_inferior(spec.goal.margin)]
    return min(missed, key=lambda each: each[1].difference.value, default=None)


def _gap(pair: Paired) -> str:
    """A difference in points, with its interval."""
    gap = pair.difference
    return f"{points(gap.value)} ({points(gap.low)} to {points(gap.high)})"


def _choose(good: Sequence[Arm], spec: Spec) -> Arm | None:
    """The cheapest; of two that cost the same the better one beyond the margin, else the simpler, which comes first."""
    if not good:
        return None
    cheapest = min(arm.cost.usd_per_month for arm in good)
    equal = [arm for arm in good if arm.cost.usd_per_month <= cheapest * (1 + _SAME_COST)]
    best = max(equal, key=lambda arm: _worst(arm).value)
    return best if _worst(best).value > _worst(equal[0]).value + spec.goal.margin else equal[0]


def _worst(arm: Arm) -> Interval:
    return min((score.headline for score in arm.scores.values()), key=lambda interval: interval.value)


def _meets(arm: Arm, spec: Spec) -> bool:
    return all(target.met for target in goal_targets(arm, task_of(spec.task).headline, spec))


def _curve(evidence: dict[str, list[Record]], served: Arm, now: Arm) -> dict[str, list[CascadePoint]]:
    own, paid = served.cost.usd_per_month, now.cost.usd_per_month
    parts = by_test(evidence[SERVED])
    return {split: cascade_curve(part, evidence.get(API, ()), own, paid) for split, part in parts.items()}


def _doubt(cascade: Mapping[str, CascadeResult], threshold: Threshold, spec: Spec, whole: Mapping[str, Paired],
           now: Arm) -> str:  # fmt: skip
    """Why a cascade is not to be trusted at a threshold, as it goes on behind "letting it answer what it is sure of";
    nothing where it is. The threshold must keep its promise on every test split, which it was not chosen on."""
    goal = spec.goal
    for split, part in cascade.items():
        if part.accepted < MIN_ACCEPTED:
            return f"is tested by {part.accepted} answers on {split} only, and {MIN_ACCEPTED} are the least"
        inside = part.headline
        if inside is None or inside.value < goal.accuracy:
            return "is not accurate enough either"
        proven = threshold.guaranteed and not threshold.grouped  # for requests
        if inside.doubt and not proven:
            return f"is not shown to be accurate enough: on {split} there are {inside.doubt}"
        if inside.low < goal.accuracy - goal.margin and not proven:
            return f"is not shown to be accurate enough (on {split} {pct(inside.value)}, it could be {pct(inside.low)})"
    if (least := min(part.coverage for part in cascade.values())) > _NEARLY_ALL:
        return f"would leave it {pct(least)} of the requests, which is a switch and must pass as one"
    if not goal.accept_worse and (behind := _behind(whole, spec)):
        return f"gives up {_gap(behind[1])} points on {behind[0]} against {now.key} alone"
    return ""


def _mixed(evidence: Mapping[str, Sequence[Record]], threshold: Threshold) -> dict[str, Paired]:
    """The whole cascade against the API alone, by test split, on the examples that both answered."""
    paid = {record.id: record for record in evidence[API]}
    both = [
        record if threshold.accepts(record) else paid[record.id] for record in evidence[SERVED] if record.id in paid
    ]
    return paired_records(both, evidence[API])
