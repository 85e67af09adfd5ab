"""Managed online endpoints: they really serve each deployment's model, and divide the traffic as a client says."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import TypeAdapter

from tunewright.azure_emulator.cloud import Cloud, HttpRequest, HttpResponse, error, invalid
from tunewright.azure_emulator.dockerfiles import container_of
from tunewright.azure_emulator.login import principal_of
from tunewright.azure_emulator.roles import Access, assigned
from tunewright.azure_emulator.served import ModelContainer
from tunewright.azure_emulator.storage import Storage, path_of
from tunewright.backends.azure.rules import endpoint_family

SCORING = ".inference.ml.azure.com"
_ENDPOINT = r"/onlineEndpoints/([^/]+)$"
_SECONDS = TypeAdapter(timedelta)
_DEPLOYMENT = r"/onlineEndpoints/([^/]+)/deployments/([^/]+)$"
_LONGEST_REQUEST = timedelta(seconds=180)
_MODEL = re.compile(r"/models/([^/]+)/versions/([^/]+)$")


@dataclass
class EndpointDeployment:
    """A deployment's state, as Resource Manager names it, and its server if it runs."""

    state: str = "Creating"
    server: ModelContainer | None = None
    why: str = ""
    """The text of its log if no container started."""


class Endpoints:
    """The workspace's endpoints and their deployments.

    With `stuck` the next deployment never changes its state. With `keeps_unfinished` a deployment that is being made
    can't be deleted, nor its endpoint. `seconds` is how long a change of an endpoint takes; another change in that time
    is refused.
    """

    def __init__(self, cloud: Cloud, storage: Storage, access: Access):
        self._cloud, self._storage, self._access = cloud, storage, access
        self._standing: dict[str, EndpointDeployment] = {}
        self.stuck = False
        self.keeps_unfinished = False
        self.seconds = 0.0
        self._until: dict[str, float] = {}
        """When the change of an endpoint ends (`time.monotonic`), by its name."""
        self.hooks = [
            ("PUT", r"/onlineEndpoints/", self._busy),
            ("DELETE", r"/onlineEndpoints/", self._busy),
            ("PUT", _ENDPOINT, self._put_endpoint),
            ("PUT", _DEPLOYMENT, self._put_deployment),
            ("GET", _ENDPOINT, self._get_endpoint),
            ("GET", _DEPLOYMENT, self._get_deployment),
            ("DELETE", _DEPLOYMENT, self._delete_deployment),
            ("DELETE", _ENDPOINT, self._delete),
            ("POST", _DEPLOYMENT.removesuffix("$") + "/getLogs$", self._logs),
        ]
        self._random = random.Random(0)

    def close(self) -> None:
        for each in self._standing.values():
            if each.server:
                each.server.close()

    def _busy(self, request: HttpRequest, path: str) -> HttpResponse | None:
        """The refusal of a change while another one is under way (rule changes-follow-each-other)."""
        name = _key(path).partition("/")[0]
        is_made = any(each.state == "Creating" for key, each in self._standing.items() if key.startswith(f"{name}/"))
        if not self._changes(name) and not (is_made and (request.method == "PUT" or self.keeps_unfinished)):
            return None
        return error(409, "Conflict", f"Cannot change endpoint {name} because it is in Updating provisioning state.")

    def _changes(self, name: str) -> bool:
        """Whether an endpoint itself is being changed."""
        return time.monotonic() < self._until.get(name, 0.0)

    def score(self, request: HttpRequest) -> HttpResponse:
        """Answer a request to an endpoint's own host."""
        if not request.headers.get("authorization", "").startswith("Bearer "):
            return error(401, "Unauthorized", "no token")
        name = request.host.partition(".")[0]
        endpoint = self._cloud.get(f"{self._cloud.workspace}/onlineEndpoints/{name}")
        if endpoint is None:
            return error(404, "NotFound", name)
        deployment = request.headers.get("azureml-model-deployment") or self._drawn(endpoint)
        standing = self._standing.get(f"{name}/{deployment}")
        if standing is None or standing.server is None or standing.state != "Succeeded":
            return error(404, "NotFound", f"no deployment {deployment} is ready")
        return standing.server.answer(request)

    def _drawn(self, endpoint: dict[str, Any]) -> str | None:
        traffic = {name: share for name, share in (endpoint["properties"].get("traffic") or {}).items() if share}
        return self._random.choices(list(traffic), list(traffic.values()))[0] if traffic else None

    def _put_endpoint(self, request: HttpRequest, path: str) -> HttpResponse | None:
        """Store an endpoint, with the addresses that the service adds."""
        name, body = path.rpartition("/")[2], request.json()
        if refusal := self._taken(name, path):
            return refusal
        known = self._cloud.get(path)
        wrong = [each for each in body["properties"].get("traffic") or {} if f"{name}/{each}" not in self._standing]
        if wrong:
            return error(400, "BadRequest", f"traffic names deployments that do not exist: {', '.join(wrong)}")
        host = f"https://{name}.{self._cloud.region}{SCORING}"
        addresses = {"scoringUri": f"{host}/v1/chat/completions", "swaggerUri": f"{host}/openapi.json"}
        body["properties"] |= addresses | {"provisioningState": "Succeeded"}
        kept = self._cloud.put(path, body | {"made_by_client": True})
        if self.seconds:
            self._until[name] = time.monotonic() + self.seconds
            return self._updating(200 if known else 201, kept)
        return HttpResponse(200 if known else 201, kept)

    def _get_endpoint(self, request: HttpRequest, path: str) -> HttpResponse | None:  # noqa: ARG002
        """Return an endpoint while it is being changed."""
        known = self._cloud.get(path)
        return self._updating(200, known) if known and self._changes(path.rpartition("/")[2]) else None

    def _updating(self, status: int, endpoint: dict[str, Any]) -> HttpResponse:
        properties = endpoint["properties"] | {"provisioningState": "Updating"}
        return HttpResponse(status, endpoint | {"properties": properties}, {"retry-after": "0.1"})

    def _taken(self, name: str, path: str) -> HttpResponse | None:
        """The refusal of a name that an endpoint of another workspace has (rule endpoint-name). In the words of
        github.com/Azure/azureml-examples/pull/1931, in the form of github.com/Azure/azure-sdk-for-python/issues/35109
        (read 2026-11-29)."""
        same_name = self._cloud.matching(rf"/onlineEndpoints/{re.escape(name)}$")
        if all(other == path.lower() for other, _ in same_name):
            return None
        why = (
            "There is already an endpoint with this name, Endpoint name needs to be unique within a region. "
            "Try some other name."
        )
        detail = {"errors": {"": [why]}, "title": "One or more validation errors occurred."}
        return invalid("InferencingClientCallFailed", json.dumps(detail))

    def _put_deployment(self, request: HttpRequest, path: str) -> HttpResponse:
        body = request.json()
        key = _key(path)
        if refusal := self._refused(body["properties"]):
            return refusal
        body["properties"].setdefault("scaleSettings", {"scaleType": "Default"})
        self._cloud.put(path, body | {"made_by_client": True})
        standing = self._standing.setdefault(key, EndpointDeployment())
        if self.stuck:
            self.stuck = False
        elif standing.server is None:
            threading.Thread(target=self._start, args=(key, standing, body["properties"]), daemon=True).start()
        return HttpResponse(201, self._shown(path, standing))

    def _get_deployment(self, request: HttpRequest, path: str) -> HttpResponse | None:  # noqa: ARG002
        standing = self._standing.get(_key(path))
        return HttpResponse(body=self._shown(path, standing)) if standing and self._cloud.get(path) else None

    def _shown(self, path: str, standing: EndpointDeployment) -> dict[str, Any]:
        kept = self._cloud.get(path)
        assert kept
        return kept | {"properties": kept["properties"] | {"provisioningState": standing.state}}

    def _start(self, key: str, standing: EndpointDeployment, properties: dict[str, Any]) -> None:
        path = f"{self._cloud.workspace}/onlineEndpoints/{key.partition('/')[0]}"
        identities = assigned(self._cloud.get(path) or {})
        if lacking := self._lacking(identities):
            standing.why, standing.state = lacking, "Failed"
            return
        match = _MODEL.search(str(properties["model"]))
        model = self._cloud.get(f"{self._cloud.workspace}/models/{match[1]}/versions/{match[2]}") if match else None
        prefix = path_of(str(model["properties"]["modelUri"])) if model else None
        if prefix is None:
            standing.state = "Failed"
            return
        folder = self._cloud.folder / "endpoints" / key
        # The rule model-mount: below the mount a model lies in folders of its name and its version.
        assert match
        self._storage.download(prefix, folder / match[1] / match[2] / prefix.rpartition("/")[2])
        bundle = properties["environmentVariables"]["TUNEWRIGHT_BUNDLE"]
        inside = bundle.removeprefix(properties["modelMountPath"]).strip("/")
        environment = self._cloud.get(str(properties["environmentId"]).removeprefix("azureml:"))
        if environment is None:
            standing.state, standing.why = "Failed", f"There is no environment {properties['environmentId']}."
            return
        build, routes = (environment["properties"][part] for part in ("build", "inferenceConfig"))
        container = container_of(self._text(path_of(build["contextUri"]), build["dockerfilePath"]))
        if closed := {int(route["port"]) for route in routes.values()} - container.ports:
            standing.state, standing.why = "Failed", f"The image exposes no port {min(closed)}."
            return
        standing.server = ModelContainer(
            self._cloud.folder,
            folder / inside,
            key.replace("/", "-"),
            container=container,
            ready=routes["readinessRoute"]["path"],
            principal=principal_of(identities[0] if identities else path),
        )
        standing.state = "Succeeded" if standing.server.wait(_patience(properties["readinessProbe"])) else "Failed"

    def _lacking(self, identities: list[str]) -> str:
        """Azure's message if an endpoint's identity may not read the image or the model (rule identities-need-roles;
        how-to-troubleshoot-online-endpoints, "BadArgument", read 2026-11-29); empty if it may."""
        for each in identities:
            principal = principal_of(each)
            if not (self._access.allows_blobs("read", principal) and self._access.allows_pull(principal)):
                return f"BadArgument: Startup task failed due to authorization error. Identity: {each}"
        return ""

    def _refused(self, properties: dict[str, Any]) -> HttpResponse | None:
        """The refusal of a deployment: the rules endpoint-sizes, retired-series, endpoint-egress and
        endpoint-request-time."""
        size = str(properties.get("instanceType"))
        if endpoint_family(size) is None:
            return error(400, "BadRequest", f"The specified value {size} for instanceType is not a supported VM size.")
        if str(properties.get("egressPublicNetworkAccess", "Enabled")).lower() == "disabled":
            workspace = self._cloud.get(self._cloud.workspace) or {"properties": {}}
            mode = (workspace["properties"].get("managedNetwork") or {}).get("isolationMode", "Disabled")
            why = "the workspace has no private link"
            if mode != "Disabled":
                why = "the flag does not apply in a workspace with a managed network, and is not to be set there"
            return error(400, "BadRequest", f"egressPublicNetworkAccess can't be Disabled: {why}.")
        longest = (properties.get("requestSettings") or {}).get("requestTimeout")
        if longest and _SECONDS.validate_python(longest) > _LONGEST_REQUEST:
            return error(400, "BadRequest", f"The request timeout {longest} is longer than 180000 ms.")
        return None

    def _text(self, prefix: str | None, name: str) -> str:
        """The text of a file of an environment's build context."""
        folder = self._cloud.folder / "contexts" / str(prefix).replace("/", "-")
        return self._storage.download(f"{prefix}/{name}", folder).read_text("utf-8")

    def _delete_deployment(self, request: HttpRequest, path: str) -> HttpResponse:
        """Delete a deployment, unless requests reach it."""
        endpoint, _, name = path.partition("/deployments/")
        known = self._cloud.get(endpoint)
        properties = known["properties"] if known else {}
        for kind in ("traffic", "mirrorTraffic"):
            if (properties.get(kind) or {}).get(name):
                return error(400, "BadRequest", f"The deployment {name} has {kind}: set it to 0 before it is deleted.")
        return self._delete(request, path)

    def _delete(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        """Delete a deployment, or an endpoint with all its deployments."""
        key = _key(path)
        for each in [name for name in self._standing if name == key or name.startswith(f"{key}/")]:
            standing = self._standing.pop(each)
            if standing.server:
                standing.server.close()
        return HttpResponse(200 if self._cloud.remove(path) else 204)

    def _logs(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        standing = self._standing.get(_key(path.removesuffix("/getLogs")))
        text = standing.server.text() if standing and standing.server else standing.why if standing else ""
        return HttpResponse(body={"content": text})


def _patience(probe: dict[str, Any]) -> float:
    """Seconds after which a container that is not ready has failed."""
    first, period = (_SECONDS.validate_python(probe[each]).total_seconds() for each in ("initialDelay", "period"))
    return first + period * int(probe["failureThreshold"])


def _key(path: str) -> str:
    """ENDPOINT/DEPLOYMENT, or ENDPOINT alone, from a resource's path."""
    return path.partition("/onlineEndpoints/")[2].replace("/deployments/", "/")
