"""Azure Resource Manager: it keeps resources as they were put, and a few of them do something."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

from tunewright.azure_emulator.blobs import ACCOUNT, CONTAINER
from tunewright.azure_emulator.cloud import TENANT, Cloud, HttpRequest, HttpResponse, error
from tunewright.azure_emulator.providers import Providers
from tunewright.azure_emulator.roles import Access, signed_in
from tunewright.azure_emulator.schemas import complaints
from tunewright.backends.azure.rules import is_of_clusters

_VERSIONED = re.compile(r"/(data|environments|models|components)/([^/]+)/versions/([^/]+)$", re.I)
_ONCE = ("data", "environments")
"""Assets whose versions never change."""
PAGE = 3
"""Resources in a page of a list; few, so that a client that reads only the first page fails at once."""
_UNDIVIDED = re.compile(r"/vmSizes$", re.I)
"""Lists whose official answers have no `nextLink`."""
REGISTRY, INSIGHTS = "emulator", "emulator"
"""Names of the workspace's registry and Application Insights."""
_LOCK = re.compile(r"^(.*)/providers/microsoft\.authorization/locks/[^/]+$", re.I)

Handler = Callable[[HttpRequest, str], HttpResponse | None]


class ResourceManager:
    """The service of `management.azure.com`.

    Args:
        access: the callers' roles.
        providers: the registered resource providers.
        hooks: (method, pattern of a path, handler). The first one that matches and returns an answer replaces the
            store.
    """

    def __init__(self, cloud: Cloud, access: Access, providers: Providers, hooks: Sequence[tuple[str, str, Handler]]):
        self._cloud, self._access, self._providers = cloud, access, providers
        self._hooks = [
            *providers.hooks,
            *access.hooks,
            *hooks,
            ("GET", r"/(data|environments|models)/[^/]+$", self._container),
            ("GET", r"/providers/Microsoft\.Authorization/permissions$", self._permissions),
        ]
        cloud.put(cloud.workspace, workspace_of(cloud, private=False))
        cloud.put(f"{cloud.workspace}/datastores/workspaceblobstore", _datastore())

    def __call__(self, request: HttpRequest) -> HttpResponse:
        path = request.path.replace("//", "/").rstrip("/")
        if path == "/metadata/endpoints":
            return HttpResponse(body=[])  # the clouds beside the public one
        if "authorization" not in request.headers:
            return error(401, "AuthenticationFailed", "The 'Authorization' header is missing.")
        refused = self._access.refusal(request, path) or self._providers.refusal(path) or self._locked(request, path)
        return refused or _page(request, path, self._answered(request, path))

    def _locked(self, request: HttpRequest, path: str) -> HttpResponse | None:
        """The refusal of a change that a lock forbids (rule scope-locked); a lock itself can be removed."""
        if request.method in ("GET", "HEAD") or _LOCK.match(path):
            return None
        for lock_path, lock in self._cloud.matching(_LOCK.pattern):
            scope = lock_path.partition("/providers/microsoft.authorization/locks/")[0]
            is_below = f"{path}/".lower().startswith(f"{scope}/")
            # A parent of a locked resource can't be deleted either.
            is_above = f"{scope}/".startswith(f"{path}/".lower())
            if request.method == "DELETE" and (is_below or is_above):
                return _scope_locked(path, "delete", scope)
            if is_below and lock["properties"]["level"] == "ReadOnly":
                return _scope_locked(path, "write", scope)
        return None

    def _answered(self, request: HttpRequest, path: str) -> HttpResponse:
        if request.method == "PUT" and request.body:
            self._cloud.violations += complaints(path, request.query.get("api-version", ""), request.json())
        for method, pattern, handler in self._hooks:
            if method == request.method and re.search(pattern, path, re.I):
                answer = handler(request, path)
                if answer is not None:
                    return answer
        return self._stored(request, path)

    def _stored(self, request: HttpRequest, path: str) -> HttpResponse:
        if request.method == "GET" and _is_collection(path):
            return HttpResponse(body={"value": [*listed(self._cloud.below(path), request)]})
        known = self._cloud.get(path)
        if request.method in ("GET", "HEAD"):
            return HttpResponse(body=known) if known else _absent(path)
        if request.method == "DELETE":
            return HttpResponse(200 if self._cloud.remove(path) else 204)
        if request.method in ("PUT", "PATCH"):
            return self._put(request, path, known)
        return error(405, "MethodNotAllowed", f"{request.method} {path}")

    def _put(self, request: HttpRequest, path: str, known: dict[str, Any] | None) -> HttpResponse:
        body = request.json()
        versioned = _VERSIONED.search(path)
        if refusal := _refused(path, body, versioned):
            return refusal
        if known and versioned and versioned[1].lower() in _ONCE and request.method == "PUT":
            if not _is_same(known["properties"], body["properties"]):
                return error(
                    409, "Conflict", f"The asset with version {versioned[3]} exists already and can't be changed."
                )
            return HttpResponse(200, known)
        if request.method == "PATCH" and known:
            body = known | body | {"properties": known.get("properties", {}) | body.get("properties", {})}
        body["properties"] = {"provisioningState": "Succeeded"} | body.get("properties", {}) | _defaults(versioned)
        return HttpResponse(200 if known else 201, self._cloud.put(path, body | {"made_by_client": True}))

    def _container(self, request: HttpRequest, path: str) -> HttpResponse | None:  # noqa: ARG002
        """The container of an asset's versions."""
        versions = list(self._cloud.below(f"{path}/versions"))
        if not versions:
            return None
        properties = {"latestVersion": versions[-1]["name"], "nextVersion": str(len(versions) + 1), "tags": {}}
        return HttpResponse(body={"id": path, "name": path.rpartition("/")[2], "properties": properties})

    def _permissions(self, request: HttpRequest, path: str) -> HttpResponse:
        return HttpResponse(body={"value": self._access.permissions(path, signed_in(request))})


def listed(resources: Iterable[dict[str, Any]], request: HttpRequest) -> Iterator[dict[str, Any]]:
    """The resources that a list shows: without archived ones, unless the request wants them
    (learn.microsoft.com/rest/api/azureml/model-versions/list, "listViewType")."""
    view = request.query.get("listViewType", "ActiveOnly")
    for resource in resources:
        is_archived = bool((resource.get("properties") or {}).get("isArchived"))
        if view == "All" or is_archived == (view == "ArchivedOnly"):
            yield resource


def _refused(path: str, body: dict[str, Any], versioned: re.Match[str] | None) -> HttpResponse | None:
    """The refusal of an asset or a cluster: the rules model-version-is-an-integer, cluster-series and
    retired-series."""
    if versioned and versioned[1].lower() == "models" and not re.fullmatch(r"[1-9]\d*", versioned[3]):
        return error(400, "BadRequest", f"The version of a model is a positive integer; {versioned[3]} is none.")
    size = (body.get("properties", {}).get("properties") or {}).get("vmSize")
    if re.search(r"/workspaces/[^/]+/computes/[^/]+$", path, re.I) and size and not is_of_clusters(size):
        # In the words of github.com/microsoft/az-deep-batch-score/issues/4.
        why = f"The specified value {size} for property Cluster.Properties.VMSize is not a supported VM size."
        return error(400, "BadRequest", why)
    return None


def _scope_locked(path: str, operation: str, scope: str) -> HttpResponse:
    """In the words of learn.microsoft.com/azure/automation/troubleshoot/start-stop-vm (read 2026-11-29)."""
    why = (
        f"The scope '{path}' cannot perform {operation} operation because following scope(s) are locked: '{scope}'. "
        "Please remove the lock and try again."
    )
    return error(409, "ScopeLocked", why)


def _page(request: HttpRequest, path: str, answer: HttpResponse) -> HttpResponse:
    """One page of a list, with the address of the next page; any other answer unchanged."""
    whole = answer.body.get("value") if isinstance(answer.body, dict) else None
    if request.method != "GET" or not isinstance(whole, list) or _UNDIVIDED.search(path):
        return answer
    start = int(request.query.get("$skiptoken", 0))
    end = start + PAGE
    following = f"https://{request.host}{path}?{urlencode(request.query | {'$skiptoken': str(end)})}"
    more = {"nextLink": following} if end < len(whole) else {}
    return HttpResponse(answer.status, answer.body | {"value": whole[start:end]} | more, answer.headers)


def _is_collection(path: str) -> bool:
    after = path.split("/providers/")[-1].split("/")[1:]
    return "/providers/" in path and len(after) % 2 == 1


def _absent(path: str) -> HttpResponse:
    kind = "WorkspaceNotFound" if "/workspaces/" in path and path.count("/") == 8 else "ResourceNotFound"
    return error(404, kind, f"The resource '{path}' was not found.")


def _is_same(kept: dict[str, Any], sent: dict[str, Any]) -> bool:
    """Whether a body equals the stored one; descriptions and tags may differ."""
    loose = {"description", "tags", "properties", "isArchived", "isAnonymous"}
    return all(kept.get(key) == value for key, value in sent.items() if key not in loose and value is not None)


def _defaults(versioned: re.Match[str] | None) -> dict[str, Any]:
    """The properties without which the SDK fails on an answer."""
    return {"flavors": {}} if versioned and versioned[1].lower() == "models" else {}


def workspace_of(cloud: Cloud, *, private: bool) -> dict[str, Any]:
    """The workspace, as `infra/` makes it.

    Args:
        private: whether it has a managed network and is closed to the public one.
    """
    group = f"/subscriptions/{cloud.subscription}/resourceGroups/{cloud.group}/providers"
    api = f"https://{cloud.region}.api.azureml.ms"
    tracking = f"azureml://{cloud.region}.api.azureml.ms/mlflow/v1.0{cloud.workspace}"
    return {
        "location": cloud.region,
        "tags": {},
        "sku": {"name": "Basic", "tier": "Basic"},
        "identity": {"type": "SystemAssigned", "principalId": TENANT, "tenantId": TENANT},
        "properties": {
            "workspaceId": TENANT,
            "friendlyName": cloud.workspace_name,
            "discoveryUrl": f"{api}/discovery",
            "mlFlowTrackingUri": tracking,
            "storageAccount": f"{group}/Microsoft.Storage/storageAccounts/{ACCOUNT}",
            "keyVault": f"{group}/Microsoft.KeyVault/vaults/emulator",
            "containerRegistry": f"{group}/Microsoft.ContainerRegistry/registries/{REGISTRY}",
            "applicationInsights": f"{group}/Microsoft.Insights/components/{INSIGHTS}",
            "provisioningState": "Succeeded",
            "publicNetworkAccess": "Disabled" if private else "Enabled",
            "systemDatastoresAuthMode": "identity",
            "hbiWorkspace": False,
        }
        | ({"managedNetwork": {"isolationMode": "AllowOnlyApprovedOutbound"}} if private else {}),
    }


def _datastore() -> dict[str, Any]:
    return {
        "properties": {
            "datastoreType": "AzureBlob",
            "accountName": ACCOUNT,
            "containerName": CONTAINER,
            "endpoint": "core.windows.net",
            "protocol": "https",
            "credentials": {"credentialsType": "None"},
            "serviceDataAccessAuthIdentity": "WorkspaceSystemAssignedIdentity",
            "isDefault": True,
        }
    }
