"""The targets of a spec, held against what was measured: for a pipeline that must stop where one is missed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunewright.evaluate.comparison import SERVED
from tunewright.spec import Spec


@dataclass(frozen=True)
class Target:
    name: str
    met: bool
    found: str


def targets(spec: Spec, data: Mapping[str, Any]) -> list[Target]:
    """What the spec asks of the served model, and how it came out.

    Args:
        data: what `verdict.json` holds.
    """
    served, goal = data["comparison"]["arms"][SERVED], spec.goal
    headline = data["comparison"]["headline"]
    found = []
    for split, score in served["scores"].items():
        value, low = score["headline"]["value"], score["headline"]["low"]
        met = value >= goal.accuracy and low >= goal.accuracy - goal.margin
        floor = goal.accuracy - goal.margin
        said = f"{value:.1%}, at least {low:.1%}; asked for {goal.accuracy:.1%}, at least {floor:.1%}"
        found.append(Target(f"{headline} on {split}", met, said))
    p95 = served["latency"]["p95_ms"]
    found.append(Target("P95", p95 <= goal.p95_ms, f"{p95:,.0f} ms; asked for {goal.p95_ms:,.0f} ms"))
    for split, pair in data["verdict"]["against_api"].items():
        met = pair["at_least"] >= -goal.margin
        said = (
            f"{100 * pair['difference']['value']:+.1f} points, not below {100 * pair['at_least']:+.1f}; may be "
            f"{-100 * goal.margin:+.1f}"
        )
        found.append(Target(f"no worse than {spec.api.model} on {split}", met, said))
    parity = data["parity"]
    flaws = "; ".join(parity["failures"])
    found.append(Target("parity of the served bundle", parity["passed"], flaws or "both gates hold"))
    return found
