"""`--to aml`: a managed online endpoint, each version of the model a deployment of its own behind it."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

from tunewright.backends.azure import assets, machines
from tunewright.backends.azure.answers import without_secrets
from tunewright.backends.azure.backend import TAG
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import azure_errors, found
from tunewright.backends.azure.registry import Registered, promote
from tunewright.backends.azure.rules import endpoint_cores
from tunewright.backends.azure.waiting import Wait, wait_for
from tunewright.config import Spec
from tunewright.core.artifacts import sha256_json
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.deploy.blueprint import Blueprint, Resource, standing
from tunewright.deploy.images import context, tag_of
from tunewright.deploy.live import CANARY, TRIAL, State, hourly, marked, marks, require_fresh, require_ours, take_back
from tunewright.deploy.trial import DeploymentTrial, Door, Exam, trial

_SCOPE = "https://ml.azure.com/.default"
"""Of tokens that an endpoint takes."""
_MOUNT = "/models"
_PORT = 8080
_AT_ONCE = {"vllm": 64, "openvino": 16, "onnxruntime": 2, "linear": 16}
"""Requests that an instance takes at once, by its image."""
_QUEUE_MS = 30_000
_MOST_MS = 180_000
"""What Azure ML lets a request take."""
_FIRST_PROBE = {"vllm": 600, "openvino": 10, "onnxruntime": 10, "linear": 10}
"""Seconds until a model may be expected to be loaded."""
_STUCK_SECONDS = 45 * 60.0
_POLL_SECONDS = 2.0
_LOG_LINES = 40
_MODEL = re.compile(r"(?:/models/|azureml:)([^/:]+)(?:/versions/|:)([^/:]+)$")
"""The name and version in a model's address, as Resource Manager or as Azure ML writes it."""


class LiveEndpoint:
    """One project's endpoint, `tw-NAME-xxxx`, and the deployments on it, whatever made them.

    Which of them is fresh is a tag of the endpoint, so that it changes in the same call as the traffic.
    """

    target, kind = "aml", "endpoint"

    def __init__(self, spec: Spec, at: Connection):
        self._spec, self._at = spec, at
        # Names are taken region-wide: the workspace's makes ours our own.
        self.name = f"{machines.azure_name(spec, 25)}-{sha256_json(at.name.path)[:4]}"
        self.costs: dict[str, str] = {}
        """What each deployment costs, in words, as it was last seen."""

    def state(self) -> State | None:
        """As of `Live`."""
        with azure_errors(f"the endpoint {self.name}"):
            endpoint = found(self._at.ml.online_endpoints.get, self.name)
            if endpoint is None:
                return None
            require_ours(self._spec, f"the endpoint {self.name}", (endpoint.tags or {}).get(TAG))
            standing = list(self._at.ml.online_deployments.list(self.name))
        shares = {each.name: int((endpoint.traffic or {}).get(each.name, 0)) for each in standing}
        costs = {each.name: hourly(int(each.instance_count or 1), each.instance_type, self._spec) for each in standing}
        self.costs = dict(costs)
        fresh, is_canary = marked(endpoint.tags)
        if fresh not in shares:
            return State(shares, costs=costs)
        return State(shares, fresh, is_canary, int((endpoint.mirror_traffic or {}).get(fresh, 0)), costs)

    @property
    def _all_costs(self) -> str:
        return " and ".join(self.costs.values()) or "it costs nothing without a deployment"

    def begin(self, version: str) -> None:
        """Name the version that is about to be made, so that it is found even where this process is killed meanwhile;
        the endpoint is made where it is not there."""
        with azure_errors(f"the endpoint {self.name}"):
            known = found(self._at.ml.online_endpoints.get, self.name)
            if known is None:
                say(f"  azure: endpoint {self.name}")
                made = self._at.ml.online_endpoints.begin_create_or_update(self.entity(marks(version, False)))
                wait_for(made, f"the endpoint {self.name}", _STUCK_SECONDS, self._all_costs)
        if known is not None:
            self.change(version, False)

    def change(
        self,
        fresh: str | None,
        is_canary: bool,
        *,
        traffic: dict[str, int] | None = None,
        mirror: dict[str, int] | None = None,
    ) -> None:
        """Which version is fresh, and what else is given, in one call; what is not given stays as it is."""
        with azure_errors(f"the traffic of {self.name}"):
            endpoint = self._at.ml.online_endpoints.get(self.name)
            tags = (endpoint.tags or {}) | marks(fresh, is_canary)
            endpoint.tags = {tag: value for tag, value in tags.items() if value or tag not in (TRIAL, CANARY)}
            if traffic is not None:
                endpoint.traffic = traffic
            if mirror is not None:
                endpoint.mirror_traffic = mirror
            changed = self._at.ml.online_endpoints.begin_create_or_update(endpoint)
            wait_for(changed, f"the traffic of {self.name} to change", _STUCK_SECONDS, self._all_costs)

    def promote(self) -> None:
        """As of `Live`. The tag stays until the others are gone: broken off before, it tells how to go on."""
        state = require_fresh(self)
        self.change(state.fresh, True, traffic={str(state.fresh): 100}, mirror={})
        self._crown(str(state.fresh))
        for name in state.others:
            self._delete(name)
        self.change(None, False)

    def withdraw(self) -> None:
        """As of `Live`."""
        state = require_fresh(self)
        if state.is_asked:
            self.change(state.fresh, state.is_canary, traffic=state.without_fresh, mirror={})
        self._delete(str(state.fresh))
        self.change(None, False)

    def remove(self) -> None:
        """As of `Live`. With an endpoint Azure deletes its deployments."""
        say(f"  azure: the endpoint {self.name} goes, and all on it")
        with azure_errors(f"the endpoint {self.name}"):
            gone = self._at.ml.online_endpoints.begin_delete(self.name)
            wait_for(gone, f"{self.name} to go", _STUCK_SECONDS, self._all_costs)

    def entity(self, more: dict[str, str] | None = None) -> Any:
        """The endpoint as it is made, before it has a deployment."""
        from azure.ai.ml.entities import ManagedOnlineEndpoint

        tags = {tag: value for tag, value in (more or {}).items() if value}
        return ManagedOnlineEndpoint(
            name=self.name,
            auth_mode="aad_token",
            tags={TAG: self._spec.name, **tags},
            identity=machines.assigned_identity(self._spec),
        )

    def _crown(self, deployment: str) -> None:
        """Make the model of a deployment the champion: what was tried, not what the project's outputs are by now."""
        with azure_errors(f"the deployment {deployment}"):
            model = _MODEL.search(str(self._at.ml.online_deployments.get(deployment, self.name).model))
        if model:
            promote(self._at, model[1], model[2])

    def _delete(self, deployment: str) -> None:
        say(f"  azure: the deployment {deployment} goes")
        with azure_errors(f"the deployment {deployment}"):
            gone = self._at.ml.online_deployments.begin_delete(deployment, self.name)
            wait_for(gone, f"the deployment {deployment} to go", _STUCK_SECONDS, self.costs.get(deployment, ""))
        self.costs.pop(deployment, None)


class ManagedEndpoint:
    """The deployment of one version on one project's endpoint.

    Args:
        engine: the image that serves it; see `engine_of`.
        instances: machines of a deployment.
    """

    target = "aml"

    def __init__(self, spec: Spec, at: Connection, engine: str, model: Registered, instances: int):
        if not spec.traffic.machine.startswith("Standard_"):
            raise UserError(
                f"A managed endpoint runs on machines, and traffic.machine is {spec.traffic.machine}.",
                fix="Name one: traffic.machine=Standard_F4s_v2; or deploy with --to aca.",
            )
        self._spec, self._at, self._model, self._instances = spec, at, model, instances
        self._engine = engine
        self.live = LiveEndpoint(spec, at)
        self.name, self._made = self.live.name, False
        self._image = tag_of(spec, None)
        self.fresh = f"v{sha256_json([model.content, self._image, spec.traffic.machine])[:12]}"
        """The deployment of this version: of this model, served by this code on this machine."""

    def blueprint(self) -> Blueprint:
        machine = machines.price_of(self._spec.traffic.machine, self._spec)
        count, size = self._instances, self._spec.traffic.machine
        cores = endpoint_cores(size, count, machine.cores)
        return Blueprint(
            self.target,
            [
                Resource("online endpoint", self.name, "signed in to with Entra ID", self.live.entity()._to_dict()),
                Resource("environment", f"tunewright-serve-{self._engine}", "the image, built by Azure ML once"),
                Resource(
                    "deployment",
                    self.fresh,
                    f"{count} x {size}, model {self._model.name}:{self._model.version}",
                    self._deployment(f"azureml:tunewright-serve-{self._engine}:…")._to_dict(),
                ),
            ],
            [standing(f"{count} x {size}, day and night", machine, count)],
            [
                f"Managed endpoints don't scale to zero, and take {cores} cores of quota, a fifth of it in reserve.",
                "While a new version is tried beside the old one, both are paid for.",
            ],
        )

    @property
    def cost(self) -> str:
        """As of `Target`."""
        return hourly(self._instances, self._spec.traffic.machine, self._spec)

    def create(self) -> None:
        """Make the endpoint where it is not there, and the deployment, which gets no traffic yet.

        Raises:
            UserError: Azure refuses, the container does not start, or takes too long.
        """
        self._made = self.live.state() is None
        self.live.begin(self.fresh)
        deployment = self._deployment(self._environment())
        say(f"  azure: deployment {self.fresh}: {self.cost}")
        self.live.costs[self.fresh] = self.cost
        with azure_errors(f"the deployment {self.fresh}"):
            poller = self._at.ml.online_deployments.begin_create_or_update(deployment, skip_script_validation=True)
            self._wait(poller)

    def try_out(self, exam: Exam) -> DeploymentTrial:
        """As of `Target`."""
        return trial(self._door(), exam, self.cost)

    def _door(self) -> Door:
        """The new version alone, whatever its share of the traffic."""
        with azure_errors(f"the endpoint {self.name}"):
            scoring = str(self._at.ml.online_endpoints.get(self.name).scoring_uri)

        def headers() -> dict[str, str]:
            token = self._at.credential.get_token(_SCOPE).token
            return {"Authorization": f"Bearer {token}", "azureml-model-deployment": self.fresh}

        return Door(scoring.rpartition("/chat/completions")[0], headers)

    def shift(self, percent: int) -> int:
        """As of `Target`; of several others the one with the most traffic has the rest."""
        state = self.live.state()
        assert state and state.fresh == self.fresh, "only what was made and tried gets traffic"
        self.live.change(self.fresh, True, traffic=state.with_fresh(percent), mirror={})
        return percent

    def mirror(self, percent: int) -> None:
        """Send the new version a copy of a share of the requests; its answers go nowhere but into its log."""
        self.live.change(self.fresh, True, mirror={self.fresh: percent})

    def finish(self) -> None:
        """As of `Target`."""
        self.live.promote()

    def undo(self) -> None:
        """As of `Target`."""
        take_back(self.live, self.fresh, self._made)

    def _environment(self) -> str:
        """The image: Azure ML builds it once for each version of the code; models are mounted into it."""
        from azure.ai.ml.entities import BuildContext, Environment

        name, version = f"tunewright-serve-{self._engine}", self._image

        def made(scratch: Path) -> Any:
            folder = scratch / "context"
            context(folder, self._spec, None)
            _only(folder / "infra" / "docker" / "Dockerfile", self._engine)
            say(f"  azure: environment {name}, version {version}; Azure builds its image")
            return Environment(
                name=name,
                version=version,
                tags={TAG: self._spec.name},
                build=BuildContext(path=str(folder), dockerfile_path="infra/docker/Dockerfile"),
                inference_config={
                    "liveness_route": {"port": _PORT, "path": "/health"},
                    "readiness_route": {"port": _PORT, "path": "/ready"},
                    "scoring_route": {"port": _PORT, "path": "/v1/chat/completions"},
                },
            )

        return assets.image(self._at, name, version, made, {TAG: self._spec.name})

    def _deployment(self, environment: str) -> Any:
        from azure.ai.ml.entities import (
            DefaultScaleSettings,
            ManagedOnlineDeployment,
            OnlineRequestSettings,
            ProbeSettings,
        )

        first = _FIRST_PROBE[self._engine]
        return ManagedOnlineDeployment(
            name=self.fresh,
            endpoint_name=self.name,
            model=self._model.address,
            environment=environment,
            model_mount_path=_MOUNT,
            instance_type=self._spec.traffic.machine,
            instance_count=self._instances,
            environment_variables={"TUNEWRIGHT_BUNDLE": _MOUNT},
            tags={TAG: self._spec.name},
            scale_settings=DefaultScaleSettings(),
            request_settings=OnlineRequestSettings(
                request_timeout_ms=min(_MOST_MS, max(5_000, int(20 * self._spec.goal.p95_ms))),
                max_concurrent_requests_per_instance=_AT_ONCE[self._engine],
                max_queue_wait_ms=_QUEUE_MS,
            ),
            liveness_probe=ProbeSettings(initial_delay=first, period=10, timeout=5, failure_threshold=30),
            readiness_probe=ProbeSettings(initial_delay=first, period=10, timeout=5, failure_threshold=30),
        )

    def _wait(self, poller: Any) -> None:
        """Until the deployment stands.

        Raises:
            UserError: it takes longer than Azure ever needs.
        """
        wait = Wait()
        what = f"the deployment {self.fresh}: its image is built once, then its machines begin"
        while not poller.done():
            if wait.look(what, _STUCK_SECONDS, self.cost):
                minutes = f"{_STUCK_SECONDS / 60:.0f} minutes"
                raise UserError(
                    f"The deployment {self.fresh} was not ready after {minutes}.",
                    why=self._log(),
                    fix="Type the same command again; where it comes back, name another machine.",
                )
            time.sleep(_POLL_SECONDS)
        if str(poller.status()).lower() != "succeeded":
            raise UserError(
                f"The deployment {self.fresh} failed.",
                why=self._log(),
                fix="Its container's last words are above. Mend that, then type the same command again.",
            )
        poller.result()

    def _log(self) -> str | None:
        """The last lines of the container's log, where there is one."""
        try:
            with azure_errors("the log"):
                text = str(self._at.ml.online_deployments.get_logs(self.fresh, self.name, lines=_LOG_LINES))
                text = without_secrets(text)
        except UserError:
            return None
        return f"Its log ends: {text.strip()[-600:]}" if text.strip() else None


def _only(dockerfile: Path, stage: str) -> None:
    """Cut a Dockerfile behind a stage: Azure ML builds the last one."""
    text = dockerfile.read_text("utf-8")
    start = text.index(f" AS {stage}\n")
    end = text.find("\nFROM ", start)
    dockerfile.write_text(text[: end if end > 0 else len(text)].rstrip() + "\n", "utf-8")
