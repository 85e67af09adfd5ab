"""The emulator's refusals, each by a rule of rules.yaml, and Tunewright's messages about them."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from tests.backends.azure.conftest import REGION, SUBSCRIPTION, MakeJob
from tests.backends.azure.deploying import Deploying
from tests.backends.azure.test_new_subscription import RESOURCES, asked
from tunewright.azure_emulator import AzureEmulator
from tunewright.azure_emulator.apps import _merged
from tunewright.azure_emulator.storage import HOST
from tunewright.backends.azure.bases import python_base
from tunewright.backends.azure.connection import ARM, Connection, connect
from tunewright.core.errors import UserError
from tunewright.deploy import endpoint, images, live_endpoint
from tunewright.deploy.cluster import Cluster
from tunewright.deploy.live_app import VERSION as APPS

SIZE = "Standard_F4s_v2"
ENDPOINTS = "2022-02-01-preview"


@pytest.fixture
def at(azure: AzureEmulator, job: MakeJob) -> Iterator[Connection]:
    """The workspace, restored for other tests."""
    yield connect(job())
    azure.endpoints.seconds = azure.apps.seconds = 0.0
    azure.endpoints.keeps_unfinished = azure.endpoints.stuck = False
    azure.registry.on_free_credit = azure.registry.is_limited = False
    azure.set_private(False)
    azure.cloud.violations.clear()


def endpoint_of(at: Connection, name: str) -> str:
    """Make an endpoint. Returns its path in Resource Manager."""
    path = f"{at.name.path}/onlineEndpoints/{name}"
    asked(at, "PUT", path, {"location": REGION, "properties": {"authMode": "AADToken"}})
    return path


def deploy(at: Connection, path: str, **properties: Any) -> None:
    told = {"endpointComputeType": "Managed", "instanceType": SIZE, "model": "none"} | properties
    body = {"location": REGION, "properties": told, "sku": {"name": "Default", "capacity": 1}}
    asked(at, "PUT", f"{path}/deployments/one", body)


# Locks


def test_a_lock_keeps_what_lies_below_it(azure: AzureEmulator, at: Connection) -> None:
    lock = f"{at.name.path}/providers/Microsoft.Authorization/locks/keep"
    path = endpoint_of(at, "locked")
    asked(at, "PUT", lock, {"properties": {"level": "CanNotDelete"}})
    with pytest.raises(UserError, match=r"409, ScopeLocked.*cannot perform delete operation.*are locked") as refused:
        asked(at, "DELETE", path)
    assert "az lock list" in str(refused.value.fix)
    with pytest.raises(UserError, match="ScopeLocked"):
        asked(at, "DELETE", at.name.path)
    endpoint_of(at, "locked")  # it may still be changed
    asked(at, "PUT", lock, {"properties": {"level": "ReadOnly"}})
    with pytest.raises(UserError, match=r"409, ScopeLocked.*cannot perform write operation"):
        endpoint_of(at, "locked")
    assert asked(at, "GET", path)["name"] == "locked"
    asked(at, "DELETE", lock)
    asked(at, "DELETE", path)
    assert azure.cloud.get(path) is None


# One change after the other


def test_an_endpoint_that_is_updated_is_neither_changed_nor_deleted(azure: AzureEmulator, at: Connection) -> None:
    path = endpoint_of(at, "updated")
    azure.endpoints.seconds = 1.0
    endpoint_of(at, "updated")
    assert asked(at, "GET", path)["properties"]["provisioningState"] == "Updating"
    for method in ("PUT", "DELETE"):
        with pytest.raises(UserError, match=r"409, Conflict.*Updating provisioning state") as refused:
            asked(at, method, path, {"location": REGION, "properties": {"authMode": "AADToken"}})
        assert "when it has ended" in str(refused.value.fix)
    time.sleep(1.0)
    assert asked(at, "GET", path)["properties"]["provisioningState"] == "Succeeded"
    asked(at, "DELETE", path)


def test_a_container_app_takes_one_change_at_a_time(azure: AzureEmulator, project: Deploying) -> None:
    old = project.release("aca")
    path, at = old.live.path, project.at
    azure.apps.seconds = 1.0
    try:
        begun = at._send("PATCH", f"{ARM}{path}", {"api-version": APPS}, {"tags": {"a": "b"}})
        assert begun.status_code == 202 and begun.headers["location"]
        for method in ("PATCH", "DELETE"):
            with pytest.raises(UserError, match=r"409, ContainerAppOperationInProgress.*active provision") as refused:
                asked(at, method, path, {})
            assert "Another change of it is under way" in str(refused.value.fix)
        assert old.live.get()["properties"]["provisioningState"] == "InProgress"
        asked(at, "GET", begun.headers["location"].removeprefix(ARM).partition("?")[0])
    finally:
        azure.apps.seconds = 0.0


@pytest.mark.parametrize("to", ["aml", "aca"])
def test_a_rollout_waits_for_the_end_of_each_of_its_changes(azure: AzureEmulator, project: Deploying, to: str) -> None:
    azure.endpoints.seconds = azure.apps.seconds = 0.3
    try:
        project.release(to)
        new = project.release(to, "two", canary=20)
        project.conclude(to, promote=True)
        assert project.state(to).shares == {new.fresh: 100}
    finally:
        azure.endpoints.seconds = azure.apps.seconds = 0.0


def test_what_can_not_be_deleted_while_it_is_made_is_named(
    azure: AzureEmulator, project: Deploying, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (endpoint, live_endpoint):
        monkeypatch.setattr(module, "STUCK_SECONDS", 0.5)
    azure.endpoints.stuck = azure.endpoints.keeps_unfinished = True
    try:
        with pytest.raises(UserError, match=r"was not ready after.*Still deployed") as told:
            project.release("aml")
    finally:
        azure.endpoints.keeps_unfinished = False
    assert project.target("aml").fresh in str(told.value) and "--rollback" in str(told.value.fix)


# Names


def test_an_endpoints_name_is_its_own_in_the_region(azure: AzureEmulator, at: Connection, job: MakeJob) -> None:
    other = connect(job(azure={"workspace": f"{SUBSCRIPTION}/group/other"}))
    path = endpoint_of(other, "theirs")
    with pytest.raises(UserError, match=r"400, BadRequest.*Endpoint name needs to be unique within a region"):
        endpoint_of(at, "Theirs")
    asked(other, "DELETE", path)
    asked(at, "DELETE", endpoint_of(at, "theirs"))
    assert not azure.cloud.matching("/onlineEndpoints/theirs")


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("providers/Microsoft.MachineLearningServices/workspaces/w", "BadRequest"),
        ("providers/Microsoft.MachineLearningServices/workspaces/space/models/_m/versions/1", "BadRequest"),
        ("providers/Microsoft.MachineLearningServices/workspaces/space/jobs/-j", "BadRequest"),
        ("providers/Microsoft.App/containerApps/Upper", "ContainerAppInvalidName"),
    ],
)
def test_names_that_azure_does_not_take(at: Connection, path: str, code: str) -> None:
    with pytest.raises(UserError, match=rf"\(400, {code}\)"):
        asked(at, "PUT", f"{RESOURCES}/{path}", {"location": REGION, "properties": {}})


@pytest.mark.parametrize(
    ("name", "says"),
    [("x" * 54, "release name is invalid"), ("Upper", "release name is invalid"), ("a.b", 'Namespace "a.b" is inval')],
)
def test_names_that_helm_does_not_take(at: Connection, name: str, says: str) -> None:
    command = f"helm upgrade --install {name} chart --namespace {name} --create-namespace --values values.json"
    with pytest.raises(UserError, match=says):
        Cluster(at).run(command, {"values.json": b"{}"})


# Deployments


def test_a_managed_network_and_closed_egress_don_t_go_together(azure: AzureEmulator, at: Connection) -> None:
    path = endpoint_of(at, "egress")
    with pytest.raises(UserError, match="has no private link"):
        deploy(at, path, egressPublicNetworkAccess="Disabled")
    azure.set_private(True)
    assert Connection(at.name).is_private
    with pytest.raises(UserError, match=r"400, BadRequest.*does not apply in a workspace with a managed network"):
        deploy(at, path, egressPublicNetworkAccess="Disabled")
    deploy(at, path)
    asked(at, "DELETE", path)


def test_a_request_may_take_three_minutes(at: Connection) -> None:
    path = endpoint_of(at, "patient")
    with pytest.raises(UserError, match=r"400, BadRequest.*PT3M1S is longer than 180000 ms"):
        deploy(at, path, requestSettings={"requestTimeout": "PT3M1S"})
    assert endpoint._MOST_MS == 180_000
    deploy(at, path, requestSettings={"requestTimeout": "PT180S"})
    asked(at, "DELETE", path)


def test_there_are_no_machines_of_retired_series(at: Connection) -> None:
    machines = {"vmSize": "Standard_NC6s_v3", "scaleSettings": {"minNodeCount": 0, "maxNodeCount": 1}}
    cluster = {"location": REGION, "properties": {"computeType": "AmlCompute", "properties": machines}}
    with pytest.raises(UserError, match=r"property Cluster\.Properties\.VMSize is not a supported VM size"):
        asked(at, "PUT", f"{at.name.path}/computes/retired", cluster)
    path = endpoint_of(at, "retired")
    with pytest.raises(UserError, match="Standard_NC6s_v3 for instanceType is not a supported VM size"):
        deploy(at, path, instanceType="Standard_NC6s_v3")
    asked(at, "DELETE", path)


# Images


def build(at: Connection, folder: Path, base: str) -> None:
    (folder / "infra" / "docker").mkdir(parents=True, exist_ok=True)
    dockerfile = f"FROM {base} AS base\nFROM base AS it\n"
    (folder / "infra" / "docker" / "Dockerfile").write_text(dockerfile, "utf-8")
    images.build(at, images.registry_of(at), "tunewright/refused:1", folder, "it")


def test_free_credit_builds_no_image(azure: AzureEmulator, at: Connection, tmp_path: Path) -> None:
    azure.registry.on_free_credit = True
    with pytest.raises(UserError, match=r"400, TasksOperationsNotAllowed.*are not permitted") as refused:
        build(at, tmp_path, "python:3.12-slim")
    assert "change to pay as you go" in str(refused.value.fix)
    azure.registry.on_free_credit = False
    build(at, tmp_path, "python:3.12-slim")


@pytest.mark.parametrize("base", ["python:3.12-slim", "vllm/vllm-openai:v1", "docker.io/library/python:3.12"])
def test_docker_hub_gives_no_more_images_and_the_way_around_works(
    azure: AzureEmulator, at: Connection, tmp_path: Path, base: str
) -> None:
    azure.registry.is_limited = True
    with pytest.raises(UserError, match="toomanyrequests") as refused:
        build(at, tmp_path, base)
    assert python_base("3.12") in str(refused.value.fix)
    build(at, tmp_path, python_base("3.12"))


# Storage and patches


def test_the_storage_takes_no_keys(azure: AzureEmulator) -> None:  # noqa: ARG001
    from azure.storage.blob import BlobServiceClient

    key = base64.b64encode(b"a key").decode()
    client = BlobServiceClient(f"https://{HOST}", credential=key, retry_total=0)
    with pytest.raises(HttpResponseError) as refused:
        client.get_blob_client("azureml", "x").download_blob()
    assert (refused.value.status_code, refused.value.error_code) == (403, "KeyBasedAuthenticationNotPermitted")


def test_a_merge_patch_takes_out_and_replaces() -> None:
    known = {"tags": {"a": "1", "b": "2"}, "traffic": [1, 2], "other": {"x": 1}}
    patch = {"tags": {"a": None, "c": "3"}, "traffic": [3]}
    assert _merged(known, patch) == {"tags": {"b": "2", "c": "3"}, "traffic": [3], "other": {"x": 1}}
