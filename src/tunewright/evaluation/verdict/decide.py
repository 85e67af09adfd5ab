"""The verdict: what to do, in one sentence a manager can read, with the figures it rests on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tunewright.config import USUAL, Spec
from tunewright.economics.upkeep import unpriced
from tunewright.evaluation.candidates.cascade import (
    ONE_BY_ONE,
    CascadePoint,
    CascadeResult,
    Drawing,
    Threshold,
    apply_threshold,
    cascade_curve,
    choose_threshold,
)
from tunewright.evaluation.evidence import VALIDATION, Record, by_test
from tunewright.evaluation.statistics.pairs import Paired, paired_records
from tunewright.evaluation.verdict.comparison import API, CONTROLS, SERVED, SVM, Candidate, Comparison, evidence_key
from tunewright.evaluation.verdict.reasons import (
    api_reasons,
    doubt_reasons,
    goal_reason,
    money_reason,
    pct,
    sureness,
    threshold_reason,
    tier_reason,
    usd,
)
from tunewright.evaluation.verdict.rules import (
    behind,
    cascade_doubt,
    cheapest,
    choose,
    costs_less,
    gap,
    is_compared,
    is_good,
    meets,
    mixed,
    pays,
    worst,
)
from tunewright.evaluation.verdict.targets import Target, api_targets, goal_targets, is_fast, speed_of
from tunewright.models.linear_model import LINEAR
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
    answers: str
    """Key of the candidate, or name of the API, that would answer; of a cascade the candidate that answers first."""
    reference: str | None
    """The cheapest API that passes: what anything else is held against, and what a cascade leaves its rest to. None:
    the one paid for today is gone, and no other was shown to do."""
    shown: Decision
    """What the evidence speaks for as it is. The decision is another one where a cheaper API is yet to be measured."""
    measure: str | None = None
    """The override that has that API measured (`apis+=…`), in a case that the decision waits for it."""
    good_enough: str | None = None
    """The candidate of one's own that meets the goal, or is as good as the API, whatever it costs; None where none
    is."""
    threshold: Threshold | None = None
    """From which the small model answers by itself, chosen on validation data."""
    cascade: dict[str, CascadeResult] = field(default_factory=dict)
    """By test split: coverage and accuracy at that threshold."""
    curve: dict[str, list[CascadePoint]] = field(default_factory=dict)
    """By test split: accuracy and cost of the cascade at other thresholds; to look at, nothing is chosen on it."""
    against_control: dict[str, Paired] = field(default_factory=dict)
    """By test split: the served model against the best baseline on the same examples."""
    against_api: dict[str, Paired] = field(default_factory=dict)
    """By test split: the served model against the API paid for today, on the examples that it answered."""
    targets: list[Target] = field(default_factory=list)
    """What the spec asks of the served model, and how it came out."""


@dataclass(frozen=True)
class _Advice:
    """What the evidence speaks for."""

    decision: Decision
    answers: Candidate
    usd_per_month: float
    sentence: str


@dataclass(frozen=True)
class _Case:
    """All that the decision hangs on."""

    spec: Spec
    now: Candidate
    """The API paid for today."""
    reference: Candidate | None
    """The cheapest API that does the job, as far as is known; None: the one paid for today is gone."""
    own: Candidate | None
    """The candidate of our own that is taken, where one is good enough."""
    served: Candidate
    parity_passed: bool
    against: Mapping[str, Mapping[str, Paired]]
    """Arms against the API paid for today, as far as that was measured."""
    threshold: Threshold | None
    cascade: Mapping[str, CascadeResult]
    name: str
    """What the served model is called."""
    whole: Mapping[str, Paired]
    """The cascade against an API alone, where that was measured."""


def decide(
    spec: Spec,
    comparison: Comparison,
    evidence: dict[str, list[Record]],
    *,
    parity_passed: bool,
    drawing: Drawing = ONE_BY_ONE,
) -> Verdict:
    """Choose among the five decisions.

    a candidate meets the goal where, on every test split, its accuracy reaches `goal.accuracy` and the lower end of its
    95 % interval comes within `goal.margin` of it, and its P95 keeps `goal.p95_ms`. Where the API paid for today was
    measured, that is the yardstick instead: a candidate must not be inferior to it (on every split the difference,
    paired by example, is not below -`goal.margin`, up to an error of 5 %), unless `goal.accept_worse`. Too few groups
    prove neither. The worst split decides. Other APIs pass by the same rule.

    The cheapest candidate of our own that is good enough is recommended; of two that cost the same the better one,
    where it is better by more than the margin, else the simpler. It must cost less than the cheapest API that passes,
    today's among them, and pay for its engineering within `costs.horizon_months`. Where none is good enough, a cascade
    is tried at a threshold chosen on validation data, its rest left to that API. An API that has been shut down is
    neither kept nor left the rest; another one is recommended only if it outlasts the horizon. Where an API that comes
    into question costs less than what comes of all this, and nobody has measured it, that is to be done first.
    """
    now, *others = comparison.apis.values()
    served, control = comparison.candidates[SERVED], comparison.control
    tiers = [candidate for candidate in others if candidate.in_question and not candidate.lifetime.near]
    measured = [candidate for candidate in tiers if candidate.scores]
    keys = {candidate.key: evidence_key(spec, candidate.key) for candidate in (now, *measured)}
    against = {
        candidate.key: paired_records(evidence[keys.get(candidate.key, candidate.key)], evidence[API])
        if API in evidence
        else {}
        for candidate in (served, control, *measured)
    }
    passing = [candidate for candidate in measured if is_good(candidate, against[candidate.key], spec)]
    reference = cheapest(passing if now.lifetime.ended else [now, *passing])
    validation = [record for record in evidence[SERVED] if record.split == VALIDATION]
    threshold = choose_threshold(validation, spec.goal.accuracy, drawing)
    cascade = {
        split: apply_threshold(part, threshold) for split, part in by_test(evidence[SERVED]).items() if threshold
    }
    simpler = [] if spec.model == LINEAR and control.key == SVM else [control]
    good = [candidate for candidate in (*simpler, served) if is_good(candidate, against[candidate.key], spec)]
    own = choose([candidate for candidate in good if candidate is control or parity_passed], spec)
    whole = {}
    if threshold and reference:
        rest = keys[reference.key]
        whole = mixed(evidence, threshold, rest, API if API in evidence else rest)
    case = _Case(spec, now, reference, own, served, parity_passed, against, threshold, cascade, comparison.own, whole)
    advice = _advice(case)
    unmeasured = cheapest([candidate for candidate in tiers if not candidate.scores])
    nothing_left = own is None and reference is None
    first = unmeasured if unmeasured and (nothing_left or costs_less(unmeasured, advice.usd_per_month)) else None
    told = _measured_first(first, advice, case) if first else advice
    reasons = [goal_reason(candidate, spec, met=meets(candidate, spec)) for candidate in (served, control)]
    reasons += doubt_reasons(served, comparison.primary_metric)
    if not parity_passed:
        reasons.append("The served bundle does not answer like the trained model: the parity gate failed.")
    reasons += api_reasons(now, against[SERVED], spec)
    reasons += [
        tier_reason(candidate, against[candidate.key], spec, passed=candidate in passing) for candidate in measured
    ]
    reasons.append(money_reason(comparison, spec))
    reasons += [each for each in (comparison.measured_on, comparison.stale) if each]
    reasons.append(threshold_reason(threshold, spec))
    sentences = [told.sentence, now.lifetime.summary, told.answers.thinking]
    return Verdict(
        told.decision,
        " ".join(filter(None, sentences)),
        reasons,
        told.usd_per_month,
        now.cost.usd_per_month,
        break_even_requests=comparison.money.break_even_requests,
        p95_ms=served.latency.p95_ms if served.latency else 0.0,
        answers=told.answers.key,
        reference=reference.key if reference else None,
        shown=advice.decision,
        measure=_override(first, spec) if first else None,
        good_enough=own.key if own else None,
        threshold=threshold,
        cascade=cascade,
        curve=_curve(evidence, served, now),
        against_control=paired_records(evidence[SERVED], evidence[control.key]),
        against_api=against[SERVED],
        targets=[
            *goal_targets(served, comparison.primary_metric, spec),
            *api_targets(against[SERVED], spec),
            Target("parity", parity_passed, f"the served bundle {'keeps' if parity_passed else 'breaks'} its gates"),
        ],
    )


def _advice(case: _Case) -> _Advice:
    """What the evidence speaks for, cheaper APIs that nobody has measured aside."""
    if case.own:
        return _with_an_own_model(case, case.own)
    shortfall = _shortfall(case)
    if case.reference is None:
        return _Advice(
            "keep-api",
            case.now,
            case.now.cost.usd_per_month,
            (f"{case.now.key} can't be asked any more, and nothing that was measured can take its place: {shortfall}."),
        )
    return _as_a_cascade(case, case.reference, shortfall)


def _with_an_own_model(case: _Case, own: Candidate) -> _Advice:
    """A candidate of our own is good enough: now money decides."""
    spec, now, reference = case.spec, case.now, case.reference
    paid, cost = now.cost.usd_per_month, own.cost.usd_per_month
    if reference is None or pays(reference.cost.usd_per_month - cost, spec):
        simple = CONTROLS.get(own.key)
        advice = f"Use {simple}: it" if simple else f"Switch: {case.name}"
        other = ""
        if reference is not None and reference is not now:
            other = f" and {usd(reference.cost.usd_per_month)} for {reference.key}, the cheapest API that passes"
        saving = (reference or now).cost.usd_per_month - cost
        sentence = (
            f"{advice} {task_of(spec.task).claim(pct(worst(own).value))} of the hardest test split"
            f"{_beside(own, now)} and costs {usd(cost)} a month against {usd(paid)} for {now.key}{other}"
            f"{_budget(saving, spec)}."
        )
        if lost := behind(case.against[own.key], spec):  # the spec accepts that
            sentence += f" It is {gap(lost[1])} points against {now.key} on {lost[0]}, which you accept."
        return _Advice("classical" if simple else "switch", own, cost, sentence)
    if reference is not now:
        return _to_another_api(case, reference, f"a model of your own {usd(cost)}")
    sentence = f"Keep {now.key}: at this volume it costs {usd(paid)} a month, a model of your own {usd(cost)}"
    if cost < paid:
        sentence += (
            f", which does not pay for {usd(spec.costs.engineering_usd)} of engineering within "
            f"{spec.costs.horizon_months} months"
        )
    return _Advice("keep-api", now, paid, f"{sentence}.")


def _as_a_cascade(case: _Case, rest: Candidate, shortfall: str) -> _Advice:
    """No candidate of our own does the whole job: perhaps a part of it, the rest left to an API."""
    spec, now, threshold = case.spec, case.now, case.threshold
    paid = rest.cost.usd_per_month
    coverage = min((part.coverage for part in case.cascade.values()), default=0.0)
    cost = case.served.cost.usd_per_month + (1 - coverage) * paid
    doubt = "is not accurate enough either"
    if threshold:
        doubt = cascade_doubt(case.cascade, threshold, spec, case.whole, rest)
    trusted = case.parity_passed and is_fast(case.served, spec)
    if threshold and trusted and not doubt and pays(paid - cost, spec):
        today = "" if rest is now else f" for {rest.key} alone and {usd(now.cost.usd_per_month)} for {now.key}"
        return _Advice(
            "cascade",
            case.served,
            cost,
            (
                f"Run a cascade: {shortfall}, but where it is at least {sureness(threshold.value)} sure it is "
                f"right often "
                f"enough{'' if threshold.guaranteed else ' on the tests, which is no guarantee'}, so it can answer "
                f"{pct(coverage)} of the requests itself and leave the rest to {rest.key}, for "
                f"{usd(cost)} instead of {usd(paid)} a month{today}{_budget(paid - cost, spec)}."
            ),
        )
    if rest is not now:
        return _to_another_api(case, rest, shortfall)
    sentence = f"Keep {now.key} for now: {shortfall}"
    if trusted:
        sentence += f", and letting it answer only what it is sure of {doubt or 'would not save money'}"
    return _Advice("keep-api", now, paid, f"{sentence}.")


def _to_another_api(case: _Case, other: Candidate, beside: str) -> _Advice:
    """Another API was measured, and does the job for less."""
    now = case.now
    figures = f"{task_of(case.spec.task).claim(pct(worst(other).value))} of the hardest test split{_beside(other, now)}"
    paid = "" if now.lifetime.ended else f" against {usd(now.cost.usd_per_month)} for {now.key}"
    return _Advice(
        "cheaper-api",
        other,
        other.cost.usd_per_month,
        (f"Move to {other.key}: it {figures} and costs {usd(other.cost.usd_per_month)} a month{paid}; {beside}."),
    )


def _measured_first(tier: Candidate, advice: _Advice, case: _Case) -> _Advice:
    """A cheaper API that nobody has measured comes before what the evidence speaks for."""
    cost = tier.cost.usd_per_month
    in_place = f" in the place of {case.now.key}" if case.now.lifetime.ended else ""
    return _Advice(
        "cheaper-api",
        tier,
        cost,
        (
            f"Measure {tier.key} first{in_place}: it would cost {usd(cost)} a month, and nobody has tried it on your "
            f"examples. Until then: {advice.sentence}"
        ),
    )


def _override(tier: Candidate, spec: Spec) -> str:
    """What to add to a command so that an API is measured."""
    where = tier.provider if tier.provider in USUAL else "https://ADDRESS/v1"
    if tier.key in spec.candidate_apis:
        return f"apis+={{name: {tier.key}, url: {where}}}"
    return f"apis+={{model: {tier.model}, url: {where}}}"


def _shortfall(case: _Case) -> str:
    """Why the served model is not simply switched to."""
    spec, served, now = case.spec, case.served, case.now
    goal, least, claim = spec.goal, worst(served), task_of(spec.task).claim
    against, mine = case.against[served.key], case.name
    if least.value < goal.accuracy:
        return f"on the hardest test split {mine} {claim(pct(least.value))}, short of the {pct(goal.accuracy)} you need"
    if not case.parity_passed:
        return "what would be served does not answer like what was trained"
    if not is_fast(served, spec) and served.latency:
        return f"{mine}'s P95 is {speed_of(served)}, over the {goal.p95_ms:,.0f} ms you allow"
    if doubt := next(
        (score.primary_metric.doubt for score in served.scores.values() if score.primary_metric.doubt), ""
    ):
        return (
            f"{mine} {claim(pct(least.value))} of the hardest test split, but there are {doubt}: collect test "
            "examples from more groups"
        )
    if is_compared(against, spec) and (lost := behind(against, spec)):
        return (
            f"on {lost[0]} {mine} is {gap(lost[1])} points against {now.key}, which is not shown to "
            f"be within the {100 * goal.margin:g} that it may be worse"
        )
    return (
        f"{mine} {claim(pct(least.value))} of the hardest test split, but with so few test examples it "
        f"could be as little as {pct(least.low)}"
    )


def _budget(saving: float, spec: Spec) -> str:
    """What people's work may cost, as far as the spec does not say what it costs."""
    costs, work = spec.costs, " and ".join(unpriced(spec))
    left = saving * costs.horizon_months - costs.engineering_usd
    if not work or left <= 0:
        return ""
    beside = " beside its engineering" if costs.engineering_usd else ""
    return f", which{beside} pays for up to {usd(left)} of {work} within {costs.horizon_months} months"


def _beside(candidate: Candidate, now: Candidate) -> str:
    """What the API reaches on the split where a candidate does worst."""
    split = min(candidate.scores, key=lambda name: candidate.scores[name].primary_metric.value)
    return f" ({now.key}: {pct(now.scores[split].primary_metric.value)})" if split in now.scores else ""


def _curve(evidence: dict[str, list[Record]], served: Candidate, now: Candidate) -> dict[str, list[CascadePoint]]:
    own, paid = served.cost.usd_per_month, now.cost.usd_per_month
    parts = by_test(evidence[SERVED])
    return {split: cascade_curve(part, evidence.get(API, ()), own, paid) for split, part in parts.items()}
