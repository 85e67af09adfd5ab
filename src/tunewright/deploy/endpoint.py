"""`--to aml`: a managed online endpoint with a deployment for each version of the model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tunewright.backends.azure import assets, machines
from tunewright.backends.azure.answers import without_secrets
from tunewright.backends.azure.backend import TAG
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import azure_errors
from tunewright.backends.azure.registry import Registered
from tunewright.backends.azure.rules import endpoint_cores
from tunewright.backends.azure.waiting import BROKEN, Wait
from tunewright.config import Spec
from tunewright.core.artifacts import sha256_json
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.deploy.blueprint import Blueprint, Resource, standing
from tunewright.deploy.held_token import HeldToken
from tunewright.deploy.images import context, tag_of
from tunewright.deploy.live import hourly, take_back
from tunewright.deploy.live_endpoint import STUCK_SECONDS, LiveEndpoint
from tunewright.deploy.trial import DeploymentAddress, DeploymentTrial, Exam, trial

_SCOPE = "https://ml.azure.com/.default"
"""The scope of tokens that an endpoint takes."""
_MOUNT = "/models"
_PORT = 8080
_AT_ONCE = {"vllm": 64, "openvino": 16, "onnxruntime": 2, "linear": 16}
"""Requests that an instance takes at once, by engine."""
_QUEUE_MS = 30_000
_MOST_MS = 180_000
"""The longest time that Azure ML gives a request."""
_FIRST_PROBE = {"vllm": 600, "openvino": 10, "onnxruntime": 10, "linear": 10}
"""Seconds until a model should be loaded, by engine."""
_POLL_SECONDS = 2.0
_LOG_LINES = 40


class ManagedEndpoint:
    """One version of a project as a deployment on its endpoint.

    Args:
        engine: the image that serves it; see `engine_of`.
        instances: the number of machines of the deployment.
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
        """The name of the deployment: a hash of the model, the code that serves it, and the machine. The number of
        machines is no part of it: Azure changes that while a deployment serves, without quota for both numbers."""

    def blueprint(self) -> Blueprint:
        machine = machines.price_of(self._spec.traffic.machine, self._spec)
        count, size = self._instances, self._spec.traffic.machine
        cores = endpoint_cores(size, count, machine.cores)
        return Blueprint(
            self.target,
            [
                Resource("online endpoint", self.name, "sign-in with Entra ID", self.live.entity()._to_dict()),
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
                "While a new version is on trial beside the old one, you pay for both.",
            ],
        )

    @property
    def cost(self) -> str:
        """See `DeployTarget`."""
        return hourly(self._instances, self._spec.traffic.machine, self._spec)

    def create(self) -> None:
        """Make the endpoint if there is none, and the deployment, which gets no traffic yet.

        Raises:
            UserError: Azure refuses, the container does not start, or takes too long.
        """
        self._made = self.live.state() is None
        self.live.begin(self.fresh)
        self._put()

    def resize(self) -> None:
        """See `DeployTarget`. A deployment takes another number of machines while it serves."""
        with azure_errors(f"the deployment {self.fresh}"):
            known = self._at.ml.online_deployments.get(self.fresh, self.name)
        if known.instance_count != self._instances or str(known.provisioning_state).lower() in BROKEN:
            self._put()

    def _put(self) -> None:
        """Make the deployment, or change it to what it would be made as, and wait until it is ready."""
        deployment = self._deployment(self._environment())
        say(f"  azure: deployment {self.fresh}: {self.cost}")
        self.live.costs[self.fresh] = self.cost
        with azure_errors(f"the deployment {self.fresh}"):
            poller = self._at.ml.online_deployments.begin_create_or_update(deployment, skip_script_validation=True)
            self._wait(poller)

    def try_out(self, exam: Exam) -> DeploymentTrial:
        """See `DeployTarget`."""
        return trial(self._address(), exam, self.cost)

    def _address(self) -> DeploymentAddress:
        """The address of the new version alone, whatever its share of the traffic."""
        with azure_errors(f"the endpoint {self.name}"):
            scoring = str(self._at.ml.online_endpoints.get(self.name).scoring_uri)

        token = HeldToken(self._at.credential, _SCOPE)

        def headers() -> dict[str, str]:
            return {"Authorization": f"Bearer {token()}", "azureml-model-deployment": self.fresh}

        return DeploymentAddress(scoring.rpartition("/chat/completions")[0], headers)

    def shift(self, percent: int) -> int:
        """See `DeployTarget`; the rest goes to the other version with the most traffic."""
        state = self.live.state()
        assert state and state.fresh == self.fresh, "only the version that was made and tried gets traffic"
        self.live.change(self.fresh, True, traffic=state.with_fresh(percent), mirror={})
        return percent

    def mirror(self, percent: int) -> None:
        """Send the new version copies of a share of the requests; its answers only go into its log."""
        self.live.change(self.fresh, True, mirror={self.fresh: percent})

    def finish(self) -> None:
        """See `DeployTarget`."""
        self.live.promote()

    def undo(self) -> None:
        """See `DeployTarget`."""
        take_back(self.live, self.fresh, self._made)

    def _environment(self) -> str:
        """The environment of the image. Azure ML builds it once for each version of the code, and mounts models into
        it."""
        from azure.ai.ml.entities import BuildContext, Environment

        name, version = f"tunewright-serve-{self._engine}", self._image

        def build(scratch: Path) -> Any:
            folder = scratch / "context"
            context(folder, self._spec, None)
            _cut_after(folder / "infra" / "docker" / "Dockerfile", self._engine)
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

        return assets.image(self._at, name, version, build, {TAG: self._spec.name})

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
        """Wait until the deployment is ready.

        Raises:
            UserError: it takes longer than Azure ever needs.
        """
        wait = Wait()
        what = f"the deployment {self.fresh}: its image is built once, then its machines begin"
        while not poller.done():
            if wait.look(what, STUCK_SECONDS, self.cost):
                minutes = f"{STUCK_SECONDS / 60:.0f} minutes"
                raise UserError(
                    f"The deployment {self.fresh} was not ready after {minutes}.",
                    why=self._log(),
                    fix="Type the same command again; if that happens again, name another machine.",
                )
            time.sleep(_POLL_SECONDS)
        if str(poller.status()).lower() != "succeeded":
            raise UserError(
                f"The deployment {self.fresh} failed.",
                why=self._log(),
                fix="The end of its container's log is above. Fix that, then type the same command again.",
            )
        poller.result()

    def _log(self) -> str | None:
        """The last lines of the container's log, if there is one."""
        try:
            with azure_errors("the log"):
                text = str(self._at.ml.online_deployments.get_logs(self.fresh, self.name, lines=_LOG_LINES))
                text = without_secrets(text)
        except UserError:
            return None
        return f"Its log ends: {text.strip()[-600:]}" if text.strip() else None


def _cut_after(dockerfile: Path, stage: str) -> None:
    """Cut a Dockerfile after a stage, because Azure ML builds the last one."""
    text = dockerfile.read_text("utf-8")
    start = text.index(f" AS {stage}\n")
    end = text.find("\nFROM ", start)
    dockerfile.write_text(text[: end if end > 0 else len(text)].rstrip() + "\n", "utf-8")
