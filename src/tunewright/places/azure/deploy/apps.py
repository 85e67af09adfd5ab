"""`--to aca`: an Azure container app that runs on CPUs and costs nothing while nobody asks."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from tunewright.assess.cost import Service, host_cost
from tunewright.assess.prices import price_book
from tunewright.errors import UserError
from tunewright.export.bundle import BundleInfo
from tunewright.places.azure import machines
from tunewright.places.azure.connection import Connection, azure_errors, found
from tunewright.places.azure.deploy.blueprint import Blueprint, Resource, Standing
from tunewright.places.azure.deploy.images import ENGINES, built, registry_of, tag_of
from tunewright.places.azure.deploy.room import container_of
from tunewright.places.azure.deploy.trial import Door, Exam, Trial, trial
from tunewright.places.azure.place import TAG
from tunewright.progress import say
from tunewright.spec import Spec

VERSION = "2025-07-01"
_ENVIRONMENT = "AZURE_CONTAINER_APPS_ENVIRONMENT"
_PORT = 8080
_COOLING_SECONDS = 300
_DRAIN_SECONDS = 60
_FRESH = "fresh"
"""The label that gives a revision an address of its own."""
_POLL_SECONDS = 2.0
_STUCK_SECONDS = 20 * 60.0
_ENDED = ("Succeeded", "Failed", "Canceled")


class App:
    """One model's container app, `tw-NAME`, and the revision of one version.

    Args:
        bundle: the bundle's folder, which goes into the image.
        identity: the file that says who may ask, as `tunewright serve --identity` takes it.
        service: how the model answers on this machine, as it was measured; what it costs depends on it.

    Raises:
        UserError: the bundle needs a GPU, or there is no environment or registry.
    """

    target = "aca"

    def __init__(self, spec: Spec, at: Connection, info: BundleInfo, bundle: Path, identity: Path,
                 service: Service, replicas: int):  # fmt: skip
        if ENGINES[info.runtime] == "vllm":
            raise UserError(
                f"A bundle for {info.runtime} needs a GPU, and container apps run on CPUs.",
                fix="Deploy with --to aml or --to aks, or export for a CPU: export.runtime=auto",
            )
        self._spec, self._at, self._bundle = spec, at, bundle
        self._machine = price_book(spec.price_file).machine(container_of(spec))
        self._identity, self._service, self._replicas = identity, service, replicas
        self._engine = ENGINES[info.runtime]
        self._provider = json.loads(identity.read_text("utf-8"))
        self.name = machines.azure_name(spec, 32)
        self._suffix = f"v{tag_of(bundle, identity)[:12]}"
        self.fresh = f"{self.name}--{self._suffix}"
        """The revision of this version."""
        group = f"/subscriptions/{at.name.subscription}/resourceGroups/{at.name.resource_group}/providers"
        self.path = f"{group}/Microsoft.App/containerApps/{self.name}"
        self._environments = f"{group}/Microsoft.App/managedEnvironments"

    @property
    def _memory(self) -> str:
        """As Container Apps writes it: twice as many GiB as cores, where the price book does not say."""
        return f"{self._machine.memory_gib or 2 * self._machine.cores:g}Gi"

    def blueprint(self) -> Blueprint:
        """As of `Target`; the price is that of this job's traffic."""
        registry = registry_of(self._at)
        image = f"{registry.rpartition('/')[2]}.azurecr.io/tunewright/{self._spec.name}:…"
        cost = host_cost(
            self._machine, self._service,
            requests=self._spec.traffic.requests_per_month, peak_to_average=self._spec.traffic.peak_to_average,
        )  # fmt: skip
        asked = f"{self._spec.traffic.requests_per_month:,} requests a month"
        return Blueprint(
            self.target,
            [
                Resource("image", image, "built by the registry, the bundle inside"),
                Resource("container app", self.name, f"{self._machine.cores} vCPU, {self._memory}, 0 to "
                         f"{self._replicas} replicas, asked with Entra ID", self._body(image, [])),
            ],
            [Standing(f"{self.name} for {asked}", cost.usd_per_month)],
            [f"It scales to zero {_COOLING_SECONDS // 60} minutes after the last request, and costs nothing then;",
             "the first request after that waits for its start."],
        )  # fmt: skip

    def is_serving(self) -> bool:
        """As of `Target`."""
        app = self._known()
        served = _traffic(app) if app else []
        return any(each["revisionName"] == self.fresh and each["weight"] for each in served)

    def create(self) -> None:
        """As of `Target`.

        Raises:
            UserError: Azure refuses, the image can't be built, or the revision takes too long.
        """
        image = built(self._at, self._spec, self._bundle, f"{self._engine}-bundle", self._identity)
        known = self._known()
        served = _traffic(known) if known else []
        say(f"  azure: container app {self.name}, revision {self._suffix}")
        fresh = {"revisionName": self.fresh, "weight": 0 if served else 100, "label": _FRESH}
        older = [{key: value for key, value in each.items() if key != "label"} for each in served]
        traffic = [*(each for each in older if each["revisionName"] != self.fresh), fresh]
        with azure_errors(f"the container app {self.name}"):
            self._at.ask("PUT", self.path, VERSION, self._body(image, traffic))
        self._settled()

    def try_out(self, exam: Exam) -> Trial:
        """As of `Target`."""
        return trial(self._door(), exam)

    def _door(self) -> Door:
        """The revision's own address."""
        app = self._known()
        host = str(app["properties"]["configuration"]["ingress"]["fqdn"]) if app else ""
        first, _, domain = host.partition(".")
        audience, tenant = self._provider["audience"], self._provider["issuer"].split("/")[3]

        def headers() -> dict[str, str]:
            token = self._at.credential.get_token(f"{audience}/.default", tenant_id=tenant).token
            return {"Authorization": f"Bearer {token}"}

        return Door(f"https://{first}---{_FRESH}.{domain}/v1", headers)

    def shift(self, percent: int) -> None:
        """As of `Target`; of several older revisions the one with the most traffic has the rest."""
        older = self._older()
        rest = [{"revisionName": older[-1], "weight": 100 - percent}] if older else []
        self._divide([{"revisionName": self.fresh, "weight": percent if older else 100, "label": _FRESH}, *rest])

    def finish(self) -> None:
        """As of `Target`."""
        older = self._older()
        self._divide([{"revisionName": self.fresh, "weight": 100, "label": _FRESH}])
        for name in older:
            self._deactivate(name)

    def undo(self) -> None:
        """As of `Target`."""
        older = self._older()
        if older:
            self._divide([{"revisionName": older[-1], "weight": 100}])
            self._deactivate(self.fresh)
            return
        say(f"  azure: the container app {self.name} has no other revision and goes")
        with azure_errors(f"the container app {self.name}"):
            self._at.ask("DELETE", self.path, VERSION)

    def _environment(self) -> str:
        """ARM's path of the environment of container apps.

        Raises:
            UserError: there is none, or it is not said which.
        """
        if named := os.environ.get(_ENVIRONMENT):
            return f"{self._environments}/{named}"
        with azure_errors("the environments of container apps"):
            listed = self._at.ask("GET", self._environments, VERSION).get("value", [])
        if len(listed) != 1:
            raise UserError(
                f"There are {len(listed)} environments of container apps in {self._at.name.resource_group}.",
                fix=f"Make one: azd env set TUNEWRIGHT_CONTAINER_APPS true && azd up; or name one: {_ENVIRONMENT}=NAME",
            )
        return str(listed[0]["id"])

    def _known(self) -> dict[str, Any] | None:
        """The app as it is; None where it is not there."""
        with azure_errors(f"the container app {self.name}"):
            return found(self._at.ask, "GET", self.path, VERSION)

    def _body(self, image: str, traffic: list[dict[str, Any]]) -> dict[str, Any]:
        """What is put: the app, its one container, how it scales, and who gets which share of the traffic."""
        identity = machines.identity_of(self._spec)
        named = {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}}
        ingress = {
            "external": True,
            "targetPort": _PORT,
            "transport": "auto",
            "allowInsecure": False,
            "traffic": traffic,
        }
        return {
            "location": self._at.region,
            "tags": {TAG: self._spec.name},
            "identity": named if identity else {"type": "SystemAssigned"},
            "properties": {
                "managedEnvironmentId": self._environment(),
                "workloadProfileName": "Consumption",
                "configuration": {
                    "activeRevisionsMode": "Multiple",
                    "maxInactiveRevisions": 5,
                    "ingress": ingress,
                    "registries": [{"server": image.partition("/")[0], "identity": identity or "system"}],
                },
                "template": {
                    "revisionSuffix": self._suffix,
                    "terminationGracePeriodSeconds": _DRAIN_SECONDS,
                    "containers": [_container(image, self._machine.cores, self._memory)],
                    "scale": {
                        "minReplicas": 0, "maxReplicas": self._replicas, "cooldownPeriod": _COOLING_SECONDS,
                        "rules": [{"name": "requests", "http": {"metadata": {"concurrentRequests": "8"}}}],
                    },
                },
            },
        }  # fmt: skip

    def _settled(self) -> None:
        """Wait until the app is as it was put.

        Raises:
            UserError: it failed, or takes longer than Azure ever needs; what served before still serves.
        """
        end = time.monotonic() + _STUCK_SECONDS
        state = self._state()
        while state not in _ENDED and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
            state = self._state()
        if state != "Succeeded":
            self.undo()
            raise UserError(f"The revision {self._suffix} of {self.name} did not start ({state}) and was taken away.",
                            fix=f"See why: az containerapp logs show --name {self.name}")  # fmt: skip

    def _state(self) -> str:
        """As Resource Manager calls it."""
        app = self._known()
        return str(app["properties"].get("provisioningState")) if app else "Waiting"

    def _older(self) -> list[str]:
        """The other revisions that have traffic, that with the most last."""
        app = self._known()
        served = [each for each in _traffic(app) if each["revisionName"] != self.fresh] if app else []
        return [each["revisionName"] for each in sorted(served, key=lambda each: each["weight"])]

    def _divide(self, traffic: list[dict[str, Any]]) -> None:
        with azure_errors(f"the traffic of {self.name}"):
            change = {"properties": {"configuration": {"ingress": {"traffic": traffic}}}}
            self._at.ask("PATCH", self.path, VERSION, change)

    def _deactivate(self, revision: str) -> None:
        say(f"  azure: the revision {revision} goes")
        with azure_errors(f"the revision {revision}"):
            self._at.ask("POST", f"{self.path}/revisions/{revision}/deactivate", VERSION)


def _container(image: str, cores: int, memory: str) -> dict[str, Any]:
    return {
        "name": "server",
        "image": image,
        "args": ["--identity", "/bundle/identity.json"],
        "resources": {"cpu": cores, "memory": memory},
        "probes": [
            _probe("Startup", "/health", 60),
            _probe("Liveness", "/health", 3),
            _probe("Readiness", "/ready", 3),
        ],
    }


def _probe(kind: str, path: str, failures: int) -> dict[str, Any]:
    asked = {"httpGet": {"path": path, "port": _PORT}, "periodSeconds": 5, "timeoutSeconds": 5}
    return {"type": kind, "failureThreshold": failures, **asked}


def _traffic(app: dict[str, Any]) -> list[dict[str, Any]]:
    """The revisions of an app that are in its traffic."""
    listed = app["properties"]["configuration"]["ingress"].get("traffic") or []
    return [each for each in listed if "revisionName" in each]
