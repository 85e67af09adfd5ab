"""The rules: when a candidate is good enough, which of several wins, and when it saves enough money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tunewright.config import Spec
from tunewright.economics.saving import ApiBill, Saving
from tunewright.evaluation.candidates.cascade import MIN_ACCEPTED, CascadeResult, Threshold
from tunewright.evaluation.evidence import Record
from tunewright.evaluation.statistics.intervals import Interval
from tunewright.evaluation.statistics.pairs import Paired, paired_records
from tunewright.evaluation.verdict.comparison import SERVED, Candidate
from tunewright.evaluation.verdict.reasons import pct, points
from tunewright.evaluation.verdict.targets import goal_targets, is_fast
from tunewright.tasks import task_of

SAME_COST = 0.01
"""Monthly costs that differ by this share or less count as the same."""
_NEARLY_ALL = 0.95
"""A cascade that answers more than this share of the requests itself is a switch."""


def is_good(candidate: Candidate, against: Mapping[str, Paired], spec: Spec) -> bool:
    """Whether a candidate is as good as the API, or meets the goal where the API was not measured."""
    if is_compared(against, spec):
        return is_fast(candidate, spec) and not behind(against, spec)
    return meets(candidate, spec)


def meets(candidate: Candidate, spec: Spec) -> bool:
    """Whether a candidate meets the goal."""
    return all(target.met for target in goal_targets(candidate, task_of(spec.task).primary_metric, spec))


def is_compared(against: Mapping[str, Paired], spec: Spec) -> bool:
    """Whether the API is the yardstick, rather than the goal."""
    return bool(against) and not spec.goal.accept_worse


def behind(against: Mapping[str, Paired], spec: Spec) -> tuple[str, Paired] | None:
    """The split where a candidate is furthest behind the API, among those where it is not shown to be as good; None
    where there is none."""
    missed = [(split, pair) for split, pair in against.items() if not pair.not_inferior(spec.goal.margin)]
    return min(missed, key=lambda each: each[1].difference.value, default=None)


def gap(pair: Paired) -> str:
    """A difference in points, with its interval."""
    difference = pair.difference
    return f"{points(difference.value)} ({points(difference.low)} to {points(difference.high)})"


def worst(candidate: Candidate) -> Interval:
    """The primary metric on the split where a candidate does worst."""
    return min((score.primary_metric for score in candidate.scores.values()), key=lambda interval: interval.value)


def choose(good: Sequence[Candidate], spec: Spec) -> Candidate | None:
    """The cheapest candidate. Among those that cost the same, the best one if it is better by more than the margin,
    else the simplest, which comes first."""
    if not good:
        return None
    least = min(candidate.cost.usd_per_month for candidate in good)
    equal = [candidate for candidate in good if candidate.cost.usd_per_month <= least * (1 + SAME_COST)]
    best = max(equal, key=lambda candidate: worst(candidate).value)
    return best if worst(best).value > worst(equal[0]).value + spec.goal.margin else equal[0]


def cheapest(candidates: Sequence[Candidate]) -> Candidate | None:
    """The cheapest candidate, the first of equals; None where there are no candidates."""
    return min(candidates, key=lambda candidate: candidate.cost.usd_per_month, default=None)


def costs_less(candidate: Candidate, usd_per_month: float) -> bool:
    """Whether a candidate costs less than an amount, by more than `SAME_COST`."""
    return candidate.cost.usd_per_month * (1 + SAME_COST) < usd_per_month


def pays(saving: Saving, spec: Spec) -> bool:
    """Whether a saving pays for the engineering within the horizon."""
    return saving.pays(spec.costs.engineering_usd)


def bill_of(api: Candidate) -> ApiBill:
    """What an API would be paid, until its end."""
    return ApiBill(api.key, api.cost.usd_per_month, api.lifetime.months_left)


def would_change(api: Candidate, usd_per_month: float, saving: Saving | None, spec: Spec) -> bool:
    """Whether an API that nobody has measured would change what is advised if it turned out to do the job: it costs
    less, or a model of your own does not pay against it.

    Args:
        usd_per_month: the cost of what is advised.
        saving: of the model of your own that is advised; None: none is.
    """
    if costs_less(api, usd_per_month):
        return True
    return saving is not None and not pays(replace(saving, bills=(bill_of(api),)), spec)


def cascade_doubt(
    cascade: Mapping[str, CascadeResult], threshold: Threshold, spec: Spec, whole: Mapping[str, Paired], rest: Candidate
) -> str:
    """Why a cascade is not to be trusted at a threshold; empty where it can be trusted.

    The text continues the sentence "letting it answer only what it is sure of …". The threshold must keep its promise
    on every test split, because it was not chosen on them.

    Args:
        whole: the cascade against the API, where that was measured.
        rest: the API that answers the rest.
    """
    goal = spec.goal
    for split, part in cascade.items():
        if part.accepted < MIN_ACCEPTED:
            return f"is tested by {part.accepted} answers on {split} only, and {MIN_ACCEPTED} are the least"
        inside = part.primary_metric
        if inside is None or inside.value < goal.accuracy:
            return "is not accurate enough either"
        proven = threshold.guaranteed and not threshold.grouped  # for requests
        if inside.doubt and not proven:
            return f"is not shown to be accurate enough: on {split} there are {inside.doubt}"
        if inside.low < goal.accuracy - goal.margin and not proven:
            return f"is not shown to be accurate enough (on {split} {pct(inside.value)}, it could be {pct(inside.low)})"
    if (least := min(part.coverage for part in cascade.values())) > _NEARLY_ALL:
        return f"would leave it {pct(least)} of the requests, which is a switch and must pass as one"
    if not goal.accept_worse and (lost := behind(whole, spec)):
        return f"gives up {gap(lost[1])} points on {lost[0]} against {rest.key} alone"
    return ""


def mixed(
    evidence: Mapping[str, Sequence[Record]], threshold: Threshold, rest: str, yardstick: str
) -> dict[str, Paired]:
    """A whole cascade against an API alone, by test split, on the examples that all of them answered; empty where one
    of the APIs was not measured.

    Args:
        rest: the evidence key of the API that answers the rest.
        yardstick: the evidence key of the API that the cascade is compared with.
    """
    if rest not in evidence or yardstick not in evidence:
        return {}
    paid = {record.id: record for record in evidence[rest]}
    both = [
        record if threshold.accepts(record) else paid[record.id] for record in evidence[SERVED] if record.id in paid
    ]
    return paired_records(both, evidence[yardstick])
