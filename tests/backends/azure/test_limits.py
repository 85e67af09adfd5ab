"""The time after which Azure ends a step is read off the job, so that it is known of a job of another process too."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from tests.backends.azure.conftest import MakeJob, ended
from tests.conftest import make_spec
from tunewright import api
from tunewright.api import pipeline
from tunewright.azure_emulator import AzureEmulator
from tunewright.backends.azure import follow, jobs, machines
from tunewright.backends.azure.machines import price_of
from tunewright.backends.azure.spending import RunSpending
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.pipeline.steps import Step


def test_a_job_tells_the_limits_of_its_steps(
    azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: dict[str, float] = {}
    real = follow._limits

    def limits(step: str, told: Any) -> dict[str, float]:
        found.update(real(step, told))
        return real(step, told)

    monkeypatch.setattr(follow, "_limits", limits)
    spec = job(azure={"budget_usd": 1.92})
    api.check(spec, on="azure")
    assert found == {"check": 36_000}, "$1.92 at $0.192 an hour"
    found.clear()
    api.split(job(name="another", azure={"budget_usd": 1.92}), on="azure")
    assert found == {"check": 18_000, "split": 18_000}, "each step of a pipeline has its part of the budget"
    ended(azure)


def test_what_a_step_has_cost_stands_where_azure_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[float | None] = [3600.0, None]
    monkeypatch.setattr(follow.JobFollower, "seconds", lambda *_: said.pop(0))
    follower = follow.JobFollower(None, "job", {"train": 2.0}, 10)
    for status in ("Running", "Completed"):
        follower._add_cost("train", SimpleNamespace(name="run", status=status))
    assert follower.spent == 2.0


def test_a_run_that_is_typed_again_has_only_the_rest_of_its_budget(
    azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Though its next job begins with a later step."""
    given: list[float] = []
    real_limits, real_line = machines.limits, jobs.command_line

    def limits(steps: Sequence[Step], spec: Spec, usd: float) -> dict[str, int]:
        given.append(usd)
        return real_limits(steps, spec, usd)

    def fails_in_split(step: Step, *rest: Any) -> str:
        return "exit 7" if step.name == "split" else real_line(step, *rest)

    monkeypatch.setattr(machines, "limits", limits)
    spec = job(azure={"budget_usd": 2.0})
    with monkeypatch.context() as broken:
        broken.setattr(jobs, "command_line", fails_in_split)
        with pytest.raises(UserError, match="The step split failed in Azure"):
            api.split(spec, on="azure")
    monkeypatch.setattr(follow.JobFollower, "seconds", lambda *_: 3600.0)
    api.split(spec, on="azure")
    assert given == [2.0, pytest.approx(2.0 - 2 * 0.192)]
    assert "earlier jobs of this run cost $0.38" in capsys.readouterr().err
    ended(azure)


@pytest.mark.parametrize(("force", "usd"), [(False, 5.0), (True, 2.0)])
def test_jobs_of_earlier_commands_count_once(
    job: MakeJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], force: bool, usd: float
) -> None:
    """A completed one counts not if its work is repeated, and a line says what it cost."""
    spending = RunSpending(job(), "split")
    tags = spending.tag({"check": 3.0, "split": 2.0})
    listed = [
        None,  # another tool's
        SimpleNamespace(name="done", status="Completed", tags=tags),
        SimpleNamespace(name="stopped", status="Canceled", tags=spending.tag({"split": 2.0})),
        SimpleNamespace(name="next", status="Running", tags=tags),
    ]
    costs = {"done": 3.0, "stopped": 2.0, "next": 9.0}
    at: Any = SimpleNamespace(ml=SimpleNamespace(jobs=SimpleNamespace(list=lambda tag: listed if tag in tags else [])))
    monkeypatch.setattr(follow.JobFollower, "settle", lambda *_: None)
    monkeypatch.setattr(follow.JobFollower, "spent", property(lambda each: costs[each._job]))
    for _ in range(2):
        spending.count_earlier(at, "next", force=force)
    assert spending.usd == usd
    said = capsys.readouterr().err
    assert said.count(f"earlier jobs of this run cost ${usd:.2f}, which its budget counts") == 1
    assert said.count("this run repeats jobs that cost $3.00, which its budget does not count") == force


def test_the_candidates_of_a_run_share_its_budget(job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, RunSpending]] = []

    def stopped(candidate: Spec, *rest: Any) -> None:
        given.append((candidate.model, rest[-1]))
        raise UserError("It is stopped.")

    monkeypatch.setattr(pipeline, "bring_up_to_date", stopped)
    monkeypatch.setattr(pipeline, "locate", lambda *_: None)
    with pytest.raises(UserError, match="It is stopped"):
        api.run(job(model="linear", candidates=["linear", "smollm2-135m"]), on="azure")
    (first, one), (second, other) = given
    assert (first, second) == ("linear", "smollm2-135m")
    assert isinstance(one, RunSpending) and one is other


@pytest.mark.parametrize("key", ["gpu", "cpu"])
def test_a_machine_without_a_price_is_named_with_its_key(key: str) -> None:
    spec = make_spec(azure={key: "Standard_NC6s_v3"})
    with pytest.raises(UserError, match=rf"no 'Standard_NC6s_v3' \(azure\.{key}\)"):
        price_of("Standard_NC6s_v3", spec)
