"""Before a cent is spent: each thing that is in the way is told with its remedy, and nothing was made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.backends.azure.conftest import GROUP, SUBSCRIPTION, MakeJob, fails
from tests.pipeline.made import model_folder
from tunewright.azure_emulator import AzureEmulator
from tunewright.azure_emulator.cloud import HttpResponse, InjectedFault
from tunewright.azure_emulator.offers import family
from tunewright.backends.azure.connection import connect
from tunewright.backends.azure.rules import is_allowed
from tunewright.config import Spec
from tunewright.core.errors import Check, UserError
from tunewright.deploy import preflight as module
from tunewright.deploy.preflight import preflight, require
from tunewright.deploy.quotas import quota_command
from tunewright.economics.speed import Range
from tunewright.pipeline.planning.project import ProjectPlan
from tunewright.pipeline.steps import steps_to

GPU = "Standard_NC24ads_A100_v4"
SERVING = {"machine": "Standard_F4s_v2"}
"""That managed endpoints take."""


@pytest.fixture
def offered(azure: AzureEmulator, monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureEmulator]:
    """A region whose offers a test may change, and whose cores nobody else's endpoints take."""
    monkeypatch.setattr(azure.offers, "_used", Counter)
    yield azure
    azure.offers.quota.clear()
    azure.offers.missing.clear()
    azure.offers.barred.clear()
    azure.offers.dearer = 1.0


def checks(
    spec: Spec, plan: ProjectPlan | None = None, to: str = "bundle", deploy: str | None = None
) -> dict[str, Check]:
    found = preflight(spec, connect(spec), lambda: plan, steps_to(spec, to), deploy=deploy)
    return {check.name: check for check in found}


def failed(found: dict[str, Check]) -> list[str]:
    return [name for name, check in found.items() if not check.passed]


@pytest.mark.usefixtures("offered")
def test_where_nothing_is_in_the_way(job: MakeJob) -> None:
    found = checks(job(azure={"gpu": GPU, "region": "East US"}, traffic=SERVING), deploy="aml")
    assert failed(found) == []
    assert found["region of the data"].found == "eastus"
    assert {f"price of {GPU}", f"size {GPU}", f"quota of {GPU}", "storage", "permissions", "total"} <= found.keys()


def test_each_is_told_with_its_remedy(offered: AzureEmulator, job: MakeJob) -> None:
    spec = job(azure={"gpu": GPU, "region": "westeurope", "nodes": 3})
    offered.offers.missing.add("Standard_D4s_v3")
    offered.offers.quota[family(GPU)] = 24
    role = {"actions": ["*/read"], "notActions": []}
    offered.cloud.faults.append(InjectedFault("GET .*/permissions$", HttpResponse(body={"value": [role]}), 99))
    fails(offered, r"GET .*windows\.net/", 403, "AuthorizationPermissionMismatch", "Not permitted.", 99)
    before = len(offered.cloud.calls)
    found = checks(spec)
    assert failed(found) == ["region of the data", "permissions", "storage", "size Standard_D4s_v3", f"quota of {GPU}"]
    assert (
        "westeurope" in found["region of the data"].found and "azure.workspace=" in found["region of the data"].remedy
    )
    assert "jobs/write" in found["permissions"].found and "AzureML Data Scientist" in found["permissions"].remedy
    assert "Storage Blob Data Contributor" in found["storage"].remedy
    assert (
        "azure.cpu=" in found["size Standard_D4s_v3"].remedy
        and "Standard_F8s_v2" in found["size Standard_D4s_v3"].remedy
    )
    assert found[f"quota of {GPU}"].found == "72 cores needed, 24 of 24 free"
    assert "48 more cores" in found[f"quota of {GPU}"].remedy
    assert "az quota create --resource-name standardNCADSA100v4Family --limit-object value=72 --scope /subs" in (
        found[f"quota of {GPU}"].remedy
    )
    with pytest.raises(UserError, match=r"Nothing was started in Azure\. ✗ region of the data.*✗ quota"):
        require(list(found.values()))
    assert all(call.method in ("GET", "POST", "HEAD") for call in offered.cloud.calls[before:])


@pytest.mark.parametrize(
    ("refused", "name"),
    [
        (r"/permissions$", "permissions"),
        (r"/vmSizes$", "machine sizes"),
        (r"/usages$", "quotas"),
        (r"/Microsoft\.Compute/skus$", "endpoint sizes"),
    ],
)
def test_what_can_not_be_asked_is_one_check_among_the_others(
    offered: AzureEmulator, job: MakeJob, refused: str, name: str
) -> None:
    fails(offered, f"GET .*{refused}", 403, "AuthorizationFailed", "No authorization.", 9)
    found = checks(job(traffic=SERVING), deploy="aml")
    assert name in failed(found)
    assert "(403, AuthorizationFailed)" in found[name].found and "role Reader" in found[name].remedy
    assert {"storage", "total"} <= found.keys()


def test_low_priority_and_endpoints_have_quotas_of_their_own(offered: AzureEmulator, job: MakeJob) -> None:
    offered.offers.quota[family(GPU)] = 0
    assert f"quota of {GPU}" in failed(checks(job(azure={"gpu": GPU})))
    assert f"quota of {GPU}" not in failed(checks(job(azure={"gpu": GPU, "low_priority": True})))
    serving = {"machine": "Standard_F8s_v2", "redundancy": 2}
    offered.offers.quota[family("Standard_F8s_v2")] = 16
    found = checks(job(traffic=serving), deploy="aml")
    (name,) = failed(found)
    assert "endpoint" in name and found[name].found == "24 cores needed, 16 of 16 free"


def test_an_endpoints_machines_are_those_that_the_verdict_counts_with(
    offered: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `deploy` makes them; before a run at least those that stand ready."""
    spec = job(traffic=SERVING)
    offered.offers.quota[family(SERVING["machine"])] = 15
    name = "quota of at least 1 x Standard_F4s_v2 for the endpoint, a fifth in reserve"
    assert checks(spec, deploy="aml")[name].found.startswith("8 cores needed, 15 of 15 free; a canary will need 8 ")
    monkeypatch.setattr(module, "outputs_of", lambda _: SimpleNamespace(replicas=3))
    (name,) = failed(found := checks(spec, deploy="aml"))
    assert name == "quota of 3 x Standard_F4s_v2 for the endpoint, a fifth in reserve"
    assert found[name].found == "16 cores needed, 15 of 15 free"


@pytest.mark.usefixtures("offered")
def test_the_command_that_asks_for_quota_at_low_priority(job: MakeJob) -> None:
    remedy = checks(job(azure={"gpu": GPU, "low_priority": True}))[f"quota of {GPU}"].remedy
    command = quota_command(SUBSCRIPTION, "eastus", "Total Cluster LowPriority", 24)
    assert command in remedy and "--resource-name TotalLowPriorityCores" in command
    assert command.endswith("/locations/eastus --resource-type lowPriority")


@pytest.mark.usefixtures("offered")
def test_memory_and_money_of_a_plan(job: MakeJob) -> None:
    option = SimpleNamespace(machine=GPU, peak_gib=90.0, usable_gib=78.0, why="a batch is large", fits=False)
    training = SimpleNamespace(
        options=[option], cheapest=SimpleNamespace(machine="Standard_NC40ads_H100_v5"), sentence=""
    )
    plan: Any = SimpleNamespace(training=training, azure=SimpleNamespace(usd=Range(25.0, 60.5)))
    found = checks(job(azure={"gpu": GPU}), plan)
    assert failed(found) == ["GPU memory", "total"]
    assert found["GPU memory"].found == "90.0 of 78.0 GiB; a batch is large"
    assert found["GPU memory"].remedy == "azure.gpu=Standard_NC40ads_H100_v5 would do."
    assert found["total"].found.startswith("about $25.00 to $60.50, and at most $20.00")
    assert found["total"].remedy == "Raise it: azure.budget_usd=61"


@pytest.mark.usefixtures("offered")
def test_every_steps_memory_is_looked_at_and_the_endpoints_too(job: MakeJob, tmp_path: Path) -> None:
    """Mistral-7B: evaluated on a T4 node, served on the small machine of the default."""
    model = str(model_folder("mistral-7b", tmp_path / "model"))
    small = SERVING["machine"]
    found = checks(job(azure={"cpu": None}, model=model, traffic=SERVING), deploy="aml")
    parity, endpoint = f"memory of parity on {small}", f"memory of the endpoint on {small}"
    steps = [f"memory of {step} on {small}" for step in ("train", "export", "evaluate")]
    assert failed(found) == [*steps, parity, endpoint]
    assert found[parity].found.startswith("8.0 of 7.2 GiB: the server holds 6.8 GiB of int8 weights")
    assert found[parity].remedy.endswith("Standard_D4s_v3 is large enough.")
    assert "export.precision=" in found[endpoint].remedy


@pytest.mark.usefixtures("offered")
def test_only_what_is_to_run_is_looked_at(job: MakeJob) -> None:
    """A check needs no GPU, so that none has to be offered."""
    found = checks(job(azure={"gpu": GPU}), to="split")
    assert not [name for name in found if GPU in name or "GPU" in name]


def test_without_a_sign_in_or_a_workspace_the_rest_is_left_out(offered: AzureEmulator, job: MakeJob) -> None:
    missing = checks(job(azure={"workspace": f"{SUBSCRIPTION}/{GROUP}/nowhere"}))
    assert failed(missing) == ["workspace"] and list(missing) == ["sign-in", "workspace"]
    assert "azure.workspace" in missing["workspace"].remedy
    fails(offered, "POST login", 401, "invalid_client", "The secret is wrong.", 99)
    stranger = checks(job())
    assert list(stranger) == failed(stranger) == ["sign-in"]
    assert "az login" in stranger["sign-in"].remedy


def test_the_endpoints_machine_must_be_there_for_this_subscription(offered: AzureEmulator, job: MakeJob) -> None:
    spec = job(traffic=SERVING)
    name = f"size {spec.traffic.machine} for the endpoint"
    assert name not in checks(spec)
    assert checks(spec, deploy="aml")[name].passed
    offered.offers.barred.add(spec.traffic.machine)
    barred = checks(spec, deploy="aml")[name]
    assert not barred.passed
    assert barred.found == "not for this subscription (NotAvailableForSubscription) in eastus"
    offered.offers.missing.add(spec.traffic.machine)
    assert checks(spec, deploy="aml")[name].found == "not there in eastus"


def test_clusters_and_the_endpoint_share_the_quota_of_their_family(offered: AzureEmulator, job: MakeJob) -> None:
    size = "Standard_F8s_v2"
    spec = job(azure={"cpu": size}, traffic={"machine": size})
    offered.offers.quota[family(size)] = 23
    (name,) = failed(checks(spec, deploy="aml"))
    found = checks(spec, deploy="aml")[name]
    assert "for the endpoint" in name
    assert found.found == "16 cores needed, 15 of 23 free beside the 8 needed above"
    offered.offers.quota[family(size)] = 24
    assert failed(checks(spec, deploy="aml")) == []


@pytest.mark.usefixtures("offered")
def test_sizes_that_azure_ml_does_not_take(job: MakeJob) -> None:
    """Dsv5 is for neither clusters nor endpoints, the A10 for endpoints alone."""
    spec = job(
        azure={"cpu": "Standard_D4s_v5", "gpu": "Standard_NV36ads_A10_v5"}, traffic={"machine": "Standard_D2s_v5"}
    )
    found = checks(spec, deploy="aml")
    wrong = [name for name in failed(found) if name.startswith("size ")]
    assert wrong == ["size Standard_D4s_v5", "size Standard_NV36ads_A10_v5", "size Standard_D2s_v5 for the endpoint"]
    assert "vm-sku-list" in found[wrong[2]].found
    assert failed(checks(job(traffic={"machine": "Standard_NV36ads_A10_v5"}), deploy="aml")) == []


def test_a_region_that_is_dearer_than_the_price_book(offered: AzureEmulator, job: MakeJob) -> None:
    offered.offers.dearer = 1.2
    found = checks(job())
    (name,) = failed(found)
    assert found[name].found == "$0.230 an hour in eastus, and $0.192 by the price book"
    assert "models prices --refresh --region eastus" in found[name].remedy
    dearer = {"price of Standard_D4s_v3", "price of Standard_F4s_v2"}
    assert set(failed(checks(job(traffic=SERVING), deploy="aml"))) == dearer, "what serves costs more there, too"


def test_a_data_scientist_can_not_make_a_cluster() -> None:
    """In the role's words: computes/*/write is taken out, and the action is computes/write."""
    home = "Microsoft.MachineLearningServices/workspaces"
    scientist = {
        "actions": [f"{home}/*/read", f"{home}/*/action", f"{home}/*/delete", f"{home}/*/write"],
        "notActions": [f"{home}/delete", f"{home}/write", f"{home}/computes/*/write", f"{home}/computes/*/delete"],
    }
    assert not is_allowed(f"{home}/computes/write", [scientist])
    assert is_allowed(f"{home}/jobs/write", [scientist])
    assert is_allowed(f"{home}/onlineEndpoints/deployments/write", [scientist])
    operator = {"actions": [f"{home}/computes/*"], "notActions": []}
    assert is_allowed(f"{home}/computes/write", [scientist, operator])
