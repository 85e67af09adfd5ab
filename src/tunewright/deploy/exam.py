"""The questions that a new deployment gets before it has traffic, and the gates that its answers must pass."""

from __future__ import annotations

from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import read_jsonl
from tunewright.core.errors import UserError
from tunewright.data.dataset import load_examples
from tunewright.deploy.trial import DeploymentTrial, Exam, TrialQuestion
from tunewright.economics.cost import LATE, SECONDS_A_MONTH, cold_share
from tunewright.tasks import task_of
from tunewright.tasks.base import ToolCall
from tunewright.tasks.tools import said

_SAMPLE = 40
"""How many examples' answers are compared."""
_LOAD_SECONDS = 20.0
_FEWEST, _MOST = 40, 600
"""How many requests the load test sends."""
_WAKE_SECONDS = 600.0


def exam_of(spec: Spec, split: Path, parity: Path) -> Exam:
    """Test examples with the answers of the served bundle, and the traffic of the busiest minute.

    Args:
        split, parity: the outputs of these steps.

    Raises:
        UserError: they have no example in common.
    """
    questions = _questions(spec, split, parity)
    if not questions:
        raise UserError(
            "There is no test example whose answer the step parity has measured, so a deployment could not be tried.",
            where=parity,
            fix="Make the answers anew: tunewright run … --from parity",
        )
    rate = max(peak_rate(spec), _FEWEST / _LOAD_SECONDS)
    count = int(min(max(rate * _LOAD_SECONDS, _FEWEST), _MOST))
    return Exam(spec.name, questions, rate, count, spec.seed, _WAKE_SECONDS)


def peak_rate(spec: Spec) -> float:
    """Requests a second in the busiest minute."""
    return spec.traffic.requests_per_month / SECONDS_A_MONTH * spec.traffic.peak_to_average


def failures(trial: DeploymentTrial, spec: Spec) -> list[str]:
    """The spec's gates that a deployment does not pass, as messages."""
    messages = []
    least = 1 - spec.export.max_disagreement
    rate = f"at {trial.rate:.1f} requests a second"
    if trial.agreement < least:
        found = f"{100 * trial.agreement:.1f} % of the answers are those that were judged"
        messages.append(f"{found}, {100 * least:.1f} % are needed ({'; '.join(trial.differing)})")
    if trial.failed:
        messages.append(f"{trial.failed} of {trial.requests} requests failed {rate}")
    if trial.p95_ms > spec.goal.p95_ms:
        messages.append(f"P95 is {trial.p95_ms:.0f} ms {rate}, the goal is {spec.goal.p95_ms:.0f} ms")
    share = cold_share(spec.traffic.requests_per_month)
    if trial.cold_ms is not None and share > LATE and trial.cold_ms > spec.goal.p95_ms:
        messages.append(
            f"{share:.0%} of the requests would find it asleep and wait {trial.cold_ms:,.0f} ms, "
            f"the goal is {spec.goal.p95_ms:.0f} ms for 95 %"
        )
    return messages


def _questions(spec: Spec, split: Path, parity: Path) -> list[TrialQuestion]:
    """A sample of the test examples, spread evenly over the tests, each with what a reply must say."""
    calls_tools = isinstance(task_of(spec.task).constraint, ToolCall)
    answers = {(row["split"], row["id"]): row["answer"] for row in read_jsonl(parity / "answers" / "served.jsonl")}
    questions = []
    for file in sorted((split / "test").glob("*.jsonl")):
        for example in load_examples(file):
            answer = answers.get((file.stem, example.meta.id))
            if answer is not None:
                call = said(answer) if calls_tools else None
                text = call.content if call and call.tool is None else answer
                questions.append(TrialQuestion(example.row()["messages"][:-1], text))
    step = max(1, len(questions) // _SAMPLE)
    return questions[::step][:_SAMPLE]
