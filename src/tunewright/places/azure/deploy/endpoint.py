"""`--to aml`: a managed online endpoint, each version of the model a deployment of its own behind it."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunewright.artifacts import sha256_json
from tunewright.errors import UserError
from tunewright.export.bundle import BundleInfo
from tunewright.places.azure import assets, machines
from tunewright.places.azure.connection import Connection, azure_errors, found
from tunewright.places.azure.deploy.blueprint import Blueprint, Resource, standing
from tunewright.places.azure.deploy.images import ENGINES, context, tag_of
from tunewright.places.azure.deploy.trial import Door, Exam, Trial, trial
from tunewright.places.azure.place import TAG
from tunewright.places.azure.preflight import RESERVE
from tunewright.places.azure.registry import Registered, promote
from tunewright.progress import say
from tunewright.spec import Spec

_SCOPE = "https://ml.azure.com/.default"
"""Of tokens that an endpoint takes."""
_MOUNT = "/models"
_PORT = 8080
_AT_ONCE = {"vllm": 64, "openvino": 16, "onnxruntime": 2}
"""Requests that an instance takes at once, by its image."""
_QUEUE_MS = 30_000
_MOST_MS = 180_000
"""What Azure ML lets a request take."""
_FIRST_PROBE = {"vllm": 600, "openvino": 10, "onnxruntime": 10}
"""Seconds until a model may be expected to be loaded."""
_STUCK_SECONDS = 45 * 60.0
_POLL_SECONDS = 2.0
_LOG_LINES = 40


class Endpoint:
    """One model's endpoint, `tw-NAME-xxxx`, and on it the deployment of one version.

    Args:
        instances: machines of a deployment.
    """

    target = "aml"

    def __init__(self, spec: Spec, at: Connection, info: BundleInfo, model: Registered, instances: int):
        if not spec.traffic.machine.startswith("Standard_"):
            raise UserError(
                f"A managed endpoint runs on machines, and traffic.machine is {spec.traffic.machine}.",
                fix="Name one: traffic.machine=Standard_D2s_v5; or deploy with --to aca.",
            )
        self._spec, self._at, self._model, self._instances = spec, at, model, instances
        self._engine = ENGINES[info.runtime]
        # Names are taken region-wide: the workspace's makes ours our own.
        self.name = f"{machines.azure_name(spec, 25)}-{sha256_json(at.name.path)[:4]}"
        self._image = tag_of(None)
        self.fresh = f"v{sha256_json([model.version, self._image, spec.traffic.machine])[:12]}"
        """The deployment of this version: of this model, served by this code on this machine."""

    def blueprint(self) -> Blueprint:
        machine = machines.price_of(self._spec.traffic.machine, self._spec)
        count, size = self._instances, self._spec.traffic.machine
        cores = int(machine.cores * count * RESERVE + 0.999)
        return Blueprint(
            self.target,
            [
                Resource("online endpoint", self.name, "signed in to with Entra ID", self._endpoint()._to_dict()),
                Resource("environment", f"tunewright-serve-{self._engine}", "the image, built by Azure ML once"),
                Resource("deployment", self.fresh, f"{count} x {size}, model {self._model.name}:{self._model.version}",
                         self._deployment(f"azureml:tunewright-serve-{self._engine}:…")._to_dict()),
            ],
            [standing(f"{count} x {size}, day and night", machine, count)],
            [f"Managed endpoints don't scale to zero, and take {cores} cores of quota, a fifth of it in reserve.",
             "While a new version is tried beside the old one, both are paid for."],
        )  # fmt: skip

    def is_serving(self) -> bool:
        """As of `Target`."""
        with azure_errors(f"the endpoint {self.name}"):
            endpoint = found(self._at.ml.online_endpoints.get, self.name)
        return endpoint is not None and bool((endpoint.traffic or {}).get(self.fresh))

    def create(self) -> None:
        """Make the endpoint where it is not there, and the deployment, which gets no traffic yet.

        Raises:
            UserError: Azure refuses, the container does not start, or takes too long; the deployment is then removed.
        """
        with azure_errors(f"the endpoint {self.name}"):
            if found(self._at.ml.online_endpoints.get, self.name) is None:
                say(f"  azure: endpoint {self.name}")
                self._at.ml.online_endpoints.begin_create_or_update(self._endpoint()).result()
        deployment = self._deployment(self._environment())
        say(f"  azure: deployment {self.fresh}: {self._instances} x {self._spec.traffic.machine}")
        try:
            with azure_errors(f"the deployment {self.fresh}"):
                poller = self._at.ml.online_deployments.begin_create_or_update(deployment, skip_script_validation=True)
                self._wait(poller)
        except (UserError, KeyboardInterrupt):
            self.undo()
            raise

    def try_out(self, exam: Exam) -> Trial:
        """As of `Target`."""
        return trial(self._door(), exam)

    def _door(self) -> Door:
        """The new version alone, whatever its share of the traffic."""
        with azure_errors(f"the endpoint {self.name}"):
            scoring = str(self._at.ml.online_endpoints.get(self.name).scoring_uri)

        def headers() -> dict[str, str]:
            token = self._at.credential.get_token(_SCOPE).token
            return {"Authorization": f"Bearer {token}", "azureml-model-deployment": self.fresh}

        return Door(scoring.rpartition("/chat/completions")[0], headers)

    def shift(self, percent: int) -> None:
        """Give the new version a share of the traffic, the older ones the rest."""
        older = self._older()
        traffic = {self.fresh: percent if older else 100}
        if older:
            traffic |= {older[-1]: 100 - percent, **dict.fromkeys(older[:-1], 0)}
        self._set_traffic(traffic)

    def finish(self) -> None:
        """All traffic to the new version; the older ones go, and with them their cost."""
        self._set_traffic({self.fresh: 100})
        promote(self._at, self._model)
        for name in self._older():
            say(f"  azure: the deployment {name} goes")
            with azure_errors(f"the deployment {name}"):
                self._at.ml.online_deployments.begin_delete(name, self.name).result()

    def undo(self) -> None:
        """Take the new version away; what served before serves all."""
        older = self._older()
        if older:
            self._set_traffic({older[-1]: 100})
        say(f"  azure: the deployment {self.fresh} goes")
        with azure_errors(f"the deployment {self.fresh}"):
            self._at.ml.online_deployments.begin_delete(self.fresh, self.name).result()
        if not older:
            say(f"  azure: the endpoint {self.name} has no other and goes too")
            with azure_errors(f"the endpoint {self.name}"):
                self._at.ml.online_endpoints.begin_delete(self.name).result()

    def _older(self) -> list[str]:
        """The other deployments, that with the most traffic last."""
        with azure_errors(f"the endpoint {self.name}"):
            traffic = self._at.ml.online_endpoints.get(self.name).traffic or {}
            names = [each.name for each in self._at.ml.online_deployments.list(self.name) if each.name != self.fresh]
        return sorted(names, key=lambda name: traffic.get(name, 0))

    def mirror(self, percent: int) -> None:
        """Send the new version a copy of a share of the requests; its answers go nowhere but into its log."""
        with azure_errors(f"the traffic of {self.name}"):
            entity = self._at.ml.online_endpoints.get(self.name)
            entity.mirror_traffic = {self.fresh: percent}
            self._at.ml.online_endpoints.begin_create_or_update(entity).result()

    def _set_traffic(self, traffic: dict[str, int]) -> None:
        with azure_errors(f"the traffic of {self.name}"):
            endpoint = self._at.ml.online_endpoints.get(self.name)
            endpoint.traffic, endpoint.mirror_traffic = traffic, {}
            self._at.ml.online_endpoints.begin_create_or_update(endpoint).result()

    def _endpoint(self) -> Any:
        from azure.ai.ml.entities import ManagedOnlineEndpoint

        return ManagedOnlineEndpoint(
            name=self.name, auth_mode="aad_token", tags={TAG: self._spec.name},
            identity=machines.assigned_identity(self._spec),
        )  # fmt: skip

    def _environment(self) -> str:
        """The image: Azure ML builds it once for each version of the code; models are mounted into it."""
        from azure.ai.ml.entities import BuildContext, Environment

        name, version = f"tunewright-serve-{self._engine}", self._image
        with TemporaryDirectory() as scratch, azure_errors(f"the environment {name}"):
            if found(self._at.ml.environments.get, name, version) is None:
                folder = Path(scratch) / "context"
                context(folder, None)
                _only(folder / "infra" / "docker" / "Dockerfile", self._engine)
                say(f"  azure: environment {name}, version {version}; Azure builds its image")
                entity = Environment(
                    name=name, version=version, tags={TAG: self._spec.name},
                    build=BuildContext(path=str(folder), dockerfile_path="infra/docker/Dockerfile"),
                    inference_config={
                        "liveness_route": {"port": _PORT, "path": "/health"},
                        "readiness_route": {"port": _PORT, "path": "/ready"},
                        "scoring_route": {"port": _PORT, "path": "/v1/chat/completions"},
                    },
                )  # fmt: skip
                assets.quietly(self._at.ml.environments, entity)
        return f"azureml:{name}:{version}"

    def _deployment(self, environment: str) -> Any:
        from azure.ai.ml.entities import (
            DefaultScaleSettings,
            ManagedOnlineDeployment,
            OnlineRequestSettings,
            ProbeSettings,
        )

        first = _FIRST_PROBE[self._engine]
        return ManagedOnlineDeployment(
            name=self.fresh, endpoint_name=self.name, model=self._model.address, environment=environment,
            model_mount_path=_MOUNT, instance_type=self._spec.traffic.machine, instance_count=self._instances,
            environment_variables={"TUNEWRIGHT_BUNDLE": _MOUNT}, tags={TAG: self._spec.name},
            scale_settings=DefaultScaleSettings(),
            # What a request holds leaves neither the container nor the workspace's network.
            egress_public_network_access="disabled",
            request_settings=OnlineRequestSettings(
                request_timeout_ms=min(_MOST_MS, max(5_000, int(20 * self._spec.goal.p95_ms))),
                max_concurrent_requests_per_instance=_AT_ONCE[self._engine], max_queue_wait_ms=_QUEUE_MS,
            ),
            liveness_probe=ProbeSettings(initial_delay=first, period=10, timeout=5, failure_threshold=30),
            readiness_probe=ProbeSettings(initial_delay=first, period=10, timeout=5, failure_threshold=30),
        )  # fmt: skip

    def _wait(self, poller: Any) -> None:
        """Until the deployment stands.

        Raises:
            UserError: it takes longer than Azure ever needs.
        """
        end = time.monotonic() + _STUCK_SECONDS
        while not poller.done():
            if time.monotonic() > end:
                minutes = f"{_STUCK_SECONDS / 60:.0f} minutes"
                raise UserError(
                    f"The deployment {self.fresh} was not ready after {minutes} and was removed.", why=self._log(),
                    fix="Type the same command again; where it comes back, name another machine.",
                )  # fmt: skip
            time.sleep(_POLL_SECONDS)
        if str(poller.status()).lower() != "succeeded":
            raise UserError(
                f"The deployment {self.fresh} failed and was removed.", why=self._log(),
                fix="Its container's last words are above. Mend that, then type the same command again.",
            )  # fmt: skip
        poller.result()

    def _log(self) -> str | None:
        """The last lines of the container's log, where there is one."""
        try:
            with azure_errors("the log"):
                text = str(self._at.ml.online_deployments.get_logs(self.fresh, self.name, lines=_LOG_LINES))
        except UserError:
            return None
        return f"Its log ends: {text.strip()[-600:]}" if text.strip() else None


def _only(dockerfile: Path, stage: str) -> None:
    """Cut a Dockerfile behind a stage: Azure ML builds the last one."""
    text = dockerfile.read_text("utf-8")
    start = text.index(f" AS {stage}\n")
    end = text.find("\nFROM ", start)
    dockerfile.write_text(text[: end if end > 0 else len(text)].rstrip() + "\n", "utf-8")
