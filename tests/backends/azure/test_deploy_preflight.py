"""The checks before a model is registered: what its endpoint needs of the region, beside what exists there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.backends.azure.conftest import IDENTITY, MakeJob, fails, puts, uploaded
from tests.backends.azure.deploying import Deploying
from tests.backends.azure.test_retrain import lines, rows
from tests.deploy.test_images import bundle
from tunewright import api, load_spec
from tunewright.azure_emulator import AzureEmulator
from tunewright.azure_emulator.offers import family
from tunewright.backends.azure.connection import connect
from tunewright.config import Spec
from tunewright.core.errors import Check, UserError
from tunewright.deploy import live_of, target_of
from tunewright.deploy.down import take_down
from tunewright.deploy.preflight import endpoint_checks
from tunewright.deploy.rights import image_checks
from tunewright.economics.cost import Service
from tunewright.inference.bundle import read_info

F4S, F8S = "Standard_F4s_v2", "Standard_F8s_v2"


def grant(azure: AzureEmulator, more: int) -> int:
    """Grant so many cores of Fsv2 beyond those in use. Returns the limit."""
    limit = azure.offers._used()[family(F4S)] + more
    azure.offers.quota[family(F4S)] = limit
    return limit


@pytest.fixture(autouse=True)
def ungranted(azure: AzureEmulator) -> Iterator[None]:
    yield
    azure.offers.quota.clear()
    azure.offers.barred.clear()
    azure.offers.dearer = 1.0


@pytest.fixture
def spec(azure: AzureEmulator, job: MakeJob) -> Iterator[Spec]:
    """A project of a linear model whose verdict counts with three machines."""
    made = job(
        name="verdict",
        model="linear",
        traffic={"machine": F4S, "redundancy": 3},
        goal={"p95_ms": 60_000.0},
        data={"train": "train.jsonl", "test": {"seen": "test.jsonl"}},
    )
    for name in ("train", "test"):
        (made.folder / f"{name}.jsonl").write_text(lines(rows(0, 30, name)), "utf-8")
    yield made
    azure.cloud.faults.clear()
    take_down(api.standing(made))
    assert not azure.cloud.violations


def refused(spec: Spec) -> str:
    with pytest.raises(UserError) as caught:
        api.deploy(spec, "aml", anyway=True)
    return caught.value.paragraph()


@pytest.mark.usefixtures("prepared_steps", "project")
def test_nothing_is_registered_that_the_region_does_not_hold(spec: Spec, azure: AzureEmulator) -> None:
    api.run(spec)
    # The verdict's machines count where the spec asks for fewer.
    one = load_spec(spec.folder, ["traffic.redundancy=1"])
    before, limit = len(azure.cloud.calls), grant(azure, 15)
    said = refused(one)
    assert said.startswith("Nothing was started in Azure. ✗ quota of 3 x Standard_F4s_v2 for the endpoint")
    assert f"16 cores needed, 15 of {limit} free." in said
    assert f"az quota create --resource-name standardFSv2Family --limit-object value={limit + 1} --scope" in said
    grant(azure, 16)
    azure.offers.barred.add(F4S)
    assert "✗ size Standard_F4s_v2 for the endpoint: not for this subscription" in refused(one)
    azure.offers.barred.clear()
    azure.offers.dearer = 1.2
    assert "✗ price of Standard_F4s_v2: $0.203 an hour in eastus, and $0.169 by the price book" in refused(one)
    azure.offers.dearer = 1.0
    assert not puts(azure, since=before) and not uploaded(azure, before)
    assert live_of("aml", one, connect(one)).state() is None

    assert api.deploy(one, "aml", anyway=True).percent == 100
    limit = grant(azure, 0)
    assert api.deploy(one, "aml", anyway=True).percent == 100, "what stands already takes no more"
    # On another machine it is another version, which stands beside this one while it is the canary.
    larger, before = load_spec(spec.folder, [f"traffic.machine={F8S}", "traffic.redundancy=1"]), len(azure.cloud.calls)
    with pytest.raises(UserError, match=rf"3 x {F8S} for the endpoint.*: 32 cores needed, 0 of {limit} free"):
        api.deploy(larger, "aml", canary=10, anyway=True)
    assert not puts(azure, since=before)


def outputs(folder: Path, content: str = "one", runtime: str = "linear", replicas: int = 2) -> Any:
    made = bundle(folder / f"{content}-{runtime}", runtime)
    return SimpleNamespace(bundle=made, info=read_info(made), content=content, replicas=replicas)


def quotas(project: Deploying, made: Any) -> list[Check]:
    found = endpoint_checks(project.spec, connect(project.spec), made)
    return [check for check in found if check.name.startswith("quota")]


def test_what_serves_and_a_canary_stay_beside_a_new_version_and_a_broken_trial_goes(
    project: Deploying, azure: AzureEmulator, tmp_path: Path
) -> None:
    one, two, three = (outputs(tmp_path, content) for content in ("one", "two", "three"))
    grant(azure, 12)
    alone, _ = quotas(project, one)
    assert alone.passed and alone.found.endswith("; a canary will need 12 beside them, and 0 are left")
    project.release("aml", "one")
    assert endpoint_checks(project.spec, project.at, one) == []
    limit = grant(azure, 11)
    beside, _ = quotas(project, two)
    assert not beside.passed and beside.found == f"12 cores needed, 11 of {limit} free"
    limit = grant(azure, 12)
    assert [check.passed for check in quotas(project, two)] == [True, True]

    project.target("aml", "two").create()  # and the process ends before the trial
    limit = grant(azure, 0)
    for made in (two, three):
        again, _ = quotas(project, made)
        assert again.passed and again.found == f"0 cores needed, 0 of {limit} free"
    project.release("aml", "two", canary=10)
    assert endpoint_checks(project.spec, project.at, two) == []
    canary, _ = quotas(project, three)
    assert not canary.passed and canary.found == f"12 cores needed, 0 of {limit} free"


def test_a_size_that_only_the_users_own_price_book_has_is_left_to_azure(
    azure: AzureEmulator, job: MakeJob, tmp_path: Path
) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        "as_of: 2026-11-28\nsource: ours\nmachines:\n  Standard_F4s_v9: {usd_per_hour: 1, cores: 4, memory_gib: 8}\n"
    )
    spec = job(traffic={"machine": "Standard_F4s_v9"}, prices=str(prices))
    found = endpoint_checks(spec, connect(spec), outputs(tmp_path))
    assert [check.name for check in found if not check.passed] == []
    assert not azure.cloud.violations


def private(azure: AzureEmulator, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = azure.cloud.get(azure.cloud.workspace)
    assert workspace
    monkeypatch.setitem(workspace["properties"], "publicNetworkAccess", "Disabled")


VLLM = "az acr import --name emulator --source docker.io/vllm/vllm-openai:"


@pytest.mark.parametrize("to", ["aml", "aks"])
def test_a_private_workspace_is_refused_vllms_image_of_docker_hub(
    to: str, azure: AzureEmulator, job: MakeJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = {"machine": "Standard_NC4as_T4_v3"}
    made, before = outputs(tmp_path, runtime="vllm"), len(azure.cloud.calls)
    assert target_of(to, job(traffic=gpu), connect(job()), made, None, dry=True)
    private(azure, monkeypatch)
    spec = job(traffic=gpu, export={"runtime": "vllm"})
    with pytest.raises(UserError) as caught:
        target_of(to, spec, connect(spec), made, None, dry=False)
    said = caught.value.paragraph()
    assert said.startswith("azure.base_images.vllm: The image for vLLM can't be built in a private workspace.")
    assert VLLM in said and "azure.base_images.vllm=emulator.azurecr.io/vllm-openai:" in said
    assert not puts(azure, since=before) and not uploaded(azure, before)
    told = {check.name: check for check in api.preflight(spec, deploy=to)}["image for vLLM"]
    assert not told.passed and VLLM in told.remedy

    named = job(traffic=gpu, azure={"base_images": {"vllm": "mine.azurecr.io/vllm:1"}}, export={"runtime": "vllm"})
    assert target_of(to, named, connect(named), made, None, dry=True)
    assert {check.name: check for check in api.preflight(named, deploy=to)}["image for vLLM"].passed
    other = outputs(tmp_path)
    assert target_of(to, job(traffic={"machine": F4S}), connect(spec), other, None, dry=True), "others are built there"


def test_a_container_app_needs_an_identity_that_pulls_its_image(
    azure: AzureEmulator, job: MakeJob, tmp_path: Path, identity: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app's own identity can have no role before the app exists."""
    monkeypatch.delenv("AZURE_ML_IDENTITY", raising=False)
    made, before = outputs(tmp_path), len(azure.cloud.calls)
    made.service = lambda _: Service(0.01, 0.02, 0.5)
    without, named = job(), job(azure={"identity": IDENTITY})
    with pytest.raises(UserError, match=r"may pull the image.*azure\.identity=RESOURCE_ID") as caught:
        target_of("aca", without, connect(without), made, identity, dry=False)
    assert caught.value.where == "azure.identity"
    (found,) = (check for check in image_checks(without, connect(without), "aca") if check.name == "identity")
    assert not found.passed and "AcrPull" in found.remedy
    assert target_of("aca", named, connect(named), made, identity, dry=False)
    assert [check.passed for check in image_checks(named, connect(named), "aca") if check.name == "identity"] == [True]
    assert not puts(azure, since=before)


def test_where_the_quotas_can_not_be_asked_nothing_is_registered(
    azure: AzureEmulator, project: Deploying, tmp_path: Path
) -> None:
    fails(azure, r"GET .*/usages$", 403, "AuthorizationFailed", "No authorization.", 9)
    found = endpoint_checks(project.spec, project.at, outputs(tmp_path))
    (asked,) = (check for check in found if not check.passed)
    assert asked.name == "quotas" and "role Reader" in asked.remedy
