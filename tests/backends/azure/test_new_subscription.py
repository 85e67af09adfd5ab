"""A new subscription, which is what the emulator plays: what it refuses, and what Tunewright says about that."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from tests.backends.azure.conftest import GROUP, REGION, SUBSCRIPTION, Emulation, MakeJob, emulating, entered, puts
from tunewright import api
from tunewright.azure_emulator import AzureEmulator, roles
from tunewright.azure_emulator.cloud import PERSON
from tunewright.azure_emulator.endpoints import EndpointDeployment
from tunewright.azure_emulator.offers import family
from tunewright.azure_emulator.roles import action_of
from tunewright.backends.azure import connection, machines
from tunewright.backends.azure.connection import Connection, connect
from tunewright.backends.azure.refusals import azure_errors
from tunewright.backends.azure.rules import rules
from tunewright.config import Spec
from tunewright.core.errors import Check, UserError
from tunewright.deploy.preflight import preflight, require
from tunewright.deploy.rights import image_checks
from tunewright.pipeline.steps import STEPS, steps_to

T4, SERVING = "Standard_NC4as_T4_v3", "Standard_F4s_v2"
RESOURCES = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
ML = "Microsoft.MachineLearningServices/workspaces"


@pytest.fixture(scope="module")
def new_subscription() -> Iterator[Emulation]:
    with emulating(seasoned=False) as made:
        yield made


@pytest.fixture
def new(new_subscription: Emulation, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEmulator]:
    """It, as nobody has changed it yet."""
    azure = entered(new_subscription, monkeypatch)
    assignments, registered = list(azure.access.assignments), set(azure.providers.registered)
    yield azure
    azure.access.assignments[:] = assignments
    azure.providers.registered = registered
    azure.offers.quota.clear()


def checks(spec: Spec, deploy: str | None = None) -> dict[str, Check]:
    found = preflight(spec, connect(spec), lambda: None, steps_to(spec, "bundle"), deploy=deploy)
    return {check.name: check for check in found}


def failed(found: dict[str, Check]) -> list[str]:
    return [name for name, check in found.items() if not check.passed]


def asked(at: Connection, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """A call's answer, or its refusal as a user is told it."""
    with azure_errors("it"):
        return at.ask(method, path, "2023-04-01-preview", body)


# Quota


def test_there_are_no_gpus_and_the_way_around_is_told(new: AzureEmulator, job: MakeJob) -> None:
    before = len(new.cloud.calls)
    found = checks(job(azure={"gpu": T4}))
    # The cluster of GPUs would have to be made, too.
    assert failed(found) == ["permissions", f"quota of {T4}"]
    assert found[f"quota of {T4}"].found == "4 cores needed, 0 of 0 free"
    remedy = found[f"quota of {T4}"].remedy
    assert remedy.endswith("or go on without a GPU: azure.gpu=null.")
    assert "az quota create --resource-name standardNCASv3_T4Family --limit-object value=4" in remedy
    assert "az provider register --namespace Microsoft.Quota" in remedy
    assert "AzureML Compute Operator" in found["permissions"].remedy
    assert not puts(new, since=before)


@pytest.mark.usefixtures("new")
def test_without_a_gpu_nothing_is_in_the_way(job: MakeJob) -> None:
    assert failed(checks(job())) == []
    assert failed(checks(job(traffic={"machine": SERVING}), deploy="aml")) == []


@pytest.mark.usefixtures("new")
def test_a_linear_model_asks_for_no_gpu(job: MakeJob) -> None:
    """Though the spec names one, for other candidates."""
    found = api.preflight(job(model="linear", azure={"gpu": T4}))
    assert [check.name for check in found if not check.passed] == []


def test_a_step_runs_with_no_more_than_a_persons_roles(new: AzureEmulator, job: MakeJob) -> None:
    """Nothing is refused on the way, and the cluster is the one that azd made."""
    before = len(new.cloud.calls)
    api.check(job(), on="azure")
    calls = new.cloud.calls[before:]
    assert not [str(call) for call in calls if call.status in (403, 409, 429)]
    assert puts(new, "/jobs/", before) and not puts(new, "/computes/", before)


def test_a_cluster_beyond_the_quota_fails_and_is_made_again(new: AzureEmulator, job: MakeJob) -> None:
    spec = job(azure={"gpu": T4})
    at = connect(spec)
    new.access.assign("AzureML Compute Operator", at.name.path)
    with pytest.raises(UserError, match=r"the cluster tunewright-gpu") as refused:
        machines.cluster(at, STEPS["train"], spec, {})
    assert "vCPU quota of 0" in str(refused.value) and "tunewright azure preflight" in str(refused.value.fix)
    assert not machines.is_ready(at, STEPS["train"], spec)
    new.offers.quota[family(T4)] = 4
    assert machines.cluster(at, STEPS["train"], spec, {}) == "tunewright-gpu"
    assert machines.is_ready(at, STEPS["train"], spec)
    new.cloud.remove(f"{at.name.path}/computes/tunewright-gpu")


def test_an_endpoint_takes_quota_with_its_reserve_until_it_goes(new: AzureEmulator, job: MakeJob) -> None:
    spec = job(traffic={"machine": SERVING})
    at = connect(spec)
    endpoint = f"{at.name.path}/onlineEndpoints/quotas"
    asked(at, "PUT", endpoint, {"location": REGION, "properties": {"authMode": "AADToken"}})

    def deploy(name: str, count: int) -> None:
        properties = {"endpointComputeType": "Managed", "instanceType": SERVING, "model": "none"}
        body = {"location": REGION, "properties": properties, "sku": {"name": "Default", "capacity": count}}
        asked(at, "PUT", f"{endpoint}/deployments/{name}", body)

    with pytest.raises(UserError, match=r"Current usage/limit: 0/24\. Additional needed: 32") as refused:
        deploy("large", 6)
    assert "--to aml" in str(refused.value.fix)
    deploy("small", 3)  # four machines of quota
    found = checks(spec, deploy="aml")
    assert failed(found) == ["quota of the region"]
    assert found["quota of the region"].found == "12 cores needed, 8 of 24 free"
    new.cloud.violations.clear()
    asked(at, "DELETE", endpoint)
    assert failed(checks(spec, deploy="aml")) == []


def test_the_region_has_a_quota_of_its_own(new: AzureEmulator, job: MakeJob) -> None:
    """Whatever a family was granted."""
    large = "Standard_F32s_v2"
    spec = job(azure={"cpu": large})
    at = connect(spec)
    new.access.assign("AzureML Compute Operator", at.name.path)
    new.offers.quota[family(large)] = 64
    with pytest.raises(UserError, match=r"a total vCPU quota of 24 and cannot accomodate.*maps to 32 vCPUs") as refused:
        machines.cluster(at, STEPS["check"], spec, {})
    assert "tunewright azure preflight" in str(refused.value.fix)
    endpoint = f"{at.name.path}/onlineEndpoints/region"
    asked(at, "PUT", endpoint, {"location": REGION, "properties": {"authMode": "AADToken"}})
    new.offers.quota[family(SERVING)] = 64
    properties = {"endpointComputeType": "Managed", "instanceType": SERVING, "model": "none"}
    body = {"location": REGION, "properties": properties, "sku": {"name": "Default", "capacity": 6}}
    with pytest.raises(UserError, match=r"400, OutOfQuota.*requested is 32, .*maximum quota is 24"):
        asked(at, "PUT", f"{endpoint}/deployments/large", body)
    asked(at, "DELETE", endpoint)
    new.cloud.violations.clear()
    for path, _ in new.cloud.matching("/computes/tunewright-f32s-v2$"):
        new.cloud.remove(path)


# Providers


def test_what_nobody_registered_is_told_with_the_command(new: AzureEmulator, job: MakeJob) -> None:
    spec = job()
    at = connect(spec)
    before = len(new.cloud.calls)
    with pytest.raises(UserError, match=r"✗ provider Microsoft\.App: NotRegistered\.") as refused:
        require(image_checks(spec, at, "aca"))
    command = f"az provider register --namespace Microsoft.App --subscription {SUBSCRIPTION} --wait"
    assert command in str(refused.value.fix)
    assert {call.method for call in new.cloud.calls[before:]} <= {"GET", "POST"}
    assert not [call for call in new.cloud.calls[before:] if "scheduleRun" in call.path]
    assert "provider Microsoft.ContainerService" in failed(checks(spec, deploy="aks"))


def test_a_provider_is_registered_after_a_while(new: AzureEmulator, job: MakeJob) -> None:
    at = connect(job())
    apps = f"{RESOURCES}/providers/Microsoft.App/containerApps"
    with pytest.raises(UserError, match=r"409, MissingSubscriptionRegistration") as refused:
        asked(at, "GET", apps)
    assert "--namespace Microsoft.App" in str(refused.value.fix)
    provider = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.App"
    with pytest.raises(UserError, match=r"403, AuthorizationFailed.*Microsoft\.App/register/action"):
        asked(at, "POST", f"{provider}/register")
    new.access.assign("Contributor", f"/subscriptions/{SUBSCRIPTION}")
    assert asked(at, "POST", f"{provider}/register")["registrationState"] == "Registering"
    states = [asked(at, "GET", provider)["registrationState"] for _ in range(3)]
    assert states[-1] == "Registered"
    assert asked(at, "GET", apps)["value"] is not None


# Roles


@pytest.mark.parametrize(
    ("method", "path", "action"),
    [
        ("GET", f"{RESOURCES}/providers/{ML}/w", f"{ML}/read"),
        ("PUT", f"{RESOURCES}/providers/{ML}/w/jobs/j", f"{ML}/jobs/write"),
        ("POST", f"{RESOURCES}/providers/{ML}/w/jobs/j/cancel", f"{ML}/jobs/cancel/action"),
        ("POST", f"{RESOURCES}/providers/{ML}/w/datastores/d/listSecrets", f"{ML}/datastores/listSecrets/action"),
        (
            "DELETE",
            f"{RESOURCES}/providers/{ML}/w/onlineEndpoints/e/deployments/d",
            f"{ML}/onlineEndpoints/deployments/delete",
        ),
        ("GET", f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Compute/skus", "Microsoft.Compute/skus/read"),
        (
            "GET",
            f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.App",
            "Microsoft.Resources/subscriptions/providers/read",
        ),
        ("POST", f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.App/register", "Microsoft.App/register/action"),
        ("GET", RESOURCES, "Microsoft.Resources/subscriptions/resourceGroups/read"),
    ],
)
def test_the_action_that_a_call_needs(method: str, path: str, action: str) -> None:
    assert action_of(method, path)[0] == action


def test_a_person_may_neither_make_clusters_nor_build_images(new: AzureEmulator, job: MakeJob) -> None:
    at = connect(job())
    with pytest.raises(UserError, match=r"403, AuthorizationFailed.*perform action .*/computes/write") as refused:
        asked(at, "PUT", f"{at.name.path}/computes/another", {"properties": {}})
    assert "less than ten minutes ago" in str(refused.value.fix)
    with pytest.raises(UserError, match=r"scheduleRun/action"):
        asked(at, "POST", f"{RESOURCES}/providers/Microsoft.ContainerRegistry/registries/emulator/scheduleRun", {})
    found = {check.name: check for check in image_checks(job(name="again"), at, "aks")}
    assert "Contributor on the resource group" in found["permissions for aks"].remedy
    new.access.assign("Contributor", RESOURCES)
    found = {check.name: check for check in image_checks(job(name="more"), at, "aks")}
    assert found["permissions for aks"].passed


def test_owners_have_no_blobs(new: AzureEmulator, job: MakeJob) -> None:
    new.access.assignments.clear()
    new.access.assign("Owner", f"/subscriptions/{SUBSCRIPTION}")
    found = checks(job())
    assert failed(found) == ["storage"]
    assert "AuthorizationPermissionMismatch" in found["storage"].found


def test_what_runs_as_an_identity_needs_leave_to_assign_it(new: AzureEmulator, job: MakeJob) -> None:
    identity = f"{RESOURCES}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/another"
    spec = job(azure={"gpu": T4, "identity": identity})
    at = connect(spec)
    found = checks(spec)
    assert "Managed Identity Operator on another" in found["identity"].remedy
    new.access.assign("AzureML Compute Operator", at.name.path)
    with pytest.raises(UserError, match=r"403, LinkedAuthorizationFailed"):
        machines.cluster(at, STEPS["train"], spec, {})


@pytest.fixture
def minutes_pass(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Moves the clock of roles on by ten minutes."""
    begun, moved = time.monotonic, 0.0

    def move() -> None:
        nonlocal moved
        moved += 600

    monkeypatch.setattr(roles, "time", SimpleNamespace(monotonic=lambda: begun() + moved))
    return move


def test_a_role_that_was_just_given_is_not_in_force(
    new: AzureEmulator, job: MakeJob, minutes_pass: Callable[[], None]
) -> None:
    spec = job()
    new.access.assignments[:] = [each for each in new.access.assignments if "Blob" not in each.role]
    new.access.assign("Storage Blob Data Contributor", new.access.storage, after=600)
    found = checks(spec)
    assert failed(found) == ["storage"] and "up to ten minutes" in found["storage"].remedy
    minutes_pass()
    assert failed(checks(spec)) == []


def test_a_role_counts_a_while_after_it_is_assigned_and_taken(
    new: AzureEmulator, job: MakeJob, minutes_pass: Callable[[], None]
) -> None:
    at = connect(job())
    given = f"{new.access.storage}/providers/Microsoft.Authorization/roleAssignments/mine"
    role = rules().roles["Storage Blob Data Contributor"].id
    defined = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Authorization/roleDefinitions"
    body = {"properties": {"roleDefinitionId": f"{defined}/{role}", "principalId": PERSON, "principalType": "User"}}
    with pytest.raises(UserError, match=r"403, AuthorizationFailed.*roleAssignments/write"):
        asked(at, "PUT", given, body)
    new.access.assignments.clear()
    new.access.assign("Owner", f"/subscriptions/{SUBSCRIPTION}")
    new.access.slow = 600
    asked(at, "PUT", given, body)
    found = checks(job())
    assert failed(found) == ["storage"] and "up to ten minutes" in found["storage"].remedy
    minutes_pass()
    assert failed(checks(job())) == []
    asked(at, "DELETE", given)
    assert new.access.allows_blobs("read", PERSON)
    minutes_pass()
    assert not new.access.allows_blobs("read", PERSON)


# What else Azure refuses


def test_a_deleted_workspace_keeps_its_name(new: AzureEmulator, job: MakeJob) -> None:
    gone = connect(job(azure={"workspace": f"{SUBSCRIPTION}/{GROUP}/gone"}))
    new.access.assign("Contributor", RESOURCES)
    asked(gone, "PUT", gone.name.path, {"location": REGION, "properties": {}})
    asked(gone, "DELETE", gone.name.path)
    with pytest.raises(UserError, match=r"There is no workspace gone.*keeps it for 14 days") as refused:
        _ = gone.workspace
    assert "Recently deleted" in str(refused.value.fix)
    with pytest.raises(UserError, match="Soft-deleted workspace exists"):
        asked(gone, "PUT", gone.name.path, {"location": REGION, "properties": {}})
    new.cloud.violations.clear()


def test_who_asks_too_fast_waits(new: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    at = connect(job())
    reads = new.throttle.buckets["reads"]
    a_second_each_call = map(float, count()).__next__
    for name, value in {"left": 0.0, "since": 0.0, "rate": 1.0, "clock": a_second_each_call}.items():
        monkeypatch.setattr(reads, name, value)
    before = len(new.cloud.calls)
    assert asked(at, "GET", at.name.path)["name"]
    statuses = [call.status for call in new.cloud.calls[before:] if call.host == "management.azure.com"]
    assert statuses == [429, 200]
    monkeypatch.setattr(connection, "RETRIES", {"retry_total": 0})
    reads.left, reads.rate = 0.0, 0.5
    with pytest.raises(HttpResponseError) as refused:
        connect(job(name="other")).ask("GET", at.name.path, "2023-04-01-preview")
    headers = refused.value.response.headers
    assert headers["retry-after"] == "2" and headers["x-ms-ratelimit-remaining-subscription-reads"] == "0"


def test_one_change_of_an_endpoint_at_a_time(new: AzureEmulator, job: MakeJob) -> None:
    at = connect(job())
    endpoint = f"{at.name.path}/onlineEndpoints/busy"
    body = {"location": REGION, "properties": {"authMode": "AADToken"}}
    asked(at, "PUT", endpoint, body)
    new.endpoints._standing["busy/one"] = EndpointDeployment()
    with pytest.raises(UserError, match=r"409, Conflict.*Updating provisioning state") as refused:
        asked(at, "PUT", endpoint, body)
    assert "Type the same command again when it has ended" in str(refused.value.fix)
    new.endpoints._standing.pop("busy/one")
    asked(at, "PUT", endpoint, body)
    asked(at, "DELETE", endpoint)


@pytest.mark.parametrize(
    "name", ["computes/tunewright-nc24ads-a100-v4", "computes/ends-in-4", "onlineEndpoints/a--b", "onlineEndpoints/ab"]
)
def test_names_that_azure_does_not_take(new: AzureEmulator, job: MakeJob, name: str) -> None:
    new.access.assign("Contributor", RESOURCES)
    at = connect(job())
    with pytest.raises(UserError, match=r"\(400, BadRequest\)"):
        asked(at, "PUT", f"{at.name.path}/{name}", {"location": REGION, "properties": {}})
