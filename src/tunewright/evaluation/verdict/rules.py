"""The rules: when a candidate is good enough, which of several wins, and when it saves enough money."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tunewright.config import Spec
from tunewright.economics.saving import ApiBill, Saving
from tunewright.evaluation.candidates.cascade import MIN_ACCEPTED, CascadeResult, Threshold
from tunewright.evaluation.evidence import LEAST_ANSWERED, Latency, Record, latency
from tunewright.evaluation.statistics.intervals import Interval
from tunewright.evaluation.statistics.pairs import Paired
from tunewright.evaluation.verdict.comparison import Candidate
from tunewright.evaluation.verdict.reasons import pct, points
from tunewright.evaluation.verdict.targets import goal_targets, in_time, is_fast, p95, unproven
from tunewright.tasks import task_of

SAME_COST = 0.01
"""Monthly costs that differ by this share or less count as the same."""
_NEARLY_ALL = 0.95
"""A cascade that answers more than this share of the requests itself is a switch."""


@dataclass(frozen=True)
class Mix:
    """A whole cascade: the served model, and an API that takes its rest."""

    against: dict[str, Paired] = field(default_factory=dict)
    """By test split: the cascade against an API alone; empty where one of the APIs was not measured."""
    yardstick: str = ""
    """The name of that API."""
    latency: Latency | None = None
    """Of all requests, those that are handed on with the time of both; None where these were not timed."""


def is_good(candidate: Candidate, against: Mapping[str, Paired], spec: Spec) -> bool:
    """Whether a candidate is as good as the API, or meets the goal where the API was not measured. An API of whose
    replies too many were cut, on any test split, is not."""
    if candidate.cut_short:
        return False
    if is_compared(against, spec):
        return is_fast(candidate, spec) and not unproven(candidate, against) and not behind(against, spec)
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
    cascade: Mapping[str, CascadeResult], threshold: Threshold, spec: Spec, mix: Mix, rest: Candidate
) -> str:
    """Why a cascade is not to be trusted at a threshold; empty where it can be trusted.

    The text continues the sentence "letting it answer only what it is sure of …". The threshold must keep its promise
    on every test split, because it was not chosen on them.

    Args:
        mix: the cascade as a whole.
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
    if mix.latency and not in_time(mix.latency, spec):
        return (
            f"makes requests wait for both: with {rest.key} the P95 is {p95(mix.latency)}, over the "
            f"{goal.p95_ms:,.0f} ms you allow"
        )
    if is_compared(mix.against, spec):
        if lost := behind(mix.against, spec):
            return f"gives up {gap(lost[1])} points on {lost[0]} against {mix.yardstick} alone"
        if missing := next((split for split in cascade if split not in mix.against), ""):
            return (
                f"is not shown to lose nothing against {mix.yardstick} alone on {missing}, where too many replies were "
                "cut"
            )
    return ""


def mixed(served: Sequence[Record], rest: Sequence[Record], threshold: Threshold) -> list[Record]:
    """The answers of a whole cascade, on the examples that both of its models answered. The API is asked after the
    served model, so their latencies add up; they are 0 where either was not timed.

    Args:
        rest: the answers of the API that takes the rest.
    """
    asked = {record.id: record for record in rest}
    return [
        record if threshold.accepts(record) else _handed_on(record, asked[record.id])
        for record in served
        if record.id in asked
    ]


def _handed_on(first: Record, second: Record) -> Record:
    """The answer to a request that the served model hands on. It has no confidence, so no threshold accepts it."""
    timed = first.latency_ms and second.latency_ms
    both = round(first.latency_ms + second.latency_ms, 3) if timed else 0.0
    return replace(second, latency_ms=both, confidence=None)


def mixed_latency(records: Sequence[Record], threshold: Threshold, start_ms: float) -> Latency | None:
    """The latency of a whole cascade; None where too few of the requests that it hands on were timed.

    Args:
        records: as `mixed` returns them.
        start_ms: the start of the served model's machine, as in `Latency`.
    """
    handed_on = [record.latency_ms > 0 for record in records if not threshold.accepts(record)]
    if sum(handed_on) < LEAST_ANSWERED * len(handed_on) or not any(record.latency_ms for record in records):
        return None
    return replace(latency(records), start_ms=start_ms)
