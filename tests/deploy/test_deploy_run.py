"""Deploying to the emulated Azure: every target really serves the bundle, and what fails is taken away again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import tunewright
from tests.fixtures.tiny import TINY, run_example
from tunewright import api
from tunewright.azure_emulator import AzureEmulator, emulated_azure
from tunewright.backends.azure.connection import Connection, connect
from tunewright.backends.azure.registry import versions
from tunewright.config import Spec, load_spec
from tunewright.core.errors import GateFailed, UserError
from tunewright.deploy import DeployTarget, endpoint, live_endpoint, release, target_of
from tunewright.deploy.down import take_down
from tunewright.deploy.exam import exam_of
from tunewright.deploy.outputs import Outputs, outputs_of
from tunewright.deploy.trial import Exam
from tunewright.project import Project
from tunewright.serving.captures import RequestLog

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

WORKSPACE = ("00000000-0000-0000-0000-00000000feed", "group", "space")
PULLER = (
    f"/subscriptions/{WORKSPACE[0]}/resourceGroups/group/providers/Microsoft.ManagedIdentity/userAssignedIdentities/id"
)


@pytest.fixture(scope="module")
def projects(
    make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path_factory: pytest.TempPathFactory
) -> list[Path]:
    """The same job, trained twice: two versions of one model."""
    folder = tmp_path_factory.mktemp("deploy")
    first, _ = run_example("tickets", make_tiny_model("llama3")[1], folder, "train.max_length=512")
    second = folder / "second"
    shutil.copytree(first, second, symlinks=True)
    more = [f"model={folder / 'tiny'}", *TINY, "train.max_length=512", "train.max_steps=4"]
    done = tunewright("run", str(second), *more)
    assert done.returncode == 0, done.stderr
    return [first, second]


@pytest.fixture(scope="module")
def cloud(projects: list[Path]) -> Iterator[AzureEmulator]:  # noqa: ARG001 (what is made before needs the network)
    with emulated_azure(*WORKSPACE, "eastus", seasoned=True) as found:
        found.apps.second = 1 / 300  # of the cool-down period
        yield found
        assert found.proxy.refused == []
        assert found.cloud.violations == []


class Deployed:
    """One version of the model, and a way to deploy it without the twenty seconds of a whole load test."""

    def __init__(self, project: Path, *changes: str):
        model = project.parent / "tiny"
        place = [
            f"azure.workspace={'/'.join(WORKSPACE)}",
            "traffic.machine=Standard_F4s_v2",
            f"azure.identity={PULLER}",
        ]
        wanted = [*place, f"model={model}", *TINY, *changes]
        self.spec: Spec = load_spec(project, wanted)
        self.outputs: Outputs = outputs_of(Project(project))
        exam = exam_of(self.spec, self.outputs.folders["split"], self.outputs.folders["parity"])
        self.exam: Exam = replace(exam, rate=20.0, count=10)

    @property
    def at(self) -> Connection:
        return connect(self.spec)

    def target(self, to: str, identity: Path | None = None) -> DeployTarget:
        return target_of(to, self.spec, self.at, self.outputs, identity, dry=False)

    def release(self, to: str, *, canary: int | None = None, identity: Path | None = None) -> DeployTarget:
        target = self.target(to, identity)
        released = release(self.spec, target, self.exam, canary)
        assert released.trial.agreement == 1
        assert released.trial.failed == 0
        return target


@pytest.fixture
def versions_of_it(projects: list[Path], cloud: AzureEmulator) -> Iterator[list[Deployed]]:
    made = [Deployed(project) for project in projects]
    assert made[0].outputs.content != made[1].outputs.content
    yield made
    take_down(api.standing(made[0].spec))
    assert api.standing(made[0].spec) == []
    assert cloud.bill.standing == []


def traffic(cloud: AzureEmulator, name: str) -> dict[str, int]:
    found = cloud.cloud.get(f"{cloud.cloud.workspace}/onlineEndpoints/{name}")
    assert found
    return {deployment: share for deployment, share in found["properties"]["traffic"].items() if share}


def test_a_dry_run_makes_nothing_and_tells_the_price(
    versions_of_it: list[Deployed], cloud: AzureEmulator, identity: Path
) -> None:
    before = [call for call in cloud.cloud.calls if call.method != "GET"]
    first = versions_of_it[0]
    for to in ("aml", "aks", "aca"):
        plan = api.deployment(first.spec, to, runs=first.spec.folder / "runs", identity=identity)
        assert plan.usd_per_month > 0
        assert all(each.body for each in plan.resources[-1:])
        assert f"{plan.usd_per_month:,.2f}" in "\n".join(plan.lines)
    made = [call for call in cloud.cloud.calls if call.method != "GET"]
    assert [call for call in made[len(before) :] if "microsoftonline" not in call.host] == []


def test_what_a_subscription_lacks_is_told_before_an_image_is_built(
    versions_of_it: list[Deployed], cloud: AzureEmulator, identity: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, before = versions_of_it[0].spec, len(cloud.cloud.calls)
    with monkeypatch.context() as patch:
        patch.setattr(cloud.providers, "registered", cloud.providers.registered - {"Microsoft.App"})
        with pytest.raises(UserError, match=r"Nothing was started in Azure\. ✗ provider Microsoft\.App: NotRegistered"):
            api.deploy(spec, "aca", runs=spec.folder / "runs", identity=identity, anyway=True)
    assert not [call for call in cloud.cloud.calls[before:] if "scheduleRun" in call.path or call.method == "PUT"]


def test_an_endpoint_is_tried_promoted_and_followed_by_the_next_version(
    versions_of_it: list[Deployed], cloud: AzureEmulator
) -> None:
    first, second = versions_of_it
    old = first.release("aml")
    name = f"tunewright-{first.spec.name}"
    assert traffic(cloud, old.name) == {old.fresh: 100}
    known = [each for each in versions(first.at, name) if each.content == first.outputs.content]
    assert [each.state for each in known] == ["champion"]
    new = second.release("aml", canary=20)
    assert traffic(cloud, old.name) == {old.fresh: 80, new.fresh: 20}
    new.finish()
    assert traffic(cloud, old.name) == {new.fresh: 100}
    assert {each.state for each in versions(first.at, name)} == {"champion", "former"}
    assert len(cloud.bill.standing) == 1
    asked = httpx.post(f"https://{old.name}.eastus.inference.ml.azure.com/v1/chat/completions", json={})
    assert asked.status_code == 401


def test_a_version_may_see_copies_of_the_traffic_first(versions_of_it: list[Deployed], cloud: AzureEmulator) -> None:
    first, second = versions_of_it
    old = first.release("aml")
    new = second.target("aml")
    assert release(second.spec, new, second.exam, None, mirror=30).percent == 0
    put = cloud.cloud.get(f"{cloud.cloud.workspace}/onlineEndpoints/{old.name}")
    assert put
    assert put["properties"]["mirrorTraffic"] == {new.fresh: 30}
    assert traffic(cloud, old.name) == {old.fresh: 100}
    with pytest.raises(UserError, match="Only a managed endpoint"):
        release(first.spec, first.target("aks"), first.exam, None, mirror=30)


def test_a_model_is_registered_once_with_what_it_came_from(
    versions_of_it: list[Deployed], cloud: AzureEmulator
) -> None:
    first = versions_of_it[0]
    first.target("aml")
    first.target("aml")
    name = f"tunewright-{first.spec.name}"
    (known,) = [each for each in versions(first.at, name) if each.content == first.outputs.content]
    model = cloud.cloud.get(f"{cloud.cloud.workspace}/models/{name}/versions/{known.version}")
    assert model
    lineage = model["properties"]["properties"]
    assert lineage["tunewright.bundle"] == first.outputs.content
    assert {"tunewright.split", "tunewright.spec", "tunewright.code", "tunewright.base_model"} <= set(lineage)
    tags = model["properties"]["tags"]
    assert tags["decision"] == first.outputs.verdict["verdict"]["decision"]
    assert {"score.seen", "p95_ms", "usd_per_month", "adapter", "state"} <= set(tags)


def test_a_version_that_misses_a_gate_goes_and_the_old_one_serves(
    versions_of_it: list[Deployed], cloud: AzureEmulator, projects: list[Path]
) -> None:
    first = versions_of_it[0]
    old = first.release("aml")
    slow = Deployed(projects[1], "goal.p95_ms=0.01")
    with pytest.raises(GateFailed, match=r"P95 is .* ms at 20\.0 requests a second"):
        release(slow.spec, slow.target("aml"), slow.exam, None)
    wrong = replace(first.exam, questions=[replace(each, answer="nothing of it") for each in first.exam.questions])
    second = versions_of_it[1]
    with pytest.raises(GateFailed, match=r"0\.0 % of the answers are those that were judged"):
        release(second.spec, second.target("aml"), wrong, None)
    assert traffic(cloud, old.name) == {old.fresh: 100}
    assert len(cloud.bill.standing) == 1


def test_a_version_that_serves_is_tried_and_never_taken_away(
    versions_of_it: list[Deployed], cloud: AzureEmulator, projects: list[Path], identity: Path
) -> None:
    first = versions_of_it[0]
    slow = Deployed(projects[0], "goal.p95_ms=0.01")
    for to, who in (("aml", None), ("aks", None), ("aca", identity)):
        first.release(to, identity=who)
        assert release(first.spec, first.target(to, who), first.exam, None).percent == 100
        with pytest.raises(GateFailed, match="It serves all the same"):
            release(slow.spec, slow.target(to, who), slow.exam, None)
        target = first.target(to, who)
        state = target.live.state()
        assert state and state.shares == {target.fresh: 100}
    assert len(cloud.bill.standing) == 1


def test_a_deployment_that_is_stuck_is_taken_away(
    versions_of_it: list[Deployed], cloud: AzureEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (endpoint, live_endpoint):
        monkeypatch.setattr(module, "STUCK_SECONDS", 3.0)
    cloud.endpoints.stuck = True
    with pytest.raises(UserError, match=r"was not ready after 0 minutes\. Nothing of the new version is left"):
        versions_of_it[0].release("aml")
    assert api.standing(versions_of_it[0].spec) == []


def test_a_container_that_ends_leaves_its_last_words(
    versions_of_it: list[Deployed], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = versions_of_it[0]
    target = first.target("aml")
    deployment = target._deployment

    def misled(environment: str) -> Any:
        made = deployment(environment)
        made.environment_variables = {"TUNEWRIGHT_BUNDLE": "/models/nowhere"}
        return made

    monkeypatch.setattr(target, "_deployment", misled)
    with pytest.raises(UserError, match=r"failed\. Nothing of the new .* left\. Its log ends: .*nowhere"):
        release(first.spec, target, first.exam, None)
    assert api.standing(first.spec) == []


def test_a_container_app_sleeps_until_somebody_asks(
    versions_of_it: list[Deployed], cloud: AzureEmulator, identity: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    first, second = versions_of_it
    with pytest.raises(UserError, match="no file says who may call it"):
        first.target("aca")
    app = first.target("aca", identity)
    app.create()
    assert cloud.apps.running == []
    found = app.try_out(first.exam)
    assert found.agreement == 1
    # It had gone to sleep, and woke up for one answer: a server began.
    assert found.cold_ms is not None and found.cold_ms > 10 * found.p50_ms
    assert (
        f"asleep it answers after {found.cold_ms:,.0f} ms, awake after {found.p50_ms:,.0f} ms" in capfd.readouterr().err
    )
    assert cloud.apps.running == [app.fresh]
    app.finish()
    address = f"https://{app.name}.emulator.eastus.azurecontainerapps.io/v1/models"
    assert httpx.get(address, timeout=60).status_code == 401
    new = second.release("aca", canary=10, identity=identity)
    assert set(cloud.apps.running) >= {new.fresh}
    new.undo()
    assert set(cloud.apps.running) <= {app.fresh}


def test_a_release_in_kubernetes_has_a_canary(versions_of_it: list[Deployed], cloud: AzureEmulator) -> None:
    first, second = versions_of_it
    old = first.release("aks")
    values = cloud.clusters.releases[old.name]
    assert (values["traffic"], values["canary"]["replicas"]) == ("all", 0)
    new = second.release("aks", canary=50)
    values = cloud.clusters.releases[old.name]
    assert (values["traffic"], values["stable"]["replicas"], values["canary"]["replicas"]) == ("all", 2, 2)
    new.undo()
    assert cloud.clusters.releases[old.name]["stable"] == values["stable"]
    assert cloud.clusters.releases[old.name]["canary"]["replicas"] == 0
    second.release("aks").finish()
    assert cloud.clusters.releases[old.name]["stable"]["image"] == values["canary"]["image"]


def test_down_takes_what_is_ours_and_nothing_else(versions_of_it: list[Deployed], cloud: AzureEmulator) -> None:
    first = versions_of_it[0]
    first.release("aml")
    api.schedule(by_itself(first.spec), "quarter", 4)
    api.notebook(first.spec, "Standard_D4s_v3")
    theirs = f"{cloud.cloud.workspace}/computes/theirs"
    cloud.cloud.put(
        theirs,
        {
            "location": "eastus",
            "properties": {
                "computeType": "AmlCompute",
                "provisioningState": "Succeeded",
                "properties": {"vmSize": "Standard_D4s_v3", "scaleSettings": {"maxNodeCount": 1}},
            },
        },
    )
    kinds = {each.kind for each in api.standing(first.spec)}
    assert {"schedule", "endpoint", "cluster", "compute instance"} <= kinds
    take_down(api.standing(first.spec))
    assert api.standing(first.spec) == []
    assert cloud.cloud.get(theirs)


def test_the_schedule_is_the_whole_pipeline(versions_of_it: list[Deployed], cloud: AzureEmulator) -> None:
    first = versions_of_it[0]
    found = api.schedule(by_itself(first.spec), "quarter", 4)
    assert found.when == "on the first of each quarter at 04:00 UTC"
    assert found.steps == ["check", "split", "train", "export", "evaluate", "parity", "verdict", "bundle"]
    assert set(_scheduled(cloud, found.name)) == set(found.steps)
    assert cloud.storage.names(f"tunewright/{first.spec.name}/current/data_train")


def test_what_was_captured_is_looked_at_by_the_calendar(versions_of_it: list[Deployed], cloud: AzureEmulator) -> None:
    first = versions_of_it[0]
    captures = RequestLog(first.spec.path(first.spec.monitor.captures))
    try:
        found = api.schedule(by_itself(first.spec), "month", 4)
        assert found.steps[:2] == ["drift", "check"]
        drift = _scheduled(cloud, found.name)["drift"]
        assert set(drift["inputs"]) == {"code", "bundle", "monitor_captures"}
        assert cloud.storage.names(f"tunewright/{first.spec.name}/current/monitor_captures")
    finally:
        captures.close()
        shutil.rmtree(first.spec.path(first.spec.monitor.captures))


def by_itself(spec: Spec) -> Spec:
    """With an identity for jobs that start when nobody is signed in."""
    identities = f"/subscriptions/{WORKSPACE[0]}/resourceGroups/{WORKSPACE[1]}/providers/Microsoft.ManagedIdentity"
    azure = spec.azure.model_copy(update={"identity": f"{identities}/userAssignedIdentities/jobs"})
    return spec.model_copy(update={"azure": azure})


def _scheduled(cloud: AzureEmulator, name: str) -> dict[str, Any]:
    """The jobs of a schedule, by step."""
    put = cloud.cloud.get(f"{cloud.cloud.workspace}/schedules/{name}")
    assert put
    jobs: dict[str, Any] = put["properties"]["action"]["jobDefinition"]["jobs"]
    return jobs


def test_what_the_verdict_is_against_is_not_deployed(versions_of_it: list[Deployed]) -> None:
    first = versions_of_it[0]
    decision = first.outputs.verdict["verdict"]["decision"]
    assert decision not in ("switch", "cascade")  # two random layers
    with pytest.raises(UserError, match=f"The verdict is {decision}, not to serve this model"):
        api.deploy(first.spec, "aml", runs=first.spec.folder / "runs")
