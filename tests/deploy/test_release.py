"""Versions of a Helm release side by side, by the values that Helm gets and what our chart makes of them."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import helm_python
import pytest
from ruamel.yaml import YAML

from tests.conftest import REPOSITORY, make_spec
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.deploy import kubernetes, release
from tunewright.deploy.apps import App
from tunewright.deploy.images import tag_of
from tunewright.deploy.kubernetes import LiveRelease, Release
from tunewright.deploy.trial import DeploymentTrial, Exam
from tunewright.economics.cost import Service

F4S, F8S = "Standard_F4s_v2", "Standard_F8s_v2"
EXAM = Exam("m", [], 1.0, 1, 0, 1.0)
GOOD = DeploymentTrial(0.1, 1.0, 10, 1.0, 0, 1.0, 2.0, ())


class HelmOfCluster:
    """What run-command finds in a cluster: one release, whose values it keeps. A trial in a pod succeeds."""

    name = SimpleNamespace(subscription="s", resource_group="g", path="/w")

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.exam: Exam | None = None
        """The last exam that was sent to a pod."""

    def ask(self, _: str, __: str, ___: str, body: Any = None, **____: str) -> dict[str, Any]:
        if body is None:
            return {"properties": {}}
        if body["command"].startswith("helm upgrade"):
            self.values = json.loads(_sent(body, "values.json"))
        found: Any = self.values
        if body["command"].startswith("helm list"):
            found = [{"name": "tw-x"}] if self.values else []
        elif body["command"].startswith("kubectl exec"):
            self.exam = Exam.read(_sent(body, "exam.json"))
            found = asdict(GOOD)
        return {"properties": {"provisioningState": "Succeeded", "logs": json.dumps(found)}}

    def rendered(self) -> dict[str, Any]:
        """The Deployments that the chart makes of the values, by track."""
        with helm_python.Chart.load(REPOSITORY / "infra" / "chart") as chart:
            files = chart.render(self.values, name="tw-x", namespace="tw-x")
        made = [each for text in files.values() for each in YAML(typ="safe").load_all(text) if each]
        return {each["metadata"]["labels"]["track"]: each for each in made if each["kind"] == "Deployment"}

    @property
    def pods(self) -> tuple[int, int]:
        return self.values["stable"]["replicas"], self.values["canary"]["replicas"]


def _sent(body: dict[str, Any], name: str) -> str:
    """A file that goes with a command."""
    with zipfile.ZipFile(io.BytesIO(base64.b64decode(body["context"]))) as archive:
        return archive.read(name).decode()


MakeRelease = Callable[..., Release]


@pytest.fixture
def helm() -> HelmOfCluster:
    return HelmOfCluster()


def spec_on(machine: str = F4S) -> Spec:
    return make_spec(name="x", traffic={"machine": machine}, azure={"identity": "/subscriptions/s/id"})


@pytest.fixture
def version(helm: HelmOfCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRelease:
    """Makes a version of one project by the name of its bundle."""
    monkeypatch.setenv("AZURE_AKS_CLUSTER", "aks")

    def image(_: Any, spec: Spec, bundle: Path, __: str) -> str:
        return f"acme.azurecr.io/tunewright/x:{tag_of(spec, bundle)}"

    monkeypatch.setattr(kubernetes, "built", image)

    def make(name: str, replicas: int = 2, memory: str = "2048Mi", machine: str = F4S) -> Release:
        bundle = tmp_path / name
        bundle.mkdir(exist_ok=True)
        (bundle / "weights").write_text(name, "utf-8")
        at: Any = helm
        return Release(spec_on(machine), at, "onnxruntime", bundle, replicas, memory)

    return make


def container(deployment: Any) -> tuple[dict[str, Any], list[str]]:
    """(the limits of a Deployment's container, its arguments)."""
    (found,) = deployment["spec"]["template"]["spec"]["containers"]
    return found["resources"]["limits"], found["args"]


def test_a_canary_changes_nothing_of_the_pods_that_serve(
    helm: HelmOfCluster, version: MakeRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNEWRIGHT_TRIAL_KEY", "a key")
    version("one").create()
    helm.values["auth"] = {"keysSecret": "keys"}  # set by hand
    before = helm.rendered()["stable"]
    new = version("two", memory="6144Mi", machine=F8S)
    new.create()
    assert helm.rendered()["stable"] == before
    limits, arguments = container(helm.rendered()["canary"])
    assert limits == {"cpu": 7, "memory": "6144Mi"} and "--threads=7" in arguments
    new.shift(50)
    assert helm.rendered()["stable"] == before
    new.live.promote()
    assert container(helm.rendered()["stable"])[0] == limits
    assert "--keys=/etc/tunewright/keys/keys.json" in container(helm.rendered()["stable"])[1]


CLOSED = [{"keysSecret": "keys"}, {"identity": {"issuer": "https://x", "audience": "a", "grants": [{"role": "Ask"}]}}]


@pytest.mark.parametrize("auth", CLOSED, ids=["keys", "identity"])
def test_the_trial_of_a_release_with_keys_needs_one(
    auth: dict[str, Any], helm: HelmOfCluster, version: MakeRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TUNEWRIGHT_TRIAL_KEY", raising=False)
    version("one").create()
    helm.values["auth"] = auth
    before = dict(helm.values)
    with monkeypatch.context() as unbuilt:
        unbuilt.setattr(kubernetes, "built", lambda *_: pytest.fail("nothing is built for a trial that would fail"))
        for name in ("one", "two"):
            with pytest.raises(UserError, match=r"none for the trial.*TUNEWRIGHT_TRIAL_KEY="):
                release(spec_on(), version(name, replicas=3), EXAM, None)
    assert helm.values == before
    monkeypatch.setenv("TUNEWRIGHT_TRIAL_KEY", "sk-1")
    assert release(spec_on(), version("two"), EXAM, None).percent == 100
    assert helm.exam is not None and helm.exam.key == "sk-1" and "sk-1" not in repr(helm.exam)


def test_a_canary_takes_no_more_pods_than_serve(helm: HelmOfCluster, version: MakeRelease) -> None:
    version("one", replicas=4).create()
    before = dict(helm.values)
    with pytest.raises(UserError, match=r"99 % .* 396 pods beside the 4 .*\$66\.92 an hour.*--canary 50") as refused:
        release(spec_on(), version("two", replicas=4), EXAM, 99)
    assert refused.value.why == "In Kubernetes the traffic follows the pods."
    assert helm.values == before
    assert release(spec_on(), version("two", replicas=4), EXAM, 50).percent == 50
    assert helm.pods == (4, 4)


def test_a_canary_may_take_the_pods_that_it_gets_when_it_is_promoted(helm: HelmOfCluster, version: MakeRelease) -> None:
    version("one", replicas=1).create()
    with pytest.raises(UserError, match="--canary 75"):
        release(spec_on(), version("two", replicas=3), EXAM, 80)
    assert release(spec_on(), version("two", replicas=3), EXAM, 75).percent == 75
    assert helm.pods == (1, 3)


def test_pods_of_an_earlier_release_keep_their_memory(helm: HelmOfCluster, version: MakeRelease) -> None:
    """Tracks had no memory of their own in 0.2."""
    version("one").create()
    track = helm.values["stable"]
    helm.values["cpu"] = {"cores": track.pop("cores"), "memory": track.pop("memory")}
    before = helm.rendered()["stable"]
    version("two", memory="6144Mi").create()
    assert helm.rendered()["stable"] == before


@pytest.mark.parametrize("wanted", [1, 5])
def test_a_promoted_canary_gets_the_pods_that_it_needs(helm: HelmOfCluster, version: MakeRelease, wanted: int) -> None:
    version("one").create()
    new = version("two", replicas=wanted)
    new.create()
    new.shift(50)
    assert helm.pods == (2, 2)
    LiveRelease(spec_on(), new.live.cluster._at).promote()
    assert helm.pods == (wanted, 0)
    assert helm.rendered().keys() == {"stable"}


def test_a_canary_that_an_earlier_package_made_gets_as_many_pods_as_before(
    helm: HelmOfCluster, version: MakeRelease
) -> None:
    version("one", replicas=3).create()
    new = version("two", replicas=5)
    new.create()
    new.shift(25)
    del helm.values["canary"]["promotedReplicas"]
    new.live.promote()
    assert helm.pods == (3, 0)


def test_the_same_version_gets_another_number_of_pods(helm: HelmOfCluster, version: MakeRelease) -> None:
    version("one").create()
    image = helm.values["stable"]["image"]
    released = release(spec_on(), version("one", replicas=4), EXAM, None)
    assert (released.percent, helm.pods, helm.values["stable"]["image"]) == (100, (4, 0), image)
    assert helm.rendered()["stable"]["spec"]["replicas"] == 4


def test_traffic_keeps_its_shares_while_the_pods_become_more(helm: HelmOfCluster, version: MakeRelease) -> None:
    version("one").create()
    new = version("two")
    release(spec_on(), new, EXAM, 50)
    release(spec_on(), version("one", replicas=4), EXAM, None)
    assert helm.pods == (4, 4)
    assert release(spec_on(), version("two", replicas=6), EXAM, 50).percent == 50
    assert helm.pods == (4, 4), "a canary's pods follow its share until it is promoted"
    new.live.promote()
    assert helm.pods == (6, 0)


@pytest.mark.parametrize("text", ["{", '{"audience": "a"}', '{"issuer": "https://x/tenant/v2.0"}'])
def test_a_container_app_whose_provider_is_wrong_is_refused_before_anything_is_made(
    text: str, helm: HelmOfCluster, tmp_path: Path
) -> None:
    at: Any = helm
    (tmp_path / "identity.json").write_text(text, "utf-8")
    with pytest.raises(UserError, match="names no identity provider"):
        App(spec_on("container-apps-2-4"), at, "linear", tmp_path, tmp_path / "identity.json", Service(1, 1, 1), 2)


def test_a_container_app_of_another_size_is_another_revision(helm: HelmOfCluster, tmp_path: Path) -> None:
    """Azure keeps the template of a revision as it was made."""
    identity, bundle = tmp_path / "identity.json", tmp_path / "bundle"
    bundle.mkdir()
    grants = [{"role": "caller"}]
    identity.write_text(json.dumps({"issuer": "https://x/tenant/v2.0", "audience": "a", "grants": grants}), "utf-8")

    def fresh(machine: str, replicas: int) -> str:
        at: Any = helm
        return App(spec_on(machine), at, "linear", bundle, identity, Service(0.01, 0.02, 0.5), replicas).fresh

    small, large = "container-apps-2-4", "container-apps-4-8"
    assert fresh(small, 2) == fresh(small, 2)
    assert len({fresh(small, 2), fresh(small, 3), fresh(large, 2)}) == 3
