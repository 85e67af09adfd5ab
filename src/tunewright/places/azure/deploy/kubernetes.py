"""`--to aks`: a Helm release in an AKS cluster, reached through Resource Manager: no kubeconfig, no open API server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunewright.errors import UserError
from tunewright.export.bundle import BundleInfo
from tunewright.places.azure import machines
from tunewright.places.azure.connection import Connection
from tunewright.places.azure.deploy.blueprint import Blueprint, Resource, standing
from tunewright.places.azure.deploy.cluster import Cluster
from tunewright.places.azure.deploy.images import ENGINES, built, infra_folder, registry_of, tag_of
from tunewright.places.azure.deploy.trial import Exam, Trial
from tunewright.progress import say
from tunewright.spec import Spec

_RELEASE_SECONDS = 1500
_NONE = {"image": "", "replicas": 0}
"""A track without pods."""
_MODULE = "tunewright.places.azure.deploy.trial"


class Release:
    """One model's Helm release, and in it the track of one version.

    Args:
        bundle: the bundle's folder, which goes into the image.
        replicas: pods of the stable track.
        memory: of a pod on CPUs, as Kubernetes writes it.

    Raises:
        UserError: it is not said which cluster is meant.
    """

    target = "aks"

    def __init__(self, spec: Spec, at: Connection, info: BundleInfo, bundle: Path, replicas: int, memory: str):
        self._spec, self._at, self._bundle, self._replicas = spec, at, bundle, replicas
        self._engine, self._memory = ENGINES[info.runtime], memory
        self.name, self._cluster = release_name(spec), Cluster(at)
        self._values: dict[str, Any] | None = None

    def blueprint(self) -> Blueprint:
        """As of `Target`; pods are counted as machines of `traffic.machine`, whole ones."""
        size = self._spec.traffic.machine
        machine = machines.price_of(size, self._spec)
        image = f"{registry_of(self._at).rpartition('/')[2]}.azurecr.io/tunewright/{self._spec.name}:…"
        values = self._with({"image": image, "replicas": self._replicas}, _NONE, "all")
        pods = f"{self._replicas} pod{'s' if self._replicas > 1 else ''}"
        return Blueprint(
            self.target,
            [
                Resource("image", image, "built by the registry, the bundle inside"),
                Resource("Helm release", self.name, f"{pods} of {self._engine} in {self._cluster.name}", values),
            ],
            [standing(f"{self._replicas} x {size}, if each pod takes a machine", machine, self._replicas)],
            ["The cluster itself, and other machines in it, are not counted.",
             "docs/azure-kubernetes.md says what must be in the cluster before."],
        )  # fmt: skip

    def is_serving(self) -> bool:
        """As of `Target`."""
        serving = self._serving()
        tag = serving["stable"]["image"].rpartition(":")[2] if serving else ""
        return tag == tag_of(self._bundle)

    def create(self) -> None:
        """As of `Target`: the canary track, without traffic; of the first version the stable one.

        Raises:
            UserError: Azure or the cluster refuses, or the pods are not ready in time; what served before still serves.
        """
        image = self._built()
        serving = self._serving()
        fresh = {"image": image, "replicas": self._replicas}
        beside = serving and self._with(serving["stable"], fresh, "stable")
        values = beside or self._with(fresh, _NONE, "all")
        say(f"  azure: Helm release {self.name} in {self._cluster.name}")
        self._values = values
        try:
            self._install(values)
        except UserError:
            self.undo()
            raise

    def try_out(self, exam: Exam) -> Trial:
        """As of `Target`, from within a pod, so that nothing has to be opened."""
        track = "canary" if self._is_beside() else "stable"
        said = self._cluster.run(
            f"kubectl exec --namespace {self.name} -i deploy/{self.name}-{track} -- python -m {_MODULE} < exam.json",
            {"exam.json": exam.json().encode()},
        )
        data = json.loads(said.strip().splitlines()[-1])
        return Trial(**(data | {"differing": tuple(data["differing"])}))

    def shift(self, percent: int) -> None:
        """As of `Target`: traffic follows the pods, so the share is the nearest that they can have."""
        if not self._is_beside():
            return
        values = self._known()
        stable = values["stable"]["replicas"]
        fresh = max(1, round(stable * percent / max(100 - percent, 1)))
        self._install(self._with(values["stable"], values["canary"] | {"replicas": fresh}, "all"))

    def finish(self) -> None:
        """As of `Target`. First the traffic goes over, then the stable track becomes the new version."""
        if not self._is_beside():
            return
        fresh = self._known()["canary"]
        self._install(self._with(self._known()["stable"], fresh, "canary"))
        self._install(self._with(fresh | {"replicas": self._replicas}, fresh, "canary"))
        self._install(self._with(fresh | {"replicas": self._replicas}, _NONE, "all"))

    def undo(self) -> None:
        """As of `Target`."""
        if self._is_beside():
            self._install(self._with(self._known()["stable"], _NONE, "all"))
            return
        say(f"  azure: the Helm release {self.name} has no other version and goes")
        self._cluster.uninstall(self.name)

    def _is_beside(self) -> bool:
        """Whether the new version stands beside another."""
        return bool(self._known()["canary"]["replicas"])

    def _known(self) -> dict[str, Any]:
        """The release's values as they were last put, or are."""
        if self._values is None:
            self._values = self._serving()
        if self._values is None:
            raise UserError(f"The cluster has no release {self.name}.", fix="Deploy one: tunewright deploy … --to aks")
        return self._values

    def _serving(self) -> dict[str, Any] | None:
        """The values of the release in the cluster; None where there is none."""
        return self._cluster.values(self.name) if self._cluster.has(self.name) else None

    def _with(self, stable: dict[str, Any], canary: dict[str, Any], traffic: str) -> dict[str, Any]:
        machine = machines.price_of(self._spec.traffic.machine, self._spec)
        # Of a node AKS keeps a part for itself.
        cores = max(1, machine.cores - 1)
        machine_of = (
            {"gpu": {"cores": cores}} if self._engine == "vllm" else {"cpu": {"cores": cores, "memory": self._memory}}
        )
        return {
            "engine": self._engine, "stable": stable, "canary": canary, "traffic": traffic,
            **machine_of, "autoscaling": {"by": "none"},
            "networkPolicy": {"namespaces": [self.name]},
        }  # fmt: skip

    def _install(self, values: dict[str, Any]) -> None:
        """Bring the release to these values, and wait until its pods are ready."""
        command = (
            f"helm upgrade --install {self.name} chart --namespace {self.name} --create-namespace "
            f"--values values.json --wait --timeout {_RELEASE_SECONDS}s"
        )
        chart = infra_folder() / "chart"
        inside = [path for path in chart.rglob("*") if path.is_file()]
        files = {f"chart/{path.relative_to(chart).as_posix()}": path.read_bytes() for path in inside}
        self._cluster.run(command, files | {"values.json": json.dumps(values).encode()})
        self._values = values

    def _built(self) -> str:
        return built(self._at, self._spec, self._bundle, f"{self._engine}-bundle")


def release_name(spec: Spec) -> str:
    """The name of a project's Helm release, and of its namespace."""
    return machines.azure_name(spec, 38)
