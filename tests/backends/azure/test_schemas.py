"""The official ARM schemas ship with the package: they allow every body that is sent, and each body is checked."""

from __future__ import annotations

from importlib.resources import files

import pytest

from tests.backends.azure.conftest import MakeJob
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.azure_emulator.schemas import complaints, is_covered

PROVIDERS = "/subscriptions/s/resourceGroups/g/providers"
ML = f"{PROVIDERS}/Microsoft.MachineLearningServices/workspaces/w"


def test_they_ship_small_and_with_their_licence() -> None:
    folder = files("tunewright.azure_emulator") / "arm_schemas"
    assert len((folder / "schemas.json.gz").read_bytes()) < 100_000
    assert "MIT" in (licence := (folder / "LICENSE").read_text("utf-8")) and "Microsoft" in licence


def test_the_check_of_bodies_finds_what_is_wrong() -> None:
    path, version = f"{ML}/data/d/versions/1", "2023-04-01-preview"
    good = {"properties": {"dataType": "uri_folder", "dataUri": "azureml://x", "isAnonymous": False, "tags": None}}
    assert complaints(path, version, good) == []

    def complaint(**changes: object) -> str:
        properties = {key: value for key, value in (good["properties"] | changes).items() if value != "left out"}
        return " ".join(complaints(path, version, {"properties": properties}))

    assert "dataKind" in complaint(dataKind="x")
    assert "dataUri" in complaint(dataUri="left out")
    assert "uri_thing" in complaint(dataType="uri_thing")
    machines = {"vmSize": "Standard_D4s_v3", "vmPrioritee": "Dedicated"}
    cluster = {"location": "eastus", "properties": {"computeType": "AmlCompute", "properties": machines}}
    assert "vmPrioritee" in " ".join(complaints(f"{ML}/computes/c", "2023-08-01-preview", cluster))
    for unknown in ((f"{ML}/unheard/of", "2023-08-01-preview"), (path, "1999-01-01")):
        assert not is_covered(*unknown) and complaints(*unknown, {"anything": 1}) == []


def test_a_container_app_is_checked_too() -> None:
    app = f"{PROVIDERS}/Microsoft.App/containerApps/a"
    container = {"name": "serve", "image": "r.azurecr.io/a@sha256:0", "resources": {"cpu": 2, "memory": "4Gi"}}
    body = {"location": "eastus", "properties": {"template": {"containers": [container]}}}
    assert complaints(app, "2025-07-01", body) == []
    container["imagee"] = "x"
    assert "imagee" in " ".join(complaints(app, "2025-07-01", body))


def test_what_a_run_sends_is_allowed_and_all_of_it_was_checked(azure: AzureEmulator, job: MakeJob) -> None:
    """Another azure-ai-ml may use other api-versions: then tools/arm_schemas.py has to know them."""
    before = len(azure.cloud.calls)
    spec = job(azure={"cpu": "Standard_F8s_v2"})
    api.check(spec, on="azure")  # a command job
    api.split(spec, on="azure", force=True)  # a pipeline
    assert azure.cloud.violations == []
    sent = [c for c in azure.cloud.calls[before:] if c.method == "PUT" and c.host == "management.azure.com"]
    assert {"computes", "jobs", "data", "components"} <= {part for call in sent for part in call.path.split("/")[9::2]}
    assert not [str(call) + call.version for call in sent if not is_covered(call.path, call.version)]


@pytest.mark.usefixtures("azure")
def test_what_they_do_not_allow_is_told_at_the_end(azure: AzureEmulator) -> None:
    azure.cloud.violations.append("data/d (2023-04-01) $.properties: 'dataKind' was unexpected")
    assert azure.bill.lines[-1].strip() == azure.cloud.violations[0]
