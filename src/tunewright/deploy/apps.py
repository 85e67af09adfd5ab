"""`--to aca`: an Azure container app that runs on CPUs and costs nothing while nobody asks."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewright.backends.azure import machines
from tunewright.backends.azure.backend import TAG
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import azure_errors, found
from tunewright.backends.azure.waiting import Wait
from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.deploy.blueprint import Blueprint, Resource, RunningMachines
from tunewright.deploy.images import built, registry_of, tag_of
from tunewright.deploy.live import State, hourly, marked, marks, require_fresh, require_ours, take_back
from tunewright.deploy.room import container_of
from tunewright.deploy.trial import DeploymentTrial, Door, Exam, first_answer, trial
from tunewright.economics.cost import COOLING_SECONDS, Cost, Service, asleep_saves, cold_share, host_cost
from tunewright.economics.prices import price_book

VERSION = "2025-07-01"
_ENVIRONMENT = "AZURE_CONTAINER_APPS_ENVIRONMENT"
_PORT = 8080
_ASLEEP_SECONDS = COOLING_SECONDS + 120
"""Within which a revision that nobody asks has gone to sleep: Azure looks each 30 s (rule apps-cool-down)."""
_DRAIN_SECONDS = 60
_FRESH = "fresh"
"""The label that gives a revision an address of its own."""
_POLL_SECONDS = 2.0
_STUCK_SECONDS = 20 * 60.0
_ENDED = ("Succeeded", "Failed", "Canceled")


class LiveApp:
    """One project's container app, `tw-NAME`, and its active revisions, whatever made them.

    Which of them is fresh is a tag of the app, so that it changes in the same call as the traffic. Revisions themselves
    have no tags; their labels are addresses, of which the newest keeps one after it has become the only one.
    """

    target, kind = "aca", "container app"

    def __init__(self, spec: Spec, at: Connection):
        self._spec, self._at = spec, at
        self.name = machines.azure_name(spec, 32)
        self.providers = f"/subscriptions/{at.name.subscription}/resourceGroups/{at.name.resource_group}/providers"
        self.path = f"{self.providers}/Microsoft.App/containerApps/{self.name}"

    def known(self) -> dict[str, Any] | None:
        """The app as it is; None where it is not there."""
        with azure_errors(f"the container app {self.name}"):
            return found(self._at.ask, "GET", self.path, VERSION)

    def state(self) -> State | None:
        """As of `Live`."""
        app = self.known()
        if app is None:
            return None
        require_ours(self._spec, f"the container app {self.name}", (app.get("tags") or {}).get(TAG))
        revisions = self.revisions()
        shares = {name: 0 for name, is_active in revisions.items() if is_active}
        for each in app["properties"]["configuration"]["ingress"].get("traffic") or []:
            # In the portal traffic may have been given to "the latest" instead of a name.
            name = each.get("revisionName") or app["properties"].get("latestReadyRevisionName")
            if name and revisions.get(name, True):
                shares[name] = shares.get(name, 0) + int(each.get("weight") or 0)
        costs = dict.fromkeys(shares, app_cost(self._spec))
        fresh, is_canary = marked(app.get("tags"))
        return State(shares, fresh, is_canary, costs=costs) if fresh in shares else State(shares, costs=costs)

    def revisions(self) -> dict[str, bool]:
        """Whether a revision is active, by name."""
        with azure_errors(f"the revisions of {self.name}"):
            listed = self._at.ask("GET", f"{self.path}/revisions", VERSION).get("value", [])
        return {each["name"]: bool(each["properties"].get("active")) for each in listed}

    def activate(self, revision: str) -> None:
        """Let a revision that went come back: the same template makes no new one."""
        with azure_errors(f"the revision {revision}"):
            self._at.ask("POST", f"{self.path}/revisions/{revision}/activate", VERSION, costs=app_cost(self._spec))

    def change(self, shares: Mapping[str, int], fresh: str | None, is_canary: bool) -> None:
        """Divide the traffic, and say which revision is fresh, in one call."""
        app = self.known() or {}
        change = {
            # Container Apps patches by JSON merge patch (learn.microsoft.com, Container Apps - Update, 2026-11-28).
            "tags": (app.get("tags") or {}) | marks(fresh, is_canary),
            "properties": {"configuration": {"ingress": {"traffic": traffic_of(shares, fresh)}}},
        }
        with azure_errors(f"the traffic of {self.name}"):
            self._at.ask("PATCH", self.path, VERSION, change, costs=app_cost(self._spec))

    def promote(self) -> None:
        """As of `Live`. The tag stays until the others are gone: broken off before, it tells how to go on."""
        state = require_fresh(self)
        all_of_it = {str(state.fresh): 100}
        if state.others:
            self.change(all_of_it, state.fresh, True)
        for name in state.others:
            self._deactivate(name)
        self.change(all_of_it, None, False)

    def withdraw(self) -> None:
        """As of `Live`."""
        state = require_fresh(self)
        if state.others:
            self.change(state.without_fresh, state.fresh, state.is_canary)
        self._deactivate(str(state.fresh))
        if state.others:
            self.change(state.without_fresh, None, False)

    def remove(self) -> None:
        """As of `Live`."""
        say(f"  azure: the container app {self.name} goes")
        with azure_errors(f"the container app {self.name}"):
            self._at.ask("DELETE", self.path, VERSION, costs=app_cost(self._spec))

    def _deactivate(self, revision: str) -> None:
        say(f"  azure: the revision {revision} goes")
        with azure_errors(f"the revision {revision}"):
            self._at.ask("POST", f"{self.path}/revisions/{revision}/deactivate", VERSION, costs=app_cost(self._spec))


class App:
    """The revision of one version in one project's container app.

    Args:
        engine: the image that serves it; see `engine_of`.
        bundle: the bundle's folder, which goes into the image.
        identity: the file that says who may ask, as `tunewright serve --identity` takes it.
        service: how the model answers on this machine, as it was measured; what it costs depends on it.

    Raises:
        UserError: the bundle needs a GPU, or there is no environment or registry.
    """

    target = "aca"

    def __init__(
        self, spec: Spec, at: Connection, engine: str, bundle: Path, identity: Path, service: Service, replicas: int
    ):
        if engine == "vllm":
            raise UserError(
                f"A bundle for {engine} needs a GPU, and container apps run on CPUs.",
                fix="Deploy with --to aml or --to aks, or export for a CPU: export.runtime=auto",
            )
        self._spec, self._at, self._bundle = spec, at, bundle
        self._machine = price_book(spec.price_file).machine(container_of(spec))
        self._identity, self._service, self._replicas = identity, service, replicas
        self._engine = engine
        self._provider = json.loads(identity.read_text("utf-8"))
        self.live, self._made = LiveApp(spec, at), False
        self.name, self.path = self.live.name, self.live.path
        self._suffix = f"v{tag_of(spec, bundle, identity)[:12]}"
        self.fresh = f"{self.name}--{self._suffix}"
        """The revision of this version."""
        self._is_new = False
        """Whether this process has made the revision, and nobody but this process asks it yet."""
        self._environments = f"{self.live.providers}/Microsoft.App/managedEnvironments"

    @property
    def _memory(self) -> str:
        """As Container Apps writes it: twice as many GiB as cores, where the price book does not say."""
        return f"{self._machine.memory_gib or 2 * self._machine.cores:g}Gi"

    def blueprint(self) -> Blueprint:
        """As of `Target`; the price is that of this job's traffic."""
        registry = registry_of(self._at)
        image = f"{registry.rpartition('/')[2]}.azurecr.io/tunewright/{self._spec.name}:…"
        cost = self._monthly
        asked = f"{self._spec.traffic.requests_per_month:,} requests a month"
        return Blueprint(
            self.target,
            [
                Resource("image", image, "built by the registry, the bundle inside"),
                Resource(
                    "container app",
                    self.name,
                    f"{self._machine.cores} vCPU, {self._memory}, 0 to {self._replicas} replicas, asked with Entra ID",
                    self._body(image, []),
                ),
            ],
            [RunningMachines(f"{self.name} for {asked}", cost.usd_per_month)],
            [
                f"It scales to zero {COOLING_SECONDS // 60} minutes after the last request, and costs nothing then;",
                f"the first request after that waits for its start, {self._asleep}.",
            ],
        )

    @property
    def cost(self) -> str:
        """As of `Target`."""
        return app_cost(self._spec)

    def create(self) -> None:
        """As of `Target`. Of an app's weights the sum is 100, so the first version has all of it at once.

        Raises:
            UserError: Azure refuses, the image can't be built, or the revision takes too long.
        """
        image = built(self._at, self._spec, self._bundle, f"{self._engine}-bundle", self._identity)
        state = self.live.state()
        self._made = state is None
        served = {name: share for name, share in state.shares.items() if share} if state else {}
        say(f"  azure: container app {self.name}, revision {self.fresh}")
        if state and self.live.revisions().get(self.fresh) is False:
            self.live.activate(self.fresh)
        shares = served | {self.fresh: 0} if served else {self.fresh: 100}
        body = self._body(image, traffic_of(shares, self.fresh))
        body["tags"] = ((self.live.known() or {}).get("tags") or {}) | body["tags"]
        with azure_errors(f"the container app {self.name}"):
            self._at.ask("PUT", self.path, VERSION, body, costs=self.cost)
        self._settled()
        self._is_new = True

    def try_out(self, exam: Exam) -> DeploymentTrial:
        """As of `Target`. Once a revision that nobody else asks has scaled to zero its start is measured too."""
        found = trial(self._door(), exam, self.cost)
        if self._is_new:
            self._is_new = False
            found = replace(found, cold_ms=self._cold_ms(exam))
        if found.cold_ms is not None:
            say(
                f"  scale to zero: asleep it answers after {found.cold_ms:,.0f} ms, awake after {found.p50_ms:,.0f} ms;"
                f" {self._asleep}"
            )
        return found

    def _cold_ms(self, exam: Exam) -> float | None:
        """Milliseconds of the first answer after it has scaled to zero; None where it does not."""
        wait, what = Wait(), f"{self.fresh} to scale to zero, so that its start can be measured"
        while self._replicas_now():
            if wait.look(what, _ASLEEP_SECONDS, self.cost):
                say(f"  azure: {self.fresh} has not scaled to zero, so its start is not measured")
                return None
            time.sleep(_POLL_SECONDS)
        return first_answer(self._door(), exam, self.cost)

    def _replicas_now(self) -> int:
        with azure_errors(f"the replicas of {self.fresh}"):
            path = f"{self.path}/revisions/{self.fresh}/replicas"
            return len(self._at.ask("GET", path, VERSION).get("value", []))

    @property
    def _monthly(self) -> Cost:
        """What it costs a month at this job's traffic."""
        traffic = self._spec.traffic
        return host_cost(
            self._machine, self._service, requests=traffic.requests_per_month, peak_to_average=traffic.peak_to_average
        )

    @property
    def _asleep(self) -> str:
        """How many wait for a start, and what sleeping saves, in words."""
        saved = asleep_saves(self._machine, self._monthly)
        return (
            f"{cold_share(self._spec.traffic.requests_per_month):.1%} of the requests find it asleep, and that saves "
            f"${saved:,.2f} a month beside one replica that stands day and night"
        )

    def _door(self) -> Door:
        """The revision's own address."""
        app = self.live.known()
        host = str(app["properties"]["configuration"]["ingress"]["fqdn"]) if app else ""
        first, _, domain = host.partition(".")
        audience, tenant = self._provider["audience"], self._provider["issuer"].split("/")[3]

        def headers() -> dict[str, str]:
            token = self._at.credential.get_token(f"{audience}/.default", tenant_id=tenant).token
            return {"Authorization": f"Bearer {token}"}

        return Door(f"https://{first}---{_FRESH}.{domain}/v1", headers)

    def shift(self, percent: int) -> int:
        """As of `Target`; of several others the one with the most traffic has the rest."""
        state = self.live.state()
        assert state and state.fresh == self.fresh, "only what was made and tried gets traffic"
        self.live.change(state.with_fresh(percent), self.fresh, True)
        return percent

    def finish(self) -> None:
        """As of `Target`."""
        self.live.promote()

    def undo(self) -> None:
        """As of `Target`."""
        take_back(self.live, self.fresh, self._made)

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
            "tags": {TAG: self._spec.name, **marks(self.fresh, False)},
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
                        "minReplicas": 0,
                        "maxReplicas": self._replicas,
                        "cooldownPeriod": COOLING_SECONDS,
                        "rules": [{"name": "requests", "http": {"metadata": {"concurrentRequests": "8"}}}],
                    },
                },
            },
        }

    def _settled(self) -> None:
        """Wait until the app is as it was put.

        Raises:
            UserError: it failed, or takes longer than Azure ever needs.
        """
        wait, what = Wait(), f"the revision {self._suffix}: its image is fetched and its container begins"
        state = self._state()
        while state not in _ENDED and not wait.look(what, _STUCK_SECONDS, self.cost):
            time.sleep(_POLL_SECONDS)
            state = self._state()
        if state != "Succeeded":
            raise UserError(
                f"The revision {self._suffix} of {self.name} did not start ({state}).",
                fix=f"See why: az containerapp logs show --name {self.name}",
            )

    def _state(self) -> str:
        """As Resource Manager calls it."""
        app = self.live.known()
        return str(app["properties"].get("provisioningState")) if app else "Waiting"


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


def traffic_of(shares: Mapping[str, int], fresh: str | None) -> list[dict[str, Any]]:
    """Shares as Container Apps takes them. The fresh revision has an address of its own, or else the largest one, so
    that whatever may be tried can be asked alone."""
    labelled = fresh or max(shares, key=lambda name: shares[name])
    return [
        {"revisionName": name, "weight": share} | ({"label": _FRESH} if name == labelled else {})
        for name, share in shares.items()
    ]


def app_cost(spec: Spec) -> str:
    """What a revision costs, in words."""
    return f"up to {hourly(1, container_of(spec), spec)} a replica, nothing while nobody asks"
