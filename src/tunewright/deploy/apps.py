"""`--to aca`: an Azure container app, which runs on CPUs and costs nothing while it gets no requests."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunewright.auth.identity import Provider, read_provider
from tunewright.backends.azure import machines
from tunewright.backends.azure.backend import TAG
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import azure_errors
from tunewright.backends.azure.waiting import Wait
from tunewright.config import Spec
from tunewright.core.artifacts import sha256_json
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.deploy.blueprint import Blueprint, Resource, RunningMachines
from tunewright.deploy.capacity import container_of
from tunewright.deploy.held_token import HeldToken
from tunewright.deploy.images import built, registry_of, tag_of
from tunewright.deploy.live import marks, take_back
from tunewright.deploy.live_app import VERSION, LiveApp, app_cost, traffic_of
from tunewright.deploy.rights import PULLER
from tunewright.deploy.trial import DeploymentAddress, DeploymentTrial, Exam, first_answer, trial
from tunewright.economics.cost import COOLING_SECONDS, Cost, Service, asleep_saves, cold_share, host_cost
from tunewright.economics.prices import price_book

_ENVIRONMENT = "AZURE_CONTAINER_APPS_ENVIRONMENT"
_PORT = 8080
_ASLEEP_SECONDS = COOLING_SECONDS + 120
"""Time in which a revision without requests scales to zero: Azure checks every 30 s (rule apps-cool-down)."""
_DRAIN_SECONDS = 60
_POLL_SECONDS = 2.0
_STUCK_SECONDS = 20 * 60.0
_ENDED = ("Succeeded", "Failed", "Canceled")
_ASSIGNED = "UserAssigned"
_ENTRA = re.compile(r"https?://[^/]+/([^/]+)")
"""An issuer with a tenant: Entra ID's, in any cloud."""


class App:
    """One version of a project as a revision of its container app.

    Args:
        engine: the image that serves it; see `engine_of`.
        bundle: the bundle's folder, which goes into the image.
        identity: the file that says who may call it, as `tunewright serve --identity` takes it.
        service: the measured latencies of the model on this machine; the cost depends on them.

    Raises:
        UserError: the bundle needs a GPU, no identity may pull its image, or there is no environment or registry.
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
        self._provider = read_provider(identity, Provider)
        self._tenant = _tenant_of(self._provider.issuer, identity)
        self._puller = _puller_of(spec)
        self.live, self._made = LiveApp(spec, at), False
        self.name, self.path = self.live.name, self.live.path
        size = [self._machine.cores, self._memory, replicas]
        self._suffix = f"v{sha256_json([tag_of(spec, bundle, identity), size])[:12]}"
        self.fresh = f"{self.name}--{self._suffix}"
        """The revision of this version. Its size is part of the name, because no revision can be changed."""
        self._is_new = False
        """Whether this process made the revision, so that nobody else calls it yet."""
        self._environments = f"{self.live.providers}/Microsoft.App/managedEnvironments"

    @property
    def _memory(self) -> str:
        """The memory as Container Apps writes it; twice as many GiB as cores if the price book does not say."""
        return f"{self._machine.memory_gib or 2 * self._machine.cores:g}Gi"

    def blueprint(self) -> Blueprint:
        """See `DeployTarget`; the price is for this job's traffic."""
        registry = registry_of(self._at)
        image = f"{registry.rpartition('/')[2]}.azurecr.io/tunewright/{self._spec.name}:…"
        cost = self._monthly
        traffic = f"{self._spec.traffic.requests_per_month:,} requests a month"
        return Blueprint(
            self.target,
            [
                Resource("image", image, "built by the registry, the bundle inside"),
                Resource(
                    "container app",
                    self.name,
                    f"{self._machine.cores} vCPU, {self._memory}, 0 to {self._replicas} replicas, Entra ID sign-in",
                    self._body(image, {}),
                ),
            ],
            [RunningMachines(f"{self.name} for {traffic}", cost.usd_per_month)],
            [
                f"It scales to zero {COOLING_SECONDS // 60} minutes after the last request, and costs nothing then;",
                f"the next request waits for its start: {self._asleep}.",
            ],
        )

    @property
    def cost(self) -> str:
        """See `DeployTarget`."""
        return app_cost(self._spec)

    def create(self) -> None:
        """See `DeployTarget`. The sum of an app's weights is 100, so the first version gets all the traffic at once.

        Raises:
            UserError: Azure refuses, the image can't be built, or the revision takes too long.
        """
        is_known = self.live.state() is not None and self.fresh in self.live.revisions()
        image = "" if is_known else built(self._at, self._spec, self._bundle, f"{self._engine}-bundle", self._identity)
        state = self.live.state()  # once more, because a build takes minutes
        self._made = state is None
        serving = {name: share for name, share in state.shares.items() if share} if state else {}
        shares = serving | {self.fresh: 0} if serving else {self.fresh: 100}
        say(f"  azure: container app {self.name}, revision {self.fresh}")
        if is_known:
            self._take_up(shares)
        else:
            self._make(image, shares)
        self._wait_until_ready()
        self._is_new = True

    def _take_up(self, shares: Mapping[str, int]) -> None:
        """Put the revision of an earlier deployment on trial: Azure makes no other one of its name (rule
        revision-names)."""
        if not self.live.revisions()[self.fresh]:
            self.live.activate(self.fresh)
        self.live.change(shares, self.fresh, False)

    def _make(self, image: str, shares: Mapping[str, int]) -> None:
        """Make the app, or only the revision if there is an app."""
        app = self.live.get()
        with azure_errors(f"the container app {self.name}"):
            if app is None:
                self._at.ask("PUT", self.path, VERSION, self._body(image, shares), costs=self.cost)
            else:
                self._at.ask("PATCH", self.path, VERSION, self._change(app, image, shares), costs=self.cost)

    def resize(self) -> None:
        """See `DeployTarget`. A revision of this name has this size."""

    def try_out(self, exam: Exam) -> DeploymentTrial:
        """See `DeployTarget`. It also measures the start of a new revision after it has scaled to zero."""
        result = trial(self._address(), exam, self.cost)
        if self._is_new:
            self._is_new = False
            result = replace(result, cold_ms=self._cold_ms(exam))
        if result.cold_ms is not None:
            say(
                f"  scale to zero: asleep it answers after {result.cold_ms:,.0f} ms, awake after "
                f"{result.p50_ms:,.0f} ms; {self._asleep}"
            )
        return result

    def _cold_ms(self, exam: Exam) -> float | None:
        """Milliseconds until the first answer after it has scaled to zero; None if it does not scale to zero."""
        wait, what = Wait(), f"{self.fresh} to scale to zero, so that its start can be measured"
        while self._replicas_now():
            if wait.look(what, _ASLEEP_SECONDS, self.cost):
                say(f"  azure: {self.fresh} has not scaled to zero, so its start is not measured")
                return None
            time.sleep(_POLL_SECONDS)
        return first_answer(self._address(), exam, self.cost)

    def _replicas_now(self) -> int:
        with azure_errors(f"the replicas of {self.fresh}"):
            path = f"{self.path}/revisions/{self.fresh}/replicas"
            return len(self._at.ask("GET", path, VERSION).get("value", []))

    @property
    def _monthly(self) -> Cost:
        """The cost a month at this job's traffic."""
        traffic = self._spec.traffic
        return host_cost(
            self._machine, self._service, requests=traffic.requests_per_month, peak_to_average=traffic.peak_to_average
        )

    @property
    def _asleep(self) -> str:
        """How many requests wait for a start, and what scaling to zero saves, in words."""
        saved = asleep_saves(self._machine, self._monthly)
        return (
            f"{cold_share(self._spec.traffic.requests_per_month):.1%} of the requests find it asleep, and that saves "
            f"${saved:,.2f} a month compared with one replica that runs day and night"
        )

    def _address(self) -> DeploymentAddress:
        """The revision's own address."""
        token = HeldToken(self._at.credential, f"{self._provider.audience}/.default", tenant_id=self._tenant)

        def headers() -> dict[str, str]:
            return {"Authorization": f"Bearer {token()}"}

        return DeploymentAddress(f"https://{self.live.host_of(self.fresh)}/v1", headers)

    def shift(self, percent: int) -> int:
        """See `DeployTarget`; the rest goes to the other version with the most traffic."""
        state = self.live.state()
        assert state and state.fresh == self.fresh, "only the version that was made and tried gets traffic"
        self.live.change(state.with_fresh(percent), self.fresh, True)
        return percent

    def finish(self) -> None:
        """See `DeployTarget`."""
        self.live.promote()

    def undo(self) -> None:
        """See `DeployTarget`."""
        take_back(self.live, self.fresh, self._made)

    def _environment(self) -> str:
        """The path of the environment of container apps in Resource Manager.

        Raises:
            UserError: there is none, or there are several and nothing names one.
        """
        if name := os.environ.get(_ENVIRONMENT):
            return f"{self._environments}/{name}"
        with azure_errors("the environments of container apps"):
            listed = self._at.ask("GET", self._environments, VERSION).get("value", [])
        if len(listed) != 1:
            raise UserError(
                f"There are {len(listed)} environments of container apps in {self._at.name.resource_group}.",
                fix=f"Make one: azd env set TUNEWRIGHT_CONTAINER_APPS true && azd up; or name one: {_ENVIRONMENT}=NAME",
            )
        return str(listed[0]["id"])

    def _body(self, image: str, shares: Mapping[str, int]) -> dict[str, Any]:
        """The body of the request that makes the app with its first revision."""
        ingress = {
            "external": True,
            "targetPort": _PORT,
            "transport": "auto",
            "allowInsecure": False,
            "traffic": traffic_of(shares),
        }
        return {
            "location": self._at.region,
            "tags": {TAG: self._spec.name, **marks(self.fresh, False)},
            "identity": {"type": _ASSIGNED, "userAssignedIdentities": {self._puller: {}}},
            "properties": {
                "managedEnvironmentId": self._environment(),
                "workloadProfileName": "Consumption",
                "configuration": {
                    "activeRevisionsMode": "Multiple",
                    "maxInactiveRevisions": 5,
                    "ingress": ingress,
                    "registries": [self._registry(image)],
                },
                "template": self._template(image),
            },
        }

    def _change(self, app: dict[str, Any], image: str, shares: Mapping[str, int]) -> dict[str, Any]:
        """The body of the request that makes a revision of an app. Values that it does not name stay as somebody set
        them, such as domains, secrets and restrictions (rule merge-patch)."""
        configuration: dict[str, Any] = {"activeRevisionsMode": "Multiple", "ingress": {"traffic": traffic_of(shares)}}
        change: dict[str, Any] = {
            "tags": (app.get("tags") or {}) | marks(self.fresh, False),
            "properties": {"configuration": configuration, "template": self._template(image)},
        }
        registry, known = self._registry(image), app["properties"]["configuration"].get("registries") or []
        if registry not in known:
            others = [each for each in known if each["server"] != registry["server"]]
            configuration["registries"] = [*others, registry]
            has_own = "SystemAssigned" in str((app.get("identity") or {}).get("type"))
            kind = f"SystemAssigned,{_ASSIGNED}" if has_own else _ASSIGNED
            change["identity"] = {"type": kind, "userAssignedIdentities": {self._puller: {}}}
        return change

    def _registry(self, image: str) -> dict[str, str]:
        """The registry of an image, with the identity that pulls it."""
        return {"server": image.partition("/")[0], "identity": self._puller}

    def _template(self, image: str) -> dict[str, Any]:
        """A revision: its one container, and how it scales."""
        return {
            "revisionSuffix": self._suffix,
            "terminationGracePeriodSeconds": _DRAIN_SECONDS,
            "containers": [_container(image, self._machine.cores, self._memory)],
            "scale": {
                "minReplicas": 0,
                "maxReplicas": self._replicas,
                "cooldownPeriod": COOLING_SECONDS,
                "rules": [{"name": "requests", "http": {"metadata": {"concurrentRequests": "8"}}}],
            },
        }

    def _wait_until_ready(self) -> None:
        """Wait until Azure has made the revision.

        Raises:
            UserError: it failed, or takes longer than Azure ever needs.
        """
        wait, what = Wait(), f"the revision {self._suffix}: its image is fetched and its container begins"
        state = self._state()
        while state not in _ENDED and not wait.look(what, _STUCK_SECONDS, self.cost):
            time.sleep(_POLL_SECONDS)
            state = self._state()
        if state != "Succeeded":
            at = self._at.name
            raise UserError(
                f"The revision {self._suffix} of {self.name} did not start ({state}).",
                fix=f"See why: az containerapp logs show --resource-group {at.resource_group} --name {self.name} "
                f"--subscription {at.subscription}",
            )

    def _state(self) -> str:
        """The app's state in Resource Manager."""
        app = self.live.get()
        return str(app["properties"].get("provisioningState")) if app else "Waiting"


def _tenant_of(issuer: str, file: Path) -> str:
    """The tenant of Entra ID whose tokens a provider's file asks for.

    Raises:
        UserError: it is another provider.
    """
    if tenant := _ENTRA.match(issuer):
        return tenant[1]
    raise UserError(
        f"A container app is tried with tokens of Entra ID, and this provider is {issuer}.",
        where=file,
        fix="Write the issuer as https://login.microsoftonline.com/TENANT/v2.0; docs/azure.md has an example.",
    )


def _puller_of(spec: Spec) -> str:
    """The resource id of the identity that pulls the app's image.

    Raises:
        UserError: there is none.
    """
    if identity := machines.identity_of(spec):
        return identity
    raise UserError(
        "No identity is named that may pull the image of a container app.",
        where="azure.identity",
        why="The app's own identity gets no role before the app exists.",
        fix=PULLER,
    )


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
    request = {"httpGet": {"path": path, "port": _PORT}, "periodSeconds": 5, "timeoutSeconds": 5}
    return {"type": kind, "failureThreshold": failures, **request}
