"""Targets: what a spec asks of a model, compared with what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tunewright.config import Spec
from tunewright.evaluation.evidence import Latency
from tunewright.evaluation.statistics.pairs import Paired
from tunewright.evaluation.verdict.comparison import Candidate

SPEED = "P95"
"""Name of the latency target."""


@dataclass(frozen=True)
class Target:
    name: str
    met: bool
    found: str
    """The measured value and the one that the spec asks for."""


def goal_targets(candidate: Candidate, primary_metric: str, spec: Spec) -> list[Target]:
    """The goal as targets: on every test split the primary metric reaches `goal.accuracy` and the lower end of its 95 %
    interval comes within `goal.margin` of it; the P95 keeps `goal.p95_ms`. Too few groups prove nothing."""
    goal, targets = spec.goal, []
    floor = goal.accuracy - goal.margin
    for split, score in candidate.scores.items():
        value, low = score.primary_metric.value, score.primary_metric.low
        text = f"{value:.1%}, at least {low:.1%}; asked for {goal.accuracy:.1%}, at least {floor:.1%}"
        doubt = score.primary_metric.doubt
        met = value >= goal.accuracy and low >= floor and not doubt
        targets.append(Target(f"{primary_metric} on {split}", met, text + (f"; {doubt}" if doubt else "")))
    return [
        *targets,
        Target(SPEED, is_fast(candidate, spec), f"{speed_of(candidate)}; asked for {goal.p95_ms:,.0f} ms"),
    ]


def is_fast(candidate: Candidate, spec: Spec) -> bool:
    """Whether the upper end of a candidate's P95 keeps the goal; true where latency was not measured, as for recorded
    answers."""
    return candidate.latency is None or in_time(candidate.latency, spec)


def in_time(speed: Latency, spec: Spec) -> bool:
    """Whether the upper end of a P95 keeps the goal."""
    return speed.worst_p95_ms <= spec.goal.p95_ms


def speed_of(candidate: Candidate) -> str:
    """A candidate's P95 in words."""
    return "not measured" if candidate.latency is None else p95(candidate.latency)


def p95(speed: Latency) -> str:
    """A P95 in words, with its upper end."""
    bound = "at most" if speed.bounded else f"{speed.count} requests are too few to bound it, the longest"
    start = f", and {speed.start_ms:,.0f} ms of starting" if speed.start_ms else ""
    return f"{speed.p95_ms:,.0f} ms ({bound} {speed.p95_at_most_ms:,.0f}{start})"


def unproven(candidate: Candidate, against: Mapping[str, Paired]) -> list[str]:
    """The test splits on which a candidate can't be compared with the API, because too many replies were cut."""
    return [split for split in candidate.scores if split not in against]


def api_targets(candidate: Candidate, against: Mapping[str, Paired], spec: Spec) -> list[Target]:
    """The targets that a candidate is not inferior to the API on any split; none where the API was not measured.

    Args:
        against: the candidate against the API, by split.
    """
    if not against:
        return []
    targets = [
        Target(
            f"no worse than {spec.api.label} on {split}",
            pair.not_inferior(spec.goal.margin),
            f"{100 * pair.difference.value:+.1f} points, not below {100 * pair.at_least:+.1f}; may be "
            f"{-100 * spec.goal.margin:+.1f}" + (f"; {pair.difference.doubt}" if pair.difference.doubt else ""),
        )
        for split, pair in against.items()
    ]
    for split in unproven(candidate, against):
        targets.append(Target(f"no worse than {spec.api.label} on {split}", False, "too many replies were cut to tell"))
    return targets
