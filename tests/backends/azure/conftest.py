"""Fixtures of the Azure tests: one emulator for each worker, and small projects that run there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.backends.azure.deploying import SERVING, Deploying, Ready
from tests.conftest import write_project
from tunewright import api, load_spec
from tunewright.azure_emulator import AzureEmulator, emulated_azure
from tunewright.azure_emulator import apps as emulated_apps
from tunewright.azure_emulator import clusters as emulated_clusters
from tunewright.azure_emulator.cloud import InjectedFault, error
from tunewright.azure_emulator.emulated_job import OVER
from tunewright.azure_emulator.endpoints import EndpointDeployment, Endpoints
from tunewright.azure_emulator.images import Image
from tunewright.backends.azure import connection, follow, machines, store, waiting
from tunewright.config import Spec
from tunewright.deploy import apps, down, endpoint, images, kubernetes
from tunewright.deploy.apps import App
from tunewright.deploy.down import take_down
from tunewright.deploy.endpoint import ManagedEndpoint
from tunewright.deploy.kubernetes import Release

SUBSCRIPTION, GROUP, WORKSPACE, REGION = "00000000-0000-0000-0000-00000000feed", "group", "space", "eastus"
CPU = "Standard_D4s_v3"
IDENTITY = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.ManagedIdentity/"
    "userAssignedIdentities/id-emulator"
)
"""The identity of jobs and deployments, as azd makes it."""


@dataclass(frozen=True)
class Emulation:
    """The emulator, and the environment variables that lead there."""

    emulator: AzureEmulator
    variables: dict[str, str]


@pytest.fixture(scope="session")
def emulation() -> Iterator[Emulation]:
    """A subscription with quota and roles for everything, started once."""
    with emulating(seasoned=True) as started:
        yield started


@contextmanager
def emulating(*, seasoned: bool) -> Iterator[Emulation]:
    """Start an emulator. Inside the block this process has its own environment again."""
    before = dict(os.environ)
    with emulated_azure(SUBSCRIPTION, GROUP, WORKSPACE, REGION, seasoned=seasoned) as emulator:
        inside = dict(os.environ)
        variables = {name: value for name, value in inside.items() if before.get(name) != value}
        _set(before)
        try:
            yield Emulation(emulator, variables)
        finally:
            _set(inside)
    assert dict(os.environ) == before, "an emulator restores the environment"


def _set(variables: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


@pytest.fixture
def azure(emulation: Emulation, monkeypatch: pytest.MonkeyPatch) -> AzureEmulator:
    """The emulator without the faults of earlier tests."""
    return entered(emulation, monkeypatch)


def entered(emulation: Emulation, monkeypatch: pytest.MonkeyPatch) -> AzureEmulator:
    """Lead this test's clients to an emulator without the faults and calls of earlier tests, and shorten the waits."""
    for name, value in emulation.variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(connection, "RETRIES", connection.RETRIES | {"retry_backoff_factor": 0.02})
    monkeypatch.setattr(store, "RETRIES", store.RETRIES | {"initial_backoff": 0, "increment_base": 0})
    monkeypatch.setattr(store, "_SLOWER_SECONDS", (0.1,) * 5)
    monkeypatch.setattr(follow, "_SLOWEST", 1.0)
    for module in (connection, endpoint, apps, images, machines, down, waiting):
        monkeypatch.setattr(module, "_POLL_SECONDS", 0.05)
    emulation.emulator.cloud.faults.clear()
    emulation.emulator.cloud.violations.clear()
    emulation.emulator.proxy.refused.clear()
    emulation.emulator.cloud.ahead = 0.0
    emulation.emulator.runner.stuck.clear()
    for bucket in emulation.emulator.throttle.buckets.values():
        bucket.left = float(bucket.size)
    return emulation.emulator


MakeJob = Callable[..., Spec]


@pytest.fixture
def job(tmp_path: Path) -> MakeJob:
    """Makes a spec with a name of its own from changes, so that no test finds what another has made in Azure."""

    def make(azure: dict[str, Any] | None = None, **changes: Any) -> Spec:
        settings = {"workspace": f"{SUBSCRIPTION}/{GROUP}/{WORKSPACE}", "gpu": None, "cpu": CPU} | (azure or {})
        # The instruction makes the work's hash unique, the name its assets.
        task = {
            "kind": "classify",
            "instruction": f"Route {tmp_path.name}:\n{{labels}}",
            "labels": ["billing", "defect", "refund"],
        }
        name = tmp_path.name[-50:].replace("_", "-").lower()
        data = {"name": f"t-{name}", "task": task, "azure": settings} | changes
        return load_spec(write_project(tmp_path / str(changes.get("name", "project")), **data))

    return make


def fails(
    azure: AzureEmulator,
    pattern: str,
    status: int,
    code: str = "Broken",
    message: str = "It is broken.",
    times: int = 1,
    **headers: str,
) -> InjectedFault:
    """Let requests whose `METHOD host/path` matches fail."""
    fault = InjectedFault(pattern, error(status, code, message, **headers), times)
    azure.cloud.faults.append(fault)
    return fault


def puts(azure: AzureEmulator, what: str = "", since: int = 0) -> list[str]:
    """The paths with a text that clients have put."""
    return [call.path for call in azure.cloud.calls[since:] if call.method == "PUT" and what in call.path]


def uploaded(azure: AzureEmulator, since: int = 0) -> int:
    """Bytes that clients sent to the storage."""
    return sum(c.sent for c in azure.cloud.calls[since:] if c.method == "PUT" and c.host.endswith(".windows.net"))


def running(azure: AzureEmulator) -> list[str]:
    """The jobs that cost money now."""
    return [job.name for job in azure.runner.jobs.values() if job.client_status not in OVER]


def ended(azure: AzureEmulator, seconds: float = 30) -> None:
    """Wait until nothing runs; fail if something runs on.

    A cancelled job takes a moment to end, and so does a pipeline after its last step.
    """
    end = time.monotonic() + seconds
    while running(azure):
        assert time.monotonic() < end, running(azure)
        time.sleep(0.1)


@pytest.fixture
def project(azure: AzureEmulator, job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploying]:
    """A project on the emulator that serves without a model; its deployments are removed with the test."""
    monkeypatch.setenv("AZURE_ML_IDENTITY", IDENTITY)
    made = Deploying(azure, job(traffic=SERVING), tmp_path)

    def started(_: Endpoints, key: str, standing: EndpointDeployment, properties: dict[str, Any]) -> None:  # noqa: ARG001
        standing.server, standing.state = Ready(), "Succeeded"

    def image(_: Any, spec: Spec, bundle: Path, stage: str, identity: Path | None = None) -> str:
        name = f"tunewright/{spec.name}:{images.tag_of(spec, bundle, identity)}"
        azure.clusters._registry.images[name] = Image(bundle, stage)
        return f"emulator.azurecr.io/{name}"

    monkeypatch.setattr(Endpoints, "_start", started)
    monkeypatch.setattr(ManagedEndpoint, "_environment", lambda _: "azureml:env:1")
    monkeypatch.setattr(emulated_apps, "ModelContainer", Ready)
    monkeypatch.setattr(emulated_clusters, "ModelContainer", Ready)
    for module in (apps, kubernetes):
        monkeypatch.setattr(module, "built", image)
    for kind in (ManagedEndpoint, App, Release):
        monkeypatch.setattr(kind, "try_out", lambda *_: made.finds())
    yield made
    azure.cloud.faults.clear()
    take_down(api.standing(made.spec))
    assert not azure.cloud.violations


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.fspath).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.emulator)
