"""The time after which Azure ends a step is read off the job, so that it is known of a job of another process too."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.backends.azure.conftest import MakeJob, running
from tests.conftest import make_spec
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.backends.azure import follow
from tunewright.backends.azure.machines import price_of
from tunewright.core.errors import UserError


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
    assert not running(azure)


def test_what_a_step_has_cost_stands_where_azure_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[float | None] = [3600.0, None]
    monkeypatch.setattr(follow.JobFollower, "seconds", lambda *_: said.pop(0))
    follower = follow.JobFollower(None, "job", {"train": 2.0}, 10)  # type: ignore[arg-type]
    for status in ("Running", "Completed"):
        follower._add_cost("train", SimpleNamespace(name="run", status=status))
    assert follower.spent == 2.0


@pytest.mark.parametrize("key", ["gpu", "cpu"])
def test_a_machine_without_a_price_is_named_with_its_key(key: str) -> None:
    spec = make_spec(azure={key: "Standard_NC6s_v3"})
    with pytest.raises(UserError, match=rf"no 'Standard_NC6s_v3' \(azure\.{key}\)"):
        price_of("Standard_NC6s_v3", spec)
