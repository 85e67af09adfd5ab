"""The advice: what the evidence supports, and the sentence that says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tunewright.config import Spec
from tunewright.economics.cost import usd
from tunewright.economics.saving import ApiBill, Saving, aim
from tunewright.economics.upkeep import unpriced
from tunewright.evaluation.candidates.cascade import CascadeResult, Threshold
from tunewright.evaluation.statistics.pairs import Paired
from tunewright.evaluation.verdict.comparison import CONTROLS, Candidate
from tunewright.evaluation.verdict.reasons import pct, sureness
from tunewright.evaluation.verdict.rules import Mix, behind, cascade_doubt, gap, is_compared, pays, worst
from tunewright.evaluation.verdict.targets import is_fast, speed_of, unproven
from tunewright.tasks import task_of

Decision = Literal["switch", "cascade", "keep-api", "cheaper-api", "classical"]


@dataclass(frozen=True)
class Advice:
    """A decision with what it costs."""

    decision: Decision
    answers: Candidate
    usd_per_month: float
    sentence: str
    saving: Saving | None = None
    """Where a model of your own answers: what it saves."""


@dataclass(frozen=True)
class Case:
    """Everything that the decision depends on."""

    spec: Spec
    now: Candidate
    """The API paid for today."""
    reference: Candidate | None
    """The cheapest API known to do the job; None: the API paid for today is gone, and no other passes."""
    own: Candidate | None
    """The best choice among your own candidates, where one is good enough."""
    served: Candidate
    parity_passed: bool
    against: Mapping[str, Mapping[str, Paired]]
    """By candidate and split: the candidate against the API paid for today, where that was measured."""
    threshold: Threshold | None
    cascade: Mapping[str, CascadeResult]
    name: str
    """What sentences call the served model."""
    mix: Mix
    """The served model and the API that takes its rest, as one."""
    bills: tuple[ApiBill, ...]
    """What would be paid to APIs within the horizon without a model of your own."""

    def saving(self, own_usd: float, share: float = 1.0) -> Saving:
        """What a model of your own saves that costs so much a month and answers this share of the requests."""
        return Saving(own_usd, self.bills, self.spec.costs.horizon_months, share)


def advise(case: Case) -> Advice:
    """What the evidence supports, leaving aside cheaper APIs that nobody has measured."""
    if case.own:
        return _with_an_own_model(case, case.own)
    shortfall = _shortfall(case)
    if case.reference is None:
        return Advice(
            "keep-api",
            case.now,
            case.now.cost.usd_per_month,
            (f"{case.now.key} can't be asked any more, and nothing that was measured can take its place: {shortfall}."),
        )
    return _as_a_cascade(case, case.reference, shortfall)


def _with_an_own_model(case: Case, own: Candidate) -> Advice:
    """One of your own candidates is good enough: now money decides."""
    spec, now, reference = case.spec, case.now, case.reference
    paid, cost = now.cost.usd_per_month, own.cost.usd_per_month
    saving = case.saving(cost)
    if reference is None or pays(saving, spec):
        simple = CONTROLS.get(own.key)
        advice = f"Use {simple}: it" if simple else f"Switch: {case.name}"
        apis = [] if now.lifetime.ended else [f"{usd(paid)} for {now.key}"]
        if reference is not None and reference is not now:
            apis.append(f"{usd(reference.cost.usd_per_month)} for {reference.key}, the cheapest API that passes")
        sentence = (
            f"{advice} {task_of(spec.task).claim(pct(worst(own).value))} of the hardest test split"
            f"{_beside(own, now)} and costs {usd(cost)} a month{' against ' if apis else ''}{' and '.join(apis)}"
            f"{_budget(saving, spec)}."
        )
        if lost := behind(case.against[own.key], spec):  # the spec accepts that
            sentence += f" It is {gap(lost[1])} points against {now.key} on {lost[0]}, which you accept."
        return Advice("classical" if simple else "switch", own, cost, _joined(sentence, saving.counted()), saving)
    cheaper = cost < reference.cost.usd_per_month
    beside = f"a model of your own {usd(cost)}{f', which {_unpaid(spec)}' if cheaper else ''}"
    if reference is not now:
        return _to_another_api(case, reference, beside)
    sentence = f"Keep {now.key}: at this volume it costs {usd(paid)} a month, {beside}."
    counted = saving.counted("A model of your own") if cheaper else ""
    return Advice("keep-api", now, paid, _joined(sentence, counted))


def _as_a_cascade(case: Case, rest: Candidate, shortfall: str) -> Advice:
    """None of your own candidates does the whole job. A cascade may do part of it and leave the rest to an API."""
    spec, now, threshold = case.spec, case.now, case.threshold
    paid = rest.cost.usd_per_month
    coverage = min((part.coverage for part in case.cascade.values()), default=0.0)
    cost = case.served.cost.usd_per_month + (1 - coverage) * paid
    saving = case.saving(case.served.cost.usd_per_month, coverage)
    doubt = "is not accurate enough either"
    if threshold:
        doubt = cascade_doubt(case.cascade, threshold, spec, case.mix, rest)
    trusted = case.parity_passed and is_fast(case.served, spec)
    if threshold and trusted and not doubt and pays(saving, spec):
        today = "" if rest is now else f" for {rest.key} alone and {usd(now.cost.usd_per_month)} for {now.key}"
        sentence = (
            f"Run a cascade: {shortfall}, but where it is at least {sureness(threshold.value)} sure it is "
            f"right often "
            f"enough{'' if threshold.guaranteed else ' on the tests, which is no guarantee'}, so it can answer "
            f"{pct(coverage)} of the requests itself and leave the rest to {rest.key}, for "
            f"{usd(cost)} instead of {usd(paid)} a month{today}{_budget(saving, spec)}."
        )
        return Advice(
            "cascade", case.served, cost, _joined(sentence, _untimed(case.mix, rest), saving.counted()), saving
        )
    if rest is not now:
        return _to_another_api(case, rest, shortfall)
    sentence = f"Keep {now.key} for now: {shortfall}"
    if trusted:
        sentence += f", and letting it answer only what it is sure of {doubt or _unpaid(spec)}"
    counted = saving.counted("That") if trusted and not doubt and cost < paid else ""
    return Advice("keep-api", now, paid, _joined(f"{sentence}.", counted))


def _untimed(mix: Mix, rest: Candidate) -> str:
    """A sentence that nobody knows how long the rest of a cascade takes; empty where it was timed."""
    if mix.latency:
        return ""
    return f"The P95 of the requests that go on to {rest.key} is not known: nobody has timed it here."


def _to_another_api(case: Case, other: Candidate, beside: str) -> Advice:
    """A measured API does the job for less."""
    now = case.now
    figures = f"{task_of(case.spec.task).claim(pct(worst(other).value))} of the hardest test split{_beside(other, now)}"
    paid = "" if now.lifetime.ended else f" against {usd(now.cost.usd_per_month)} for {now.key}"
    return Advice(
        "cheaper-api",
        other,
        other.cost.usd_per_month,
        (f"Move to {other.key}: it {figures} and costs {usd(other.cost.usd_per_month)} a month{paid}; {beside}."),
    )


def measured_first(api: Candidate, advice: Advice, case: Case) -> Advice:
    """The advice to measure an API before acting on what the evidence supports."""
    cost = api.cost.usd_per_month
    in_place = f" in the place of {case.now.key}" if case.now.lifetime.ended else ""
    why, then = "", "Until then"
    if advice.saving and cost >= advice.usd_per_month:
        why = f" If it does the job, a model of your own {_unpaid(case.spec)}."
        then = "If it does not"
    return Advice(
        "cheaper-api",
        api,
        cost,
        (
            f"Measure {api.key} first{in_place}: it would cost {usd(cost)} a month, and nobody has tried it on your "
            f"examples.{why} {then}: {advice.sentence}"
        ),
    )


def _shortfall(case: Case) -> str:
    """Why the verdict is not simply to switch to the served model."""
    spec, served, now = case.spec, case.served, case.now
    goal, least, claim = spec.goal, worst(served), task_of(spec.task).claim
    against, name = case.against[served.key], case.name
    if least.value < goal.accuracy:
        return f"on the hardest test split {name} {claim(pct(least.value))}, short of the {pct(goal.accuracy)} you need"
    if not case.parity_passed:
        return "what would be served does not answer like what was trained"
    if not is_fast(served, spec) and served.latency:
        return f"{name}'s P95 is {speed_of(served)}, over the {goal.p95_ms:,.0f} ms you allow"
    if doubt := next(
        (score.primary_metric.doubt for score in served.scores.values() if score.primary_metric.doubt), ""
    ):
        return (
            f"{name} {claim(pct(least.value))} of the hardest test split, but there are {doubt}: collect test "
            "examples from more groups"
        )
    if is_compared(against, spec) and (lost := behind(against, spec)):
        return (
            f"on {lost[0]} {name} is {gap(lost[1])} points against {now.key}, which is not shown to "
            f"be within the {100 * goal.margin:g} that it may be worse"
        )
    if is_compared(against, spec) and (missing := unproven(served, against)):
        return (
            f"nothing shows on {missing[0]} that {name} is as good as {now.key}, of whose replies too many were cut "
            "there"
        )
    return (
        f"{name} {claim(pct(least.value))} of the hardest test split, but with so few test examples it "
        f"could be as little as {pct(least.low)}"
    )


def _unpaid(spec: Spec) -> str:
    """Why a saving is not enough."""
    return f"would not {aim(spec.costs.engineering_usd, spec.costs.horizon_months)}"


def _joined(*sentences: str) -> str:
    return " ".join(filter(None, sentences))


def _budget(saving: Saving, spec: Spec) -> str:
    """How much unpriced work by people the saving pays for; empty where the spec prices all of it."""
    costs, work = spec.costs, " and ".join(unpriced(spec))
    left = saving.usd - costs.engineering_usd
    if not work or left <= 0:
        return ""
    beside = " beside its engineering" if costs.engineering_usd else ""
    return f", which{beside} pays for up to {usd(left)} of {work} within {costs.horizon_months} months"


def _beside(candidate: Candidate, now: Candidate) -> str:
    """The API's score on the split where a candidate does worst."""
    split = min(candidate.scores, key=lambda name: candidate.scores[name].primary_metric.value)
    return f" ({now.key}: {pct(now.scores[split].primary_metric.value)})" if split in now.scores else ""
