"""A process in the emulated cloud signs in as its own identity, and may do what that identity's roles allow."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends.azure.conftest import GROUP, REGION, SUBSCRIPTION, MakeJob
from tests.backends.azure.deploying import Deploying
from tests.backends.azure.test_containers import ran
from tests.backends.azure.test_new_subscription import RESOURCES, asked
from tunewright import api
from tunewright.azure_emulator import AzureEmulator, _access, _identity
from tunewright.azure_emulator.cloud import PERSON, TENANT, Cloud
from tunewright.azure_emulator.login import principal_of
from tunewright.azure_emulator.roles import Access
from tunewright.backends.azure.connection import connect
from tunewright.backends.azure.rules import rules
from tunewright.core.errors import UserError

IDENTITY = f"{RESOURCES}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/poor"
ACCESS = Path(__file__).parents[3] / "infra" / "modules" / "access.bicep"
BLOBS, PULL = "Storage Blob Data Contributor", "AcrPull"


@pytest.fixture
def access(azure: AzureEmulator) -> Iterator[Access]:
    """A subscription in which identities have only the roles that a test gives them."""
    before = list(azure.access.assignments)
    azure.access.assignments[:] = [each for each in before if each.principal == PERSON]
    yield azure.access
    azure.access.assignments[:] = before


def give(access: Access, *roles: str) -> None:
    scopes = {PULL: access.registry, "AzureML Data Scientist": access.workspace}
    for role in roles:
        access.assign(role, scopes.get(role, access.storage), principal=principal_of(IDENTITY))


def test_the_identity_has_the_roles_that_the_infrastructure_gives_it(tmp_path: Path) -> None:
    cloud = Cloud(SUBSCRIPTION, GROUP, "space", REGION, tmp_path)
    identity = principal_of(_identity(cloud))
    given = {
        (rules().roles[each.role].id, "/".join(each.scope.split("/providers/")[1].split("/")[:2]))
        for each in _access(cloud, seasoned=False).assignments
        if each.principal == identity
    }
    text = ACCESS.read_text("utf-8")
    roles = dict(re.findall(r"^  (\w+): '([0-9a-f-]{36})'", text, re.M))
    kinds = dict(re.findall(r"^resource (\w+) '([^@']+)@[^']+' existing", text, re.M))
    assignment = r"scope: (\w+)\n  properties: \{\n    principalId: identityPrincipalId\n.*\n.*roles\.(\w+)\)"
    made = re.findall(assignment, text)
    assert len(made) == 4
    assert given == {(roles[role], kinds[scope]) for scope, role in made}


def test_a_job_signs_in_as_its_identity(azure: AzureEmulator, access: Access) -> None:
    code = f"""
import httpx, jwt
from azure.identity import DefaultAzureCredential
token = DefaultAzureCredential().get_token('https://management.azure.com/.default').token
url = 'https://management.azure.com{azure.cloud.workspace}?api-version=2024-04-01'
answer = httpx.get(url, headers={{'Authorization': f'Bearer {{token}}'}})
print('asked', jwt.decode(token, options={{'verify_signature': False}})['oid'], answer.status_code, answer.text)
"""
    command = f"python -c {shlex.quote(code)}"
    _, log = ran(azure, command)
    assert f"asked {PERSON} 200" in log
    managed = {"identityType": "Managed", "resourceId": IDENTITY}
    _, log = ran(azure, command, identity=managed)
    assert f"asked {principal_of(IDENTITY)} 403" in log and "AuthorizationFailed" in log
    assert f"The client '{principal_of(IDENTITY)}' with object id" in log
    give(access, "AzureML Data Scientist")
    _, log = ran(azure, command, identity=managed)
    assert f"asked {principal_of(IDENTITY)} 200" in log


def test_a_job_whose_identity_lacks_the_blobs_fails_as_in_azure(access: Access, job: MakeJob) -> None:
    spec = job(azure={"identity": IDENTITY, "cpu": "Standard_F16s_v2"})
    with pytest.raises(UserError, match="The step check failed in Azure") as failed:
        api.check(spec, on="azure")
    assert "ScriptExecution.StreamAccess.Authentication" in str(failed.value)
    assert "not authorized to perform this operation using this permission" in str(failed.value)
    give(access, "Storage Blob Data Reader")
    with pytest.raises(UserError, match=r"ScriptExecution\.WriteStreams\.Authentication.*correct permissions"):
        api.check(spec, on="azure")
    give(access, BLOBS)
    api.check(spec, on="azure")


def test_a_deployment_whose_identity_lacks_roles_does_not_start(
    azure: AzureEmulator, access: Access, job: MakeJob
) -> None:
    at = connect(job())
    path = f"{at.name.path}/onlineEndpoints/poor"
    named = {"type": "UserAssigned", "userAssignedIdentities": {IDENTITY: {}}}
    asked(at, "PUT", path, {"location": REGION, "identity": named, "properties": {"authMode": "AADToken"}})
    told = {"endpointComputeType": "Managed", "instanceType": "Standard_F4s_v2", "model": "none"}
    body = {"location": REGION, "properties": told, "sku": {"name": "Default", "capacity": 1}}

    def log() -> str:
        asked(at, "PUT", f"{path}/deployments/one", body)
        end = time.monotonic() + 20
        while asked(at, "GET", f"{path}/deployments/one")["properties"]["provisioningState"] == "Creating":
            assert time.monotonic() < end
            time.sleep(0.05)
        said = str(asked(at, "POST", f"{path}/deployments/one/getLogs", {})["content"])
        asked(at, "DELETE", f"{path}/deployments/one")
        return said

    give(access, "Storage Blob Data Reader")
    assert "failed due to authorization error" in log() and IDENTITY in log()
    give(access, PULL)
    assert "authorization" not in log()
    asked(at, "DELETE", path)
    azure.cloud.violations.clear()


def test_an_app_whose_identity_may_not_pull_is_refused(
    project: Deploying, access: Access, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AZURE_ML_IDENTITY", IDENTITY)
    with pytest.raises(UserError, match=r"400, InvalidParameterValue.*unable to pull image using Managed identity"):
        project.release("aca")
    give(access, PULL)
    project.release("aca")


def test_an_apps_own_identity_can_not_pull_before_the_app_exists(project: Deploying) -> None:
    target: Any = project.target("aca")
    with_image: Any = project.release("aks")
    image = project.azure.clusters.releases[with_image.name]["stable"]["image"]
    body = target._body(image, {target.fresh: 100})
    body["properties"]["configuration"]["registries"][0]["identity"] = "system"
    with pytest.raises(UserError, match="unable to pull image using Managed identity system"):
        asked(project.at, "PUT", target.path, body)


def test_run_history_asks_for_a_role(azure: AzureEmulator, access: Access) -> None:
    from azure.identity import ClientSecretCredential

    run = f"https://{REGION}.api.azureml.ms/history/v1.0{azure.cloud.workspace}/runs/none"

    def status(principal: str) -> int:
        token = ClientSecretCredential(TENANT, principal, "emulator").get_token("https://ml.azure.com/.default").token
        return httpx.get(run, headers={"Authorization": f"Bearer {token}"}).status_code

    assert (status(PERSON), status(principal_of(IDENTITY))) == (404, 403)
    give(access, "AzureML Data Scientist")
    assert status(principal_of(IDENTITY)) == 404
