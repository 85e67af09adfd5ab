"""Refuses names that Azure does not take, and those that deleted workspaces and key vaults keep."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tunewright.azure_emulator.cloud import Cloud, HttpRequest, HttpResponse, error

_ASSET = r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,254}"
_ENDPOINT = r"(?=.{3,32}$)[a-zA-Z][a-zA-Z0-9]*(?:-[a-zA-Z0-9]+)*"


@dataclass(frozen=True)
class NameRule:
    """The pattern of some resources' names.

    Args:
        path: a pattern of the end of a resource's path in Resource Manager, whose group is the name.
    """

    path: str
    name: str
    rule: str
    code: str = "BadRequest"


KINDS = (
    NameRule(r"/workspaces/([^/]+)$", r"[a-zA-Z0-9][a-zA-Z0-9_-]{2,32}", "workspace-name"),
    NameRule(r"/computes/([^/]+)$", r"[a-zA-Z](?![a-zA-Z0-9-]*-\d+$)[a-zA-Z0-9-]{2,23}", "cluster-name"),
    NameRule(r"/onlineEndpoints/([^/]+)$", _ENDPOINT, "endpoint-name"),
    NameRule(r"/deployments/([^/]+)$", _ENDPOINT, "endpoint-name"),
    NameRule(r"/(?:models|data|environments)/([^/]+)/versions/[^/]+$", _ASSET, "asset-name"),
    NameRule(r"/(?:jobs|schedules)/([^/]+)$", _ASSET, "asset-name"),
    NameRule(
        r"/containerApps/([^/]+)$", r"(?=.{2,32}$)[a-z][a-z0-9]*(?:-[a-z0-9]+)*", "app-name", "ContainerAppInvalidName"
    ),
)
REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*")
"""The repository of an image in a registry (rule repository-name)."""


class Names:
    """Refuses names, and remembers those of deleted workspaces."""

    def __init__(self, cloud: Cloud):
        self._cloud = cloud
        self._deleted: set[str] = set()
        kept = r"/(?:Microsoft\.MachineLearningServices/workspaces|Microsoft\.KeyVault/vaults)/[^/]+$"
        self.hooks = [
            ("PUT", "", self._put),
            ("PUT", kept, self._made_again),
            ("DELETE", kept, self._delete),
            ("POST", r"/registries/[^/]+/scheduleRun$", self._build),
        ]

    def _put(self, request: HttpRequest, path: str) -> HttpResponse | None:  # noqa: ARG002
        """The rules workspace-name, cluster-name, endpoint-name, asset-name and app-name."""
        for kind in KINDS:
            match = re.search(kind.path, path, re.IGNORECASE)
            if match and not re.fullmatch(kind.name, match[1]):
                return error(400, kind.code, f"The name '{match[1]}' is not valid (rule {kind.rule}).")
        return None

    def _build(self, request: HttpRequest, path: str) -> HttpResponse | None:  # noqa: ARG002
        wrong = [each for each in request.json()["imageNames"] if not REPOSITORY.fullmatch(each.partition(":")[0])]
        return error(400, "InvalidImageName", f"Not valid (rule repository-name): {wrong}") if wrong else None

    def _delete(self, request: HttpRequest, path: str) -> HttpResponse:
        """Delete a workspace or a vault; its name stays taken."""
        is_purged = request.query.get("forceToPurge", "").lower() == "true"
        if self._cloud.get(path) and not is_purged:
            self._deleted.add(path.lower())
        return HttpResponse(200 if self._cloud.remove(path) else 204)

    def _made_again(self, request: HttpRequest, path: str) -> HttpResponse | None:  # noqa: ARG002
        """The rules deleted-workspaces-keep-their-names and deleted-vaults-keep-their-names."""
        if path.lower() not in self._deleted:
            return None
        if "/vaults/" in path:
            return error(409, "ConflictError", "A vault with the same name already exists in deleted state.")
        return error(400, "BadRequest", "Soft-deleted workspace exists. Please purge or recover it.")
