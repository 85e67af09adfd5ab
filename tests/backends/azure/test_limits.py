"""The time after which Azure ends a step is read off the job, so that it is known of a job of another process too."""

from __future__ import annotations

from typing import Any

import pytest

from tests.backends.azure.conftest import MakeJob, running
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.backends.azure import follow


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
