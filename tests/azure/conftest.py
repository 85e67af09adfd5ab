"""What the tests of the Azure side share: one stand-in for each worker, and small projects that run there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import write_project
from tunewright import load_spec
from tunewright.places.azure import connection, follow, store
from tunewright.places.azure.deploy import apps, endpoint, images
from tunewright.places.rehearsal import Rehearsal, rehearse
from tunewright.places.rehearsal.cloud import Fault, error
from tunewright.spec import Spec

SUBSCRIPTION, GROUP, WORKSPACE, REGION = "00000000-0000-0000-0000-00000000feed", "group", "space", "eastus"
CPU = "Standard_D4s_v3"


@dataclass(frozen=True)
class StandIn:
    """The stand-in, and the environment variables that lead there."""

    rehearsal: Rehearsal
    variables: dict[str, str]


@pytest.fixture(scope="session")
def stand_in() -> Iterator[StandIn]:
    """A subscription that was granted everything, started once."""
    with playing(seasoned=True) as made:
        yield made


@contextmanager
def playing(*, seasoned: bool) -> Iterator[StandIn]:
    """A stand-in; the environment is this process's own again while it runs."""
    before = dict(os.environ)
    with rehearse(SUBSCRIPTION, GROUP, WORKSPACE, REGION, seasoned=seasoned) as rehearsal:
        inside = dict(os.environ)
        variables = {name: value for name, value in inside.items() if before.get(name) != value}
        _set(before)
        try:
            yield StandIn(rehearsal, variables)
        finally:
            _set(inside)
    assert dict(os.environ) == before, "a rehearsal restores the environment"


def _set(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


@pytest.fixture
def azure(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Rehearsal:
    """The stand-in as this test finds it: no fault left over from another."""
    return entered(stand_in, monkeypatch)


def entered(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> Rehearsal:
    """A stand-in that this test's clients meet, and shorter waits."""
    for name, value in stand_in.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(connection, "RETRIES", connection.RETRIES | {"retry_backoff_factor": 0.02})
    monkeypatch.setattr(store, "RETRIES", store.RETRIES | {"initial_backoff": 0, "increment_base": 0})
    monkeypatch.setattr(store, "_SLOWER_SECONDS", (0.1,) * 5)
    monkeypatch.setattr(follow, "_SLOWEST", 1.0)
    for module in (connection, endpoint, apps, images):
        monkeypatch.setattr(module, "_POLL_SECONDS", 0.05)
    stand_in.rehearsal.cloud.faults.clear()
    stand_in.rehearsal.cloud.violations.clear()
    stand_in.rehearsal.proxy.refused.clear()
    return stand_in.rehearsal


MakeJob = Callable[..., Spec]


@pytest.fixture
def job(tmp_path: Path) -> MakeJob:
    """Changes of the spec -> a job of its own name, so that no test finds what another has made in Azure."""

    def make(azure: dict[str, Any] | None = None, **changes: Any) -> Spec:
        settings = {"workspace": f"{SUBSCRIPTION}/{GROUP}/{WORKSPACE}", "gpu": None, "cpu": CPU} | (azure or {})
        # The instruction makes the work another one, the name its assets.
        task = {"kind": "classify", "instruction": f"Route {tmp_path.name}:\n{{labels}}",
                "labels": ["billing", "defect", "refund"]}  # fmt: skip
        name = tmp_path.name[-50:].replace("_", "-").lower()
        data = {"name": f"t-{name}", "task": task, "azure": settings} | changes
        return load_spec(write_project(tmp_path / str(changes.get("name", "project")), **data))

    return make


def fails(azure: Rehearsal, pattern: str, status: int, code: str = "Broken", message: str = "It is broken.",
          times: int = 1, **headers: str) -> Fault:  # fmt: skip
    """Let requests whose `METHOD host/path` match fail."""
    fault = Fault(pattern, error(status, code, message, **headers), times)
    azure.cloud.faults.append(fault)
    return fault


def puts(azure: Rehearsal, what: str = "", since: int = 0) -> list[str]:
    """Paths that were put and contain some text."""
    return [call.path for call in azure.cloud.calls[since:] if call.method == "PUT" and what in call.path]


def uploaded(azure: Rehearsal, since: int = 0) -> int:
    """Bytes that clients sent to the storage."""
    return sum(c.sent for c in azure.cloud.calls[since:] if c.method == "PUT" and c.host.endswith(".windows.net"))


def running(azure: Rehearsal) -> list[str]:
    """The jobs that cost money now."""
    return [job.name for job in azure.runner.jobs.values() if job.told not in ("Completed", "Failed", "Canceled")]


def ended(azure: Rehearsal, seconds: float = 30) -> None:
    """Wait until nothing runs, as a cancelled job takes a moment to end; fail where something goes on."""
    end = time.monotonic() + seconds
    while running(azure):
        assert time.monotonic() < end, running(azure)
        time.sleep(0.1)
