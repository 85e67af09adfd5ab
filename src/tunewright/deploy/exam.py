"""What a deployment is asked before it gets traffic, and what its answers must keep."""

from __future__ import annotations

from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import read_jsonl
from tunewright.data.dataset import load_examples
from tunewright.deploy.trial import DeploymentTrial, Exam, TrialQuestion
from tunewright.economics.cost import LATE, SECONDS_A_MONTH, cold_share

_SAMPLE = 40
"""Examples whose answers are compared."""
_LOAD_SECONDS = 20.0
_FEWEST, _MOST = 40, 600
"""Requests of the load test."""
_WAKE_SECONDS = 600.0


def exam_of(spec: Spec, split: Path, parity: Path) -> Exam:
    """Test examples with the answers that the served bundle gave then, and the busiest minute's traffic.

    Args:
        split, parity: the outputs of these steps.
    """
    rate = max(peak_rate(spec), _FEWEST / _LOAD_SECONDS)
    count = int(min(max(rate * _LOAD_SECONDS, _FEWEST), _MOST))
    return Exam(spec.name, _questions(split, parity), rate, count, spec.seed, _WAKE_SECONDS)


def peak_rate(spec: Spec) -> float:
    """Requests a second in the busiest minute."""
    return spec.traffic.requests_per_month / SECONDS_A_MONTH * spec.traffic.peak_to_average


def failures(trial: DeploymentTrial, spec: Spec) -> list[str]:
    """Which of the spec's gates a deployment does not keep."""
    told = []
    least = 1 - spec.export.max_disagreement
    pace = f"at {trial.rate:.1f} requests a second"
    if trial.agreement < least:
        found = f"{100 * trial.agreement:.1f} % of the answers are those that were judged"
        told.append(f"{found}, {100 * least:.1f} % are needed ({'; '.join(trial.differing)})")
    if trial.failed:
        told.append(f"{trial.failed} of {trial.requests} requests failed {pace}")
    if trial.p95_ms > spec.goal.p95_ms:
        told.append(f"P95 is {trial.p95_ms:.0f} ms {pace}, the goal is {spec.goal.p95_ms:.0f} ms")
    share = cold_share(spec.traffic.requests_per_month)
    if trial.cold_ms is not None and share > LATE and trial.cold_ms > spec.goal.p95_ms:
        told.append(
            f"{share:.0%} of the requests would find it asleep and wait {trial.cold_ms:,.0f} ms, "
            f"the goal is {spec.goal.p95_ms:.0f} ms for 95 %"
        )
    return told


def _questions(split: Path, parity: Path) -> list[TrialQuestion]:
    """Spread evenly over the tests."""
    given = {(row["split"], row["id"]): row["answer"] for row in read_jsonl(parity / "answers" / "served.jsonl")}
    made = []
    for file in sorted((split / "test").glob("*.jsonl")):
        for example in load_examples(file):
            answer = given.get((file.stem, example.meta.id))
            if answer is not None:
                made.append(TrialQuestion(example.row()["messages"][:-1], answer))
    step = max(1, len(made) // _SAMPLE)
    return made[::step][:_SAMPLE]
