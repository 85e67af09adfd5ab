"""The decision: which of five ways to answer, in a sentence a manager can read, with the figures it rests on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tunewright.config import USUAL, Spec
from tunewright.economics.saving import ApiBill, Saving, bills_of
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
from tunewright.evaluation.evidence import VALIDATION, Latency, Record, by_test
from tunewright.evaluation.statistics.pairs import Paired, paired_records
from tunewright.evaluation.verdict.advice import Case, Decision, advise, measured_first
from tunewright.evaluation.verdict.comparison import API, SERVED, SVM, Candidate, Comparison, evidence_key
from tunewright.evaluation.verdict.reasons import (
    api_reasons,
    doubt_reasons,
    goal_reason,
    money_reason,
    other_api_reason,
    threshold_reason,
)
from tunewright.evaluation.verdict.rules import (
    Mix,
    bill_of,
    cheapest,
    choose,
    is_good,
    meets,
    mixed,
    mixed_latency,
    would_change,
)
from tunewright.evaluation.verdict.targets import Target, api_targets, goal_targets
from tunewright.models.linear_model import LINEAR

SERVES: tuple[Decision, ...] = ("switch", "cascade")
"""The decisions after which the tuned model serves."""


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
    """The served model costs less than the API from this many requests a month on; None: at no volume."""
    p95_ms: float
    """95th percentile of the served model's latency, in milliseconds."""
    answers: str
    """Key of the candidate, or name of the API, that would answer; in a cascade the candidate that answers first."""
    reference: str | None
    """The cheapest API that passes. Other candidates are compared with it, and a cascade leaves its rest to it. None:
    the API paid for today is gone, and no other was shown to do the job."""
    shown: Decision
    """The decision that the evidence supports as it is. `decision` differs where a cheaper API must be measured
    first."""
    measure: str | None = None
    """The override that has that API measured (`apis+=…`), where the decision waits for it."""
    good_enough: str | None = None
    """Your own candidate that meets the goal, or is as good as the API, whatever it costs; None where none is."""
    saving: Saving | None = None
    """Where a model of your own would answer: what it saves within the horizon."""
    threshold: Threshold | None = None
    """The small model answers by itself from this confidence on; chosen on validation data."""
    cascade: dict[str, CascadeResult] = field(default_factory=dict)
    """By test split: coverage and accuracy at that threshold."""
    curve: dict[str, list[CascadePoint]] = field(default_factory=dict)
    """By test split: accuracy and cost of the cascade at other thresholds, with the rest left to `reference` or, where
    that is None, the API paid for today. It is for the reader: nothing is chosen on it."""
    against_control: dict[str, Paired] = field(default_factory=dict)
    """By test split: the served model against the best baseline on the same examples."""
    against_api: dict[str, Paired] = field(default_factory=dict)
    """By test split: the served model against the API paid for today, on the examples that the API answered."""
    cascade_against_api: dict[str, Paired] = field(default_factory=dict)
    """By test split: the served model and the API that takes its rest, as one, against the API paid for today; empty
    where that was not measured."""
    cascade_latency: Latency | None = None
    """Of these two as one: requests that are handed on take the time of both. None where these were not timed."""
    targets: list[Target] = field(default_factory=list)
    """What the spec asks of the served model, and how it came out."""


def decide(
    spec: Spec,
    comparison: Comparison,
    evidence: dict[str, list[Record]],
    *,
    parity_passed: bool,
    drawing: Drawing = ONE_BY_ONE,
) -> Verdict:
    """Choose among the five decisions.

    A candidate meets the goal where, on every test split, its accuracy reaches `goal.accuracy` and the lower end of its
    95 % interval comes within `goal.margin` of it, and its P95 keeps `goal.p95_ms`. Where the API paid for today was
    measured, the yardstick is that API instead: a candidate must not be inferior to it (on every split the difference,
    paired by example, is not below -`goal.margin`, up to an error of 5 %), unless `goal.accept_worse`. Too few groups
    prove neither. The worst split decides. Other APIs pass by the same rule. Where fewer than nine in ten of an API's
    replies on a split are whole, the API is no yardstick there and does not pass.

    The verdict recommends the cheapest of your own candidates that is good enough. Of two that cost the same it takes
    the better one, where that is better by more than the margin, else the simpler. The candidate must cost less than
    the cheapest API that passes, today's among them, and pay for its engineering within `costs.horizon_months`. After
    that API's end the saving counts against the cheapest one that lasts and may do the job. Where none is good enough,
    the rule tries a cascade at a threshold chosen on validation data, with the rest left to that API. The P95 of the
    whole cascade must keep the goal too: requests that are handed on take the time of both. The rule neither keeps an
    API that has been shut down nor leaves the rest to it, and it recommends another API only if that outlasts the
    horizon. Where a candidate API that nobody has measured would change the outcome if it did the job, the verdict says
    to measure it first.
    """
    now, *others = comparison.apis.values()
    served, control = comparison.candidates[SERVED], comparison.control
    eligible = [candidate for candidate in others if candidate.in_question and not candidate.lifetime.near]
    measured = [candidate for candidate in eligible if candidate.is_measured]
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
    rest = reference or now
    mix = Mix()
    if threshold and reference:
        answered = evidence.get(keys[rest.key], [])
        both, yardstick = mixed(evidence[SERVED], answered, threshold), now if now.scores else rest
        start_ms = served.latency.start_ms if served.latency else 0.0
        mix = Mix(
            paired_records(both, evidence.get(keys[yardstick.key], [])),
            yardstick.key,
            mixed_latency(both, threshold, start_ms),
        )
    unmeasured = [candidate for candidate in eligible if not candidate.is_measured]
    later = cheapest([*passing, *unmeasured])
    bills = bills_of(bill_of(rest), _later_bill(later))
    case = Case(
        spec, now, reference, own, served, parity_passed, against, threshold, cascade, comparison.own, mix, bills
    )
    advice = advise(case)
    least = cheapest(unmeasured)
    nothing_left = own is None and reference is None
    changes = least and (nothing_left or would_change(least, advice.usd_per_month, advice.saving, spec))
    first = least if changes else None
    final = measured_first(first, advice, case) if first else advice
    reasons = [goal_reason(candidate, spec, met=meets(candidate, spec)) for candidate in (served, control)]
    reasons += doubt_reasons(served, comparison.primary_metric)
    if not parity_passed:
        reasons.append("The served bundle does not answer like the trained model: the parity gate failed.")
    reasons += api_reasons(now, against[SERVED], spec)
    reasons += [
        other_api_reason(candidate, against[candidate.key], spec, passed=candidate in passing) for candidate in measured
    ]
    by_itself = Saving(served.cost.usd_per_month, bills_of(bill_of(now), _later_bill(later)), spec.costs.horizon_months)
    reasons.append(money_reason(comparison, spec, by_itself.payback_months(spec.costs.engineering_usd)))
    notes = (comparison.measured_on, comparison.timed_in_log, comparison.uncached, comparison.stale)
    reasons += [note for note in notes if note]
    reasons.append(threshold_reason(threshold, spec))
    sentences = [final.sentence, now.lifetime.summary, final.answers.thinking]
    return Verdict(
        final.decision,
        " ".join(filter(None, sentences)),
        reasons,
        final.usd_per_month,
        now.cost.usd_per_month,
        break_even_requests=comparison.money.break_even_requests,
        p95_ms=served.latency.p95_ms if served.latency else 0.0,
        answers=final.answers.key,
        reference=reference.key if reference else None,
        shown=advice.decision,
        measure=_override(first, spec) if first else None,
        good_enough=own.key if own else None,
        saving=final.saving,
        threshold=threshold,
        cascade=cascade,
        curve=_curve(evidence, served, rest, keys[rest.key]),
        against_control=paired_records(evidence[SERVED], evidence[control.key]),
        against_api=against[SERVED],
        cascade_against_api=mix.against if now.scores else {},
        cascade_latency=mix.latency,
        targets=[
            *goal_targets(served, comparison.primary_metric, spec),
            *api_targets(served, against[SERVED], spec),
            Target("parity", parity_passed, f"the served bundle {'keeps' if parity_passed else 'breaks'} its gates"),
        ],
    )


def _override(api: Candidate, spec: Spec) -> str:
    """The override to add to a command so that the run measures an API."""
    url = api.provider if api.provider in USUAL else "https://ADDRESS/v1"
    if api.key in spec.candidate_apis:
        return f"apis+={{name: {api.key}, url: {url}}}"
    return f"apis+={{model: {api.model}, url: {url}}}"


def _later_bill(later: Candidate | None) -> ApiBill | None:
    """What would be paid after the end of the first API."""
    if later is None:
        return None
    return replace(bill_of(later), note="" if later.scores else ", which nobody has measured")


def _curve(
    evidence: dict[str, list[Record]], served: Candidate, rest: Candidate, key: str
) -> dict[str, list[CascadePoint]]:
    """The cascade at other thresholds.

    Args:
        rest: the API that answers the rest.
        key: its key in the evidence.
    """
    own, paid = served.cost.usd_per_month, rest.cost.usd_per_month
    return {
        split: cascade_curve(part, () if split in rest.cut_short else evidence.get(key, ()), own, paid)
        for split, part in by_test(evidence[SERVED]).items()
    }
