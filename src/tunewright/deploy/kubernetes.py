"""`--to aks`: a Helm release in an AKS cluster, reached through Resource Manager: no kubeconfig, no open API server."""

from __future__ import annotations

import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewright.backends.azure import machines
from tunewright.backends.azure.connection import Connection
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.deploy.blueprint import Blueprint, Resource, standing
from tunewright.deploy.cluster import Cluster
from tunewright.deploy.images import built, infra_folder, registry_of, repository_of, tag_of
from tunewright.deploy.live import State, hourly, require_ours, take_back
from tunewright.deploy.trial import DeploymentTrial, Exam, NoAnswer, report

_RELEASE_SECONDS = 1500
NONE = {"image": "", "replicas": 0}
"""A track without pods."""
_PROMOTED = "promotedReplicas"
"""The canary's value that says how many pods it gets when it is promoted: until then they follow its share."""
_REPOSITORY = re.compile(r"/tunewright/([^:@/]+)[:@]")
_MODULE = "tunewright.deploy.trial"
_KEY = "TUNEWRIGHT_TRIAL_KEY"
"""The variable with the key or token of a trial, for a release that answers nobody without one."""


class LiveRelease:
    """One project's Helm release, whatever made it. Its values are its state: the track `stable` serves, and the track
    `canary` is the fresh version, which is on trial while all traffic goes to `stable`."""

    target, kind = "aks", "Helm release"

    def __init__(self, spec: Spec, at: Connection):
        self._spec, self.cluster = spec, Cluster(at)
        self.name = release_name(spec)
        self._costs = ""
        """The last known cost of its pods, in words."""

    def values(self) -> dict[str, Any] | None:
        """The values of the release; None if there is none.

        Raises:
            UserError: it belongs to another project, or the cluster refuses.
        """
        if not self.cluster.has(self.name):
            return None
        values = self.cluster.values(self.name)
        require_ours(self._spec, f"the Helm release {self.name}", owner_of(values, self._spec))
        values = {"stable": NONE, "canary": NONE, "traffic": "all"} | values
        self._costs = self._cost_of(values)
        return values

    def _cost_of(self, values: dict[str, Any]) -> str:
        return pods_cost(values["stable"]["replicas"] + values["canary"]["replicas"], self._spec)

    def state(self) -> State | None:
        """See `Live`. Traffic follows the pods, and a version's name is the tag of its image."""
        values = self.values()
        if values is None:
            return None
        stable, canary = values["stable"], values["canary"]
        pods = {
            "all": (stable["replicas"], canary["replicas"]),
            "stable": (stable["replicas"], 0),
            "canary": (0, canary["replicas"]),
        }[values["traffic"]]
        share = round(100 * pods[1] / max(sum(pods), 1))
        shares: dict[str, int] = {}
        costs = {}
        for track, part in ((stable, 100 - share), (canary, share)):
            if track["replicas"]:
                shares[_tag(track)] = shares.get(_tag(track), 0) + part
                costs[_tag(track)] = pods_cost(track["replicas"], self._spec)
        fresh = _tag(canary) if canary["replicas"] else None
        return State(shares, fresh, bool(fresh) and values["traffic"] != "stable", costs=costs)

    def promote(self) -> None:
        """See `Live`. First the canary gets as many pods as it will need, then the traffic, then the stable track
        becomes the new version. At every point the values say how to go on."""
        values = self._fresh()
        pods = _promoted_pods(values)
        canary = values["canary"] | {"replicas": max(pods, values["canary"]["replicas"])}
        stable = {key: value for key, value in canary.items() if key != _PROMOTED} | {"replicas": pods}
        if canary != values["canary"]:
            self.install(values | {"canary": canary})
        self.install(values | {"canary": canary, "traffic": "canary"})
        self.install(values | {"stable": stable, "canary": canary, "traffic": "canary"})
        self.install(values | {"stable": stable, "canary": NONE, "traffic": "all"})

    def withdraw(self) -> None:
        """See `Live`."""
        values = self._fresh()
        if not values["stable"]["replicas"]:
            self.remove()
            return
        # A pod that is deleted leaves the Service first, and answers the requests that it has accepted.
        self.install(values | {"canary": NONE, "traffic": "all"})

    def remove(self) -> None:
        """See `Live`."""
        say(f"  azure: removing the Helm release {self.name}")
        self.cluster.uninstall(self.name, self._costs)

    def install(self, values: dict[str, Any]) -> None:
        """Install or upgrade the release with these values, and wait until its pods are ready."""
        command = (
            f"helm upgrade --install {self.name} chart --namespace {self.name} --create-namespace "
            f"--values values.json --wait --timeout {_RELEASE_SECONDS}s"
        )
        chart = infra_folder() / "chart"
        paths = [path for path in chart.rglob("*") if path.is_file()]
        files = {f"chart/{path.relative_to(chart).as_posix()}": path.read_bytes() for path in paths}
        self._costs = self._cost_of(values)
        self.cluster.run(command, files | {"values.json": json.dumps(values).encode()}, self._costs)

    def _fresh(self) -> dict[str, Any]:
        """The values, whose canary track must have pods."""
        values = self.values()
        if values is None or not values["canary"]["replicas"]:
            raise UserError(f"There is no canary in the Helm release {self.name}.", fix="Deploy: tunewright deploy …")
        return values


class Release:
    """One version of a project as a track of its Helm release.

    Args:
        engine: the image that serves it; see `engine_of`.
        bundle: the bundle's folder, which goes into the image.
        replicas: the number of pods of the stable track.
        memory: the memory of a pod on CPUs, as Kubernetes writes it.

    Raises:
        UserError: there is no cluster, or there are several and nothing names one.
    """

    target = "aks"

    def __init__(self, spec: Spec, at: Connection, engine: str, bundle: Path, replicas: int, memory: str):
        self._spec, self._at, self._bundle, self._replicas = spec, at, bundle, replicas
        self._engine, self._memory = engine, memory
        self.live, self._made = LiveRelease(spec, at), False
        self.name, self.fresh = self.live.name, tag_of(spec, bundle)

    def blueprint(self) -> Blueprint:
        """See `DeployTarget`. Each pod counts as one whole machine of `traffic.machine`."""
        size = self._spec.traffic.machine
        machine = machines.price_of(size, self._spec)
        image = f"{registry_of(self._at).rpartition('/')[2]}.azurecr.io/tunewright/{self._spec.name}:…"
        values = self._values(image)
        pods = f"{self._replicas} pod{'s' if self._replicas > 1 else ''}"
        return Blueprint(
            self.target,
            [
                Resource("image", image, "built by the registry, the bundle inside"),
                Resource("Helm release", self.name, f"{pods} of {self._engine} in {self.live.cluster.name}", values),
            ],
            [standing(f"{self._replicas} x {size}, if each pod takes a machine", machine, self._replicas)],
            [
                "The cluster itself, and other machines in it, are not counted.",
                "docs/azure-kubernetes.md says what the cluster must have before.",
            ],
        )

    @property
    def cost(self) -> str:
        """See `DeployTarget`."""
        return pods_cost(self._replicas, self._spec)

    def create(self) -> None:
        """See `DeployTarget`. It makes the canary track without traffic; the first version gets the stable track. All
        other values stay, because the serving pods have them too.

        Raises:
            UserError: the release serves with another engine or asks for a key that the trial does not have, the
                cluster refuses, or pods are not ready in time.
        """
        serving = self.live.values()
        _require_key(self.name, serving or {})
        if serving and serving["engine"] != self._engine:
            raise UserError(
                f"The Helm release {self.name} serves with {serving['engine']}, and this bundle needs {self._engine}.",
                why="Both tracks of a release have one engine, so the serving pods would restart with the wrong one.",
                fix="Deploy it from a project with another name, or remove the release first: "
                f"tunewright azure down {self._spec.project_arguments(with_recipe=False)}",
            )
        image = built(self._at, self._spec, self._bundle, f"{self._engine}-bundle")
        values = self.live.values()
        self._made = values is None
        say(f"  azure: Helm release {self.name} in {self.live.cluster.name}, version {self.fresh}")
        if values is None:
            self.live.install(self._values(image))
        else:
            canary = self._track(image) | {_PROMOTED: self._replicas}
            self.live.install(values | {"canary": canary, "traffic": "stable"})

    def resize(self) -> None:
        """See `DeployTarget`. Helm is asked even if the values say so already: an upgrade whose pods did not get ready
        has left its values."""
        values = self.live.values()
        assert values, "only a version that exists is resized"
        _require_key(self.name, values)
        stable, canary = values["stable"], values["canary"]
        if _tag(canary) == self.fresh:
            share = {"replicas": canary["replicas"], _PROMOTED: self._replicas}
            canary = self._track(canary["image"]) | share
        else:
            # Another version's canary keeps its share of the traffic, which follows the pods.
            pods = round(canary["replicas"] * self._replicas / stable["replicas"])
            canary = canary | {"replicas": max(pods, 1) if canary["replicas"] else 0}
            stable = self._track(stable["image"])
        self.live.install(values | {"stable": stable, "canary": canary})

    def try_out(self, exam: Exam) -> DeploymentTrial:
        """See `DeployTarget`. The trial runs inside a pod, so that no port has to be opened.

        Raises:
            NoAnswer: it answers nothing, or has no pod that is ready.
            UserError: the cluster can't be reached.
        """
        state = self.live.state()
        pods = f"deploy/{self.name}-{'canary' if state and state.fresh == self.fresh else 'stable'}"
        command = f"kubectl exec --namespace {self.name} -i {pods} -- python -m {_MODULE} < exam.json"
        try:
            asked = replace(exam, key=os.environ.get(_KEY, ""))
            output = self.live.cluster.run(command, {"exam.json": asked.json().encode()}, self.cost)
        except UserError as error:
            ready = f"kubectl get --namespace {self.name} {pods} --output jsonpath={{.status.readyReplicas}}"
            if self.live.cluster.run(ready).strip():
                raise
            raise NoAnswer(
                f"The new version answered nothing: no pod of {pods} is ready.",
                why=error.why,
                fix=f"See its log: kubectl logs --namespace {self.name} {pods}",
            ) from error
        return report(output)

    def require_share(self, percent: int) -> None:
        """Check before anything is made that a canary with this share takes no more pods than the version that serves
        has, or than it gets itself when it is promoted.

        Raises:
            UserError: it takes more.
        """
        values = self.live.values()
        serving = int(values["stable"]["replicas"]) if values else 0
        pods, most = _canary_pods(serving, percent), max(serving, self._replicas)
        if pods > most:
            share = 100 * most // (most + serving)
            raise UserError(
                f"A canary with {percent} % of the traffic would take {pods:,} pods beside the {serving} that serve "
                f"({pods_cost(pods, self._spec)}).",
                why="In Kubernetes the traffic follows the pods.",
                fix=f"Give it {share} % or less, which takes {most} pods: --canary {share}",
            )

    def shift(self, percent: int) -> int:
        """See `DeployTarget`. Traffic follows the pods."""
        values = self.live.values()
        assert values and values["canary"]["replicas"], "only a canary gets a share"
        serving = int(values["stable"]["replicas"])
        pods = _canary_pods(serving, percent)
        self.live.install(values | {"canary": values["canary"] | {"replicas": pods}, "traffic": "all"})
        share = round(100 * pods / (pods + serving))
        if share != percent:
            say(f"  azure: traffic follows the pods, and {pods} of {pods + serving} are the canary's: {share} %")
        return share

    def finish(self) -> None:
        """See `DeployTarget`. The first version serves already."""
        state = self.live.state()
        if state and state.fresh:
            self.live.promote()

    def undo(self) -> None:
        """See `DeployTarget`."""
        take_back(self.live, self.fresh, self._made)

    def _values(self, image: str) -> dict[str, Any]:
        """The values of a new release, which serves this version alone."""
        return {
            "engine": self._engine,
            "stable": self._track(image),
            "canary": NONE,
            "traffic": "all",
            "autoscaling": {"by": "none"},
            "networkPolicy": {"namespaces": [self.name]},
        }

    def _track(self, image: str) -> dict[str, Any]:
        """The track of this version. It has its own cores and memory: those of the whole release are the other
        version's too, whose pods would restart with what this bundle needs."""
        machine = machines.price_of(self._spec.traffic.machine, self._spec)
        # AKS keeps a part of each node for itself.
        track = {"image": image, "replicas": self._replicas, "cores": max(1, machine.cores - 1)}
        return track if self._engine == "vllm" else track | {"memory": self._memory}


def owner_of(values: dict[str, Any], spec: Spec) -> str | None:
    """The project whose release has these values, by the repository of its images: the spec's, or another one's."""
    tracks = [values.get(track) for track in ("stable", "canary")]  # in another chart they may be anything
    matches = [_REPOSITORY.search(str(track.get("image", ""))) for track in tracks if isinstance(track, dict)]
    owner = next((match[1] for match in matches if match), None)
    return spec.name if f"tunewright/{owner}" == repository_of(spec) else owner


def pods_cost(count: int, spec: Spec) -> str:
    """What pods cost, in words."""
    return f"{hourly(count, spec.traffic.machine, spec)}, if each pod takes a machine"


def _canary_pods(serving: int, percent: int) -> int:
    """How many pods have about this share of the traffic beside so many that serve."""
    return max(1, round(serving * percent / max(100 - percent, 1)))


def _require_key(release: str, values: dict[str, Any]) -> None:
    """Check that there is a key for the trial of a release that answers nobody without one.

    Raises:
        UserError: there is none.
    """
    auth = values.get("auth") or {}
    is_closed = auth.get("keysSecret") or (auth.get("identity") or {}).get("issuer")
    if is_closed and not os.environ.get(_KEY):
        raise UserError(
            f"The Helm release {release} answers only with a key or a token, and there is none for the trial.",
            where=_KEY,
            why="Its values have auth.keysSecret or auth.identity.",
            fix=f"Set a key of the Secret, or a token of the provider: export {_KEY}=…",
        )


def _promoted_pods(values: dict[str, Any]) -> int:
    """How many pods the canary of a release gets when it is promoted. A canary that an earlier version of this package
    made does not say so: it gets as many as the track that has the traffic."""
    serving = values["stable"] if values["traffic"] == "all" else values["canary"]
    return int(values["canary"].get(_PROMOTED) or serving["replicas"])


def _tag(track: dict[str, Any]) -> str:
    return str(track["image"].rpartition(":")[2])


def release_name(spec: Spec) -> str:
    """The name of a project's Helm release, and of its namespace."""
    return machines.azure_name(spec, 38)
