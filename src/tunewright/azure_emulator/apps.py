"""Container apps: revisions that start with the first request and scale to zero after their cool-down period, traffic
by weight, and an address for each revision."""

from __future__ import annotations

import random
import re
import threading
import time
import uuid
from collections import Counter
from typing import Any

from tunewright.azure_emulator.cloud import Cloud, HttpRequest, HttpResponse, error
from tunewright.azure_emulator.images import Registry
from tunewright.azure_emulator.login import Login, principal_of
from tunewright.azure_emulator.roles import Access, assigned
from tunewright.azure_emulator.served import ModelContainer

HOST = ".azurecontainerapps.io"
_APP = r"/containerApps/[^/]+$"
_CHANGED = r"/containerApps/([^/]+)(/revisions/[^/]+/(de)?activate)?$"
_RESULTS = "containerappOperationResults"
ENVIRONMENT = "emulator"
_BUNDLE = "/bundle"
"""The folder of the bundle in its image."""
COOLING = 300
"""Seconds of the cool-down period if an app names none (rule apps-cool-down)."""
_LOOK_SECONDS = 0.1


class Apps:
    """One environment of container apps.

    `second` is how long a second of a cool-down period lasts here: a minute takes one second, so that nobody waits
    long. `seconds` is how long a change of an app takes; another change in that time is refused.
    """

    def __init__(self, cloud: Cloud, registry: Registry, login: Login, access: Access):
        self._cloud, self._registry, self._login, self._access = cloud, registry, login, access
        self._domain = f"{ENVIRONMENT}.{cloud.region}{HOST}"
        self._group = f"/subscriptions/{cloud.subscription}/resourceGroups/{cloud.group}/providers/Microsoft.App"
        self._servers: dict[str, ModelContainer] = {}
        self._images: dict[str, str] = {}
        self._inactive: set[str] = set()
        self._lock = threading.Lock()
        self.second = 1 / 60
        self.seconds = 0.0
        self._until: dict[str, float] = {}
        """When the change of an app ends (`time.monotonic`), by its name."""
        self._principals: dict[str, str] = {}
        """The object id of the identity of each revision's app."""
        self._arguments: dict[str, list[str]] = {}
        """The arguments of each revision's container."""
        self._cooling: dict[str, float] = {}
        """The cool-down period of each revision that scales to zero."""
        self._last_request: dict[str, float] = {}
        """When each revision last answered."""
        self._busy = Counter[str]()
        self._closed = threading.Event()
        threading.Thread(target=self._scale, daemon=True).start()
        self._random = random.Random(0)
        cloud.put(
            f"{self._group}/managedEnvironments/{ENVIRONMENT}",
            {"location": cloud.region, "properties": {"defaultDomain": self._domain}},
        )
        self.hooks = [
            *((method, _CHANGED, self._refused) for method in ("PUT", "PATCH", "DELETE", "POST")),
            ("GET", _APP, self._get),
            ("GET", rf"/{_RESULTS}/[^/]+$", self._result),
            ("PUT", _APP, self._put),
            ("PATCH", _APP, self._patch),
            ("DELETE", _APP, self._delete),
            ("POST", r"/revisions/[^/]+/deactivate$", self._deactivate),
            ("POST", r"/revisions/[^/]+/activate$", self._activate),
            ("GET", _APP[:-1] + "/revisions$", self._list),
            ("GET", _APP[:-1] + "/revisions/[^/]+$", self._revision),
            ("GET", r"/revisions/[^/]+/replicas$", self._replicas),
        ]

    @property
    def running(self) -> list[str]:
        """The revisions that have a replica."""
        return list(self._servers)

    def close(self) -> None:
        self._closed.set()
        for revision in list(self._servers):
            self._stop(revision)

    def serve(self, request: HttpRequest) -> HttpResponse:
        """Answer a request to an app, or to the address of a revision."""
        name = request.host.partition(".")[0]
        app = self._cloud.get(f"{self._group}/containerApps/{name}")
        revision = _drawn(_ingress(app)["traffic"], self._random) if app else name
        if revision not in self._active:
            return error(404, "NotFound", request.host)
        with self._lock:
            self._busy[revision] += 1
        try:
            return self._started(revision).answer(request)
        finally:
            with self._lock:
                self._busy[revision] -= 1
                self._last_request[revision] = time.monotonic()

    def _scale(self) -> None:
        """Scale revisions to zero that got no request during their cool-down period (rule apps-cool-down)."""
        while not self._closed.wait(_LOOK_SECONDS):
            with self._lock:
                for revision in list(self._servers):
                    idle = time.monotonic() - self._last_request.get(revision, time.monotonic())
                    seconds = self._cooling.get(revision)
                    if seconds is not None and not self._busy[revision] and idle > seconds * self.second:
                        self._stop(revision)

    def _started(self, revision: str) -> ModelContainer:
        """The replica of a revision; the first request starts it."""
        with self._lock:
            if revision not in self._servers:
                image = self._registry.images[self._images[revision]]
                options = tuple(arg.replace(_BUNDLE, str(image.bundle), 1) for arg in self._arguments[revision])
                server = ModelContainer(
                    self._cloud.folder,
                    image.bundle,
                    revision,
                    options,
                    image.container,
                    principal=self._principals[revision],
                )
                server.wait()
                self._servers[revision] = server
            return self._servers[revision]

    def _refused(self, request: HttpRequest, path: str) -> HttpResponse | None:  # noqa: ARG002
        """The refusal of a change while another one is under way (rule changes-follow-each-other). In the words of
        github.com/microsoft/azure-container-apps/issues/1731 (read 2026-11-29)."""
        match = re.search(_CHANGED, path, re.I)
        if match is None or not self._changes(match[1]):
            return None
        why = (
            f"Cannot modify a container app '{match[1]}' because there is an active provisioning operation in "
            f"progress. OperationId: '{uuid.uuid4()}'"
        )
        return error(409, "ContainerAppOperationInProgress", why)

    def _changes(self, name: str) -> bool:
        """Whether an app is being changed."""
        return time.monotonic() < self._until.get(name, 0.0)

    def _get(self, request: HttpRequest, path: str) -> HttpResponse | None:  # noqa: ARG002
        """Return an app while it is being changed."""
        known = self._cloud.get(path)
        if known is None or not self._changes(path.rpartition("/")[2]):
            return None
        return HttpResponse(body=known | {"properties": known["properties"] | {"provisioningState": "InProgress"}})

    def _result(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        """The result of a change that a client follows by its address."""
        name = path.rpartition("/")[2]
        if self._changes(name):
            return self._accepted(name)
        known = self._cloud.get(f"{self._group}/containerApps/{name}")
        return HttpResponse(body=known) if known else HttpResponse(204)

    def _accepted(self, name: str) -> HttpResponse:
        """The answer that a change goes on, with the address of its result."""
        place = f"/subscriptions/{self._cloud.subscription}/providers/Microsoft.App/locations/{self._cloud.region}"
        where = f"https://management.azure.com{place}/{_RESULTS}/{name}?api-version=2025-07-01"
        return HttpResponse(202, None, {"location": where, "retry-after": "0.1"})

    def _begun(self, name: str, answer: HttpResponse) -> HttpResponse:
        """The answer to a change, which takes as long as `seconds` says."""
        if not self.seconds:
            return answer
        self._until[name] = time.monotonic() + self.seconds
        return self._accepted(name)

    def _put(self, request: HttpRequest, path: str) -> HttpResponse | None:
        app, kept = path.rpartition("/")[2], self._kept(path, request.json())
        if kept.status == 200 and self.seconds:
            self._until[app] = time.monotonic() + self.seconds
            return self._get(request, path)
        return kept

    def _make(self, path: str, revision: str, body: dict[str, Any]) -> HttpResponse | None:
        """Make a revision, or return the refusal of its image: the identity that pulls it needs a role (rule
        identities-need-roles)."""
        template = body["properties"]["template"]
        server, _, image = template["containers"][0]["image"].partition("/")
        if image not in self._registry.images:
            return error(400, "InvalidParameterValueInContainerTemplate", f"the image {image} is not in the registry")
        for each in body["properties"]["configuration"].get("registries") or []:
            puller = each.get("identity")
            if puller and not self._may_pull(puller, path):
                return _not_pulled(f"{server}/{image}", puller, server)
        self._images[revision] = image
        self._principals[revision] = principal_of((assigned(body) or [path])[0])
        self._arguments[revision] = template["containers"][0].get("args") or []
        scale = template["scale"]
        if not scale.get("minReplicas"):
            self._cooling[revision] = scale.get("cooldownPeriod", COOLING)
        if identity := self._registry.images[image].identity:
            self._login.grant(identity["audience"], [each["role"] for each in identity["grants"]])
        return None

    def _may_pull(self, identity: str, path: str) -> bool:
        """Whether an identity may pull an app's image. The app's own one has no role before the app exists."""
        is_own = identity == "system"
        exists = not is_own or self._cloud.get(path) is not None
        return exists and self._access.allows_pull(principal_of(path if is_own else identity))

    def _patch(self, request: HttpRequest, path: str) -> HttpResponse:
        known = self._cloud.get(path)
        if known is None:
            return error(404, "ResourceNotFound", path)
        kept = self._kept(path, _merged(known, request.json()))
        return self._begun(path.rpartition("/")[2], kept) if kept.status == 200 else kept

    @property
    def _active(self) -> set[str]:
        """The revisions that may get requests."""
        return self._images.keys() - self._inactive

    def _list(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        """An app's revisions, including the inactive ones."""
        app = path.split("/")[-2]
        return HttpResponse(body={"value": [self._shown(each) for each in self._images if each.startswith(f"{app}--")]})

    def _revision(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        name = path.rpartition("/")[2]
        return HttpResponse(body=self._shown(name)) if name in self._images else error(404, "NotFound", path)

    def _shown(self, revision: str) -> dict[str, Any]:
        """A revision as Azure describes it."""
        fqdn = f"{revision}.{self._domain}"
        return {"name": revision, "properties": {"active": revision in self._active, "fqdn": fqdn}}

    def _replicas(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        revision = path.split("/")[-2]
        return HttpResponse(body={"value": [{"name": f"{revision}-0"}] if revision in self._servers else []})

    def _kept(self, path: str, body: dict[str, Any]) -> HttpResponse:
        """Keep an app. Another template than its last one makes a revision, whose name must be new (rule
        revision-names)."""
        known, template = self._cloud.get(path), body["properties"]["template"]
        revision = f"{path.rpartition('/')[2]}--{template['revisionSuffix']}"
        makes = known is None or known["properties"].get("template") != template
        if makes and revision in self._images:
            return _taken(template["revisionSuffix"])
        traffic = _ingress(body)["traffic"]
        active = self._active | {revision} if makes else self._active
        unknown = [each["revisionName"] for each in traffic if each["revisionName"] not in active]
        if unknown or sum(each["weight"] for each in traffic) != 100:
            return error(400, "InvalidTraffic", f"weights must add up to 100, and revisions be active: {unknown}")
        if makes and (refused := self._make(path, revision, body)):
            return refused
        _ingress(body)["fqdn"] = f"{path.rpartition('/')[2]}.{self._domain}"
        body["properties"]["provisioningState"] = "Succeeded"
        return HttpResponse(200, self._cloud.put(path, body | {"made_by_client": True}))

    def _delete(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        name = path.rpartition("/")[2]
        for revision in [each for each in self._servers if each.startswith(f"{name}--")]:
            self._stop(revision)
        self._inactive = {each for each in self._inactive if not each.startswith(f"{name}--")}
        self._images = {each: image for each, image in self._images.items() if not each.startswith(f"{name}--")}
        return self._begun(name, HttpResponse(200)) if self._cloud.remove(path) else HttpResponse(204)

    def _activate(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        self._inactive.discard(path.split("/")[-2])
        return HttpResponse(200)

    def _deactivate(self, request: HttpRequest, path: str) -> HttpResponse:  # noqa: ARG002
        revision = path.split("/")[-2]
        self._inactive.add(revision)
        self._stop(revision)
        return HttpResponse(200)

    def _stop(self, revision: str) -> None:
        server = self._servers.pop(revision, None)
        if server:
            server.close()


def _merged(known: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396), as Container Apps does (rule merge-patch)."""
    if not isinstance(patch, dict):
        return patch
    old = known if isinstance(known, dict) else {}
    kept = {key: value for key, value in old.items() if key not in patch}
    return kept | {key: _merged(old.get(key), value) for key, value in patch.items() if value is not None}


def _taken(suffix: str) -> HttpResponse:
    """The refusal of a revision whose name another one has, in the words of
    github.com/Azure/terraform-azurerm-avm-res-app-containerapp/issues/115 (read 2026-12-02)."""
    why = (
        "The following field(s) are either invalid or missing. Field 'template.revisionsuffix' is invalid with "
        f"details: 'Invalid value: \"{suffix}\": revision with suffix {suffix} already exists.'"
    )
    return error(400, "ContainerAppInvalidRevisionSuffix", why)


def _not_pulled(image: str, identity: str, registry: str) -> HttpResponse:
    """The refusal of an image that its identity may not pull, in words that many projects quote (read 2026-11-29)."""
    why = (
        f"Field 'template.containers.server.image' is invalid with details: 'Invalid value: \"{image}\": unable to "
        f"pull image using Managed identity {identity} for registry {registry}'"
    )
    return error(400, "InvalidParameterValueInContainerTemplate", why)


def _ingress(app: dict[str, Any]) -> dict[str, Any]:
    ingress: dict[str, Any] = app["properties"]["configuration"]["ingress"]
    return ingress


def _drawn(traffic: list[dict[str, Any]], chance: random.Random) -> str:
    """The revision that answers a request, by the shares of the traffic."""
    (drawn,) = chance.choices(traffic, [each["weight"] for each in traffic])
    return str(drawn["revisionName"])
