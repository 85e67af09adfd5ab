"""Managed online endpoints: each deployment's model is really served, and traffic is divided as it was put."""

from __future__ import annotations

import random
import re
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

from tunewright.places.azure.rules import endpoint_family
from tunewright.places.rehearsal.cloud import Answer, Asked, Cloud, error
from tunewright.places.rehearsal.dockerfiles import container_of
from tunewright.places.rehearsal.served import Server
from tunewright.places.rehearsal.storage import Storage, path_of

SCORING = ".inference.ml.azure.com"
_ENDPOINT = r"/onlineEndpoints/([^/]+)$"
_SECONDS = TypeAdapter(timedelta)
_DEPLOYMENT = r"/onlineEndpoints/([^/]+)/deployments/([^/]+)$"
_NAME = re.compile(r"(?=.{3,32}$)[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*")
_MODEL = re.compile(r"/models/([^/]+)/versions/([^/]+)$")


@dataclass
class Standing:
    """A deployment's state, as ARM calls it, and its server once it runs."""

    state: str = "Creating"
    server: Server | None = None
    why: str = ""
    """What stands in its log where no container began."""


class Endpoints:
    """`stuck` makes the next deployment stay as it is for ever."""

    def __init__(self, cloud: Cloud, storage: Storage):
        self._cloud, self._storage = cloud, storage
        self._standing: dict[str, Standing] = {}
        self.stuck = False
        self.hooks = [
            ("PUT", r"/onlineEndpoints/", self._busy),
            ("PUT", _ENDPOINT, self._put_endpoint), ("PUT", _DEPLOYMENT, self._put_deployment),
            ("GET", _DEPLOYMENT, self._get_deployment), ("DELETE", _DEPLOYMENT, self._delete_deployment),
            ("DELETE", _ENDPOINT, self._delete),
            ("POST", _DEPLOYMENT.removesuffix("$") + "/getLogs$", self._logs),
        ]  # fmt: skip
        self._random = random.Random(0)

    def close(self) -> None:
        for each in self._standing.values():
            if each.server:
                each.server.close()

    def _busy(self, asked: Asked, path: str) -> Answer | None:  # noqa: ARG002
        """The refusal of a change while another one is under way (rule changes-follow-each-other)."""
        name = _key(path).partition("/")[0]
        if not any(each.state == "Creating" for key, each in self._standing.items() if key.startswith(f"{name}/")):
            return None
        return error(409, "Conflict", f"Cannot change endpoint {name} because it is in Updating provisioning state.")

    def score(self, asked: Asked) -> Answer:
        """A request to an endpoint's own host."""
        if not asked.headers.get("authorization", "").startswith("Bearer "):
            return error(401, "Unauthorized", "no token")
        name = asked.host.partition(".")[0]
        endpoint = self._cloud.get(f"{self._cloud.workspace}/onlineEndpoints/{name}")
        if endpoint is None:
            return error(404, "NotFound", name)
        deployment = asked.headers.get("azureml-model-deployment") or self._drawn(endpoint)
        standing = self._standing.get(f"{name}/{deployment}")
        if standing is None or standing.server is None or standing.state != "Succeeded":
            return error(404, "NotFound", f"no deployment {deployment} is ready")
        return standing.server.answer(asked)

    def _drawn(self, endpoint: dict[str, Any]) -> str | None:
        traffic = {name: share for name, share in (endpoint["properties"].get("traffic") or {}).items() if share}
        return self._random.choices(list(traffic), list(traffic.values()))[0] if traffic else None

    def _put_endpoint(self, asked: Asked, path: str) -> Answer | None:
        """What the service adds: the addresses."""
        name, body = path.rpartition("/")[2], asked.json()
        if refusal := _misnamed("endpoint", name):
            return refusal
        known = self._cloud.get(path)
        wrong = [each for each in body["properties"].get("traffic") or {} if f"{name}/{each}" not in self._standing]
        if wrong:
            return error(400, "BadRequest", f"traffic names deployments that are not there: {', '.join(wrong)}")
        host = f"https://{name}.{self._cloud.region}{SCORING}"
        addresses = {"scoringUri": f"{host}/v1/chat/completions", "swaggerUri": f"{host}/openapi.json"}
        body["properties"] |= addresses | {"provisioningState": "Succeeded"}
        return Answer(200 if known else 201, self._cloud.put(path, body | {"made_by_client": True}))

    def _put_deployment(self, asked: Asked, path: str) -> Answer:
        body = asked.json()
        key = _key(path)
        if refusal := _misnamed("deployment", path.rpartition("/")[2]) or _refused(body["properties"]):
            return refusal
        body["properties"].setdefault("scaleSettings", {"scaleType": "Default"})
        self._cloud.put(path, body | {"made_by_client": True})
        standing = self._standing.setdefault(key, Standing())
        if self.stuck:
            self.stuck = False
        elif standing.server is None:
            threading.Thread(target=self._start, args=(key, standing, body["properties"]), daemon=True).start()
        return Answer(201, self._shown(path, standing))

    def _get_deployment(self, asked: Asked, path: str) -> Answer | None:  # noqa: ARG002
        standing = self._standing.get(_key(path))
        return Answer(body=self._shown(path, standing)) if standing and self._cloud.get(path) else None

    def _shown(self, path: str, standing: Standing) -> dict[str, Any]:
        kept = self._cloud.get(path)
        assert kept
        return kept | {"properties": kept["properties"] | {"provisioningState": standing.state}}

    def _start(self, key: str, standing: Standing, properties: dict[str, Any]) -> None:
        found = _MODEL.search(str(properties["model"]))
        model = self._cloud.get(f"{self._cloud.workspace}/models/{found[1]}/versions/{found[2]}") if found else None
        prefix = path_of(str(model["properties"]["modelUri"])) if model else None
        if prefix is None:
            standing.state = "Failed"
            return
        folder = self._cloud.folder / "endpoints" / key
        # The rule model-mount: below the mount a model lies in folders of its name and its version.
        assert found
        self._storage.download(prefix, folder / found[1] / found[2] / prefix.rpartition("/")[2])
        named = properties["environmentVariables"]["TUNEWRIGHT_BUNDLE"]
        inside = named.removeprefix(properties["modelMountPath"]).strip("/")
        environment = self._cloud.get(str(properties["environmentId"]).removeprefix("azureml:"))
        if environment is None:
            standing.state, standing.why = "Failed", f"There is no environment {properties['environmentId']}."
            return
        build, routes = (environment["properties"][part] for part in ("build", "inferenceConfig"))
        container = container_of(self._text(path_of(build["contextUri"]), build["dockerfilePath"]))
        if closed := {int(route["port"]) for route in routes.values()} - container.ports:
            standing.state, standing.why = "Failed", f"The image exposes no port {min(closed)}."
            return
        standing.server = Server(self._cloud.folder, folder / inside, key.replace("/", "-"), container=container,
                                 ready=routes["readinessRoute"]["path"])  # fmt: skip
        standing.state = "Succeeded" if standing.server.wait(_patience(properties["readinessProbe"])) else "Failed"

    def _text(self, prefix: str | None, name: str) -> str:
        """A file of an environment's context."""
        folder = self._cloud.folder / "contexts" / str(prefix).replace("/", "-")
        return self._storage.download(f"{prefix}/{name}", folder).read_text("utf-8")

    def _delete_deployment(self, asked: Asked, path: str) -> Answer:
        """A deployment goes, where no request reaches it."""
        endpoint, _, name = path.partition("/deployments/")
        known = self._cloud.get(endpoint)
        told = known["properties"] if known else {}
        for kind in ("traffic", "mirrorTraffic"):
            if (told.get(kind) or {}).get(name):
                return error(400, "BadRequest", f"The deployment {name} has {kind}: set it to 0 before it is deleted.")
        return self._delete(asked, path)

    def _delete(self, asked: Asked, path: str) -> Answer:  # noqa: ARG002
        """A deployment goes, or an endpoint with all of its."""
        key = _key(path)
        for each in [name for name in self._standing if name == key or name.startswith(f"{key}/")]:
            standing = self._standing.pop(each)
            if standing.server:
                standing.server.close()
        return Answer(200 if self._cloud.remove(path) else 204)

    def _logs(self, asked: Asked, path: str) -> Answer:  # noqa: ARG002
        standing = self._standing.get(_key(path.removesuffix("/getLogs")))
        text = standing.server.text() if standing and standing.server else standing.why if standing else ""
        return Answer(body={"content": text})


def _patience(probe: dict[str, Any]) -> float:
    """Seconds after which a container that is not ready is given up."""
    first, period = (_SECONDS.validate_python(probe[each]).total_seconds() for each in ("initialDelay", "period"))
    return first + period * int(probe["failureThreshold"])


def _misnamed(kind: str, name: str) -> Answer | None:
    """What Azure refuses of a name: the rule endpoint-name."""
    if _NAME.fullmatch(name):
        return None
    why = "begins with a letter and has 3 to 32 letters, digits and single dashes between them"
    return error(400, "BadRequest", f"The name {name} is invalid: the name of this {kind} {why}.")


def _refused(properties: dict[str, Any]) -> Answer | None:
    """What Azure refuses of a deployment: the rules endpoint-sizes and endpoint-egress."""
    size = str(properties.get("instanceType"))
    if endpoint_family(size) is None:
        return error(400, "BadRequest", f"The specified value {size} for instanceType is not a supported VM size.")
    if str(properties.get("egressPublicNetworkAccess", "Enabled")).lower() == "disabled":
        return error(
            400, "BadRequest", "egressPublicNetworkAccess can't be Disabled: the workspace has no private link."
        )
    return None


def _key(path: str) -> str:
    """ENDPOINT/DEPLOYMENT, or ENDPOINT alone, of a resource's path."""
    return path.partition("/onlineEndpoints/")[2].replace("/deployments/", "/")
