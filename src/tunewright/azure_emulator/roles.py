"""Who may do what: assignments of Azure's built-in roles, and a refusal of all that none of them allows."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tunewright.azure_emulator.cloud import PERSON, HttpRequest, HttpResponse, error, refusal
from tunewright.backends.azure.rules import Role, is_allowed, rules

BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
"""What data actions of blobs begin with."""
_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
_ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
_PULL = "Microsoft.ContainerRegistry/registries/pull/read"
_RUNS = "Microsoft.MachineLearningServices/workspaces/experiments/runs"
NOT_PERMITTED = "This request is not authorized to perform this operation using this permission."
_NO_KEYS = "Key based authentication is not permitted on this storage account."
_ASSIGNMENT = re.compile(r"^(.*)/providers/Microsoft\.Authorization/roleAssignments/[^/]+$", re.I)


@dataclass
class Assignment:
    """A role of a principal.

    Args:
        scope: ARM's path, on which and below which it holds.
        since: when it comes into force (`time.monotonic`), and until when it is.
        principal: the object id of whose it is; None: of every managed identity.
        path: ARM's own, of one that a client has made.
    """

    role: str
    scope: str
    since: float = 0.0
    until: float = math.inf
    principal: str | None = PERSON
    path: str = ""

    def holds_on(self, path: str, principal: str) -> bool:
        is_theirs = principal == self.principal or (self.principal is None and principal != PERSON)
        is_in_force = self.since <= time.monotonic() < self.until
        return is_theirs and is_in_force and f"{path}/".lower().startswith(f"{self.scope}/".lower())


@dataclass
class Access:
    """What principals may do: the emulator's user, and the managed identities of what runs there. What no assignment
    allows is refused."""

    storage: str
    """ARM's path of the storage account."""
    registry: str
    """And of the container registry."""
    workspace: str
    assignments: list[Assignment] = field(default_factory=list)
    slow: float = 10.0
    """Seconds until an assignment that a client makes or deletes counts; in Azure it is up to ten minutes."""

    @property
    def hooks(self) -> list[tuple[str, str, Callable[[HttpRequest, str], HttpResponse | None]]]:
        return [("PUT", _ASSIGNMENT.pattern, self._assigned), ("DELETE", _ASSIGNMENT.pattern, self._taken)]

    def assign(self, role: str, scope: str, after: float = 0.0, principal: str | None = PERSON) -> None:
        """Give somebody a built-in role.

        Args:
            after: seconds until it is in force.
            principal: as of an `Assignment`.
        """
        assert role in rules().roles, role
        since = time.monotonic() + after if after else 0.0
        self.assignments.append(Assignment(role, scope, since, principal=principal))

    def permissions(self, path: str, principal: str = PERSON) -> list[dict[str, Any]]:
        """What somebody's roles allow on a path, as Azure tells it."""
        return [_told(rules().roles[each.role]) for each in self.assignments if each.holds_on(path, principal)]

    def allows(self, action: str, path: str, principal: str = PERSON) -> bool:
        """Whether somebody may do something (rule role-wildcards)."""
        return is_allowed(action, self.permissions(path, principal))

    def allows_blobs(self, verb: str, principal: str) -> bool:
        """Whether somebody may read or write blobs."""
        return is_allowed(f"{BLOBS}/{verb}", self.permissions(self.storage, principal), data=True)

    def allows_pull(self, principal: str) -> bool:
        """Whether somebody may have the registry's images."""
        return self.allows(_PULL, self.registry, principal)

    def refusal(self, request: HttpRequest, path: str) -> HttpResponse | None:
        """The refusal of a call to Resource Manager (rules deny-by-default and identity-must-be-assignable); None where
        a role allows it."""
        action, scope = action_of(request.method, path)
        principal = signed_in(request)
        if not self.allows(action, scope, principal):
            return _not_authorized(principal, action, scope)
        wanting = [each for each in _identities(request) if not self.allows(_ASSIGN, each, principal)]
        if wanting:
            return error(
                403,
                "LinkedAuthorizationFailed",
                f"{_client(principal)} has permission to perform action '{action}' on scope '{scope}'; however, it "
                f"does not have permission to perform action(s) '{_ASSIGN}' on the linked scope(s) "
                f"'{','.join(wanting)}' (respectively) or the linked scope(s) are invalid.",
            )
        return None

    def run_refusal(self, request: HttpRequest) -> HttpResponse | None:
        """The refusal of a signed-in call to run history or MLflow, which are not Resource Manager's and need roles on
        the workspace all the same (rule deny-by-default); None where one allows it."""
        action, principal = f"{_RUNS}/{_VERBS.get(request.method, 'write')}", signed_in(request)
        if "authorization" not in request.headers or self.allows(action, self.workspace, principal):
            return None
        return _not_authorized(principal, action, self.workspace)

    def guarded(self, blobs: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
        """A blob service that answers who signs in only what data actions allow (rule deny-by-default), and takes no
        keys (rule storage-refusals). Signed addresses need no role."""

        def answer(request: HttpRequest) -> HttpResponse:
            header = request.headers.get("authorization", "")
            if header.startswith("SharedKey"):
                return refusal(403, "KeyBasedAuthenticationNotPermitted", _NO_KEYS)
            if header and not self.allows_blobs(_VERBS.get(request.method, "write"), signed_in(request)):
                return refusal(403, "AuthorizationPermissionMismatch", NOT_PERMITTED)
            return blobs(request)

        return answer

    def _assigned(self, request: HttpRequest, path: str) -> HttpResponse | None:
        """A role that a client gives counts after a while (rule assignments-take-time)."""
        properties = request.json()["properties"]
        identifier = str(properties["roleDefinitionId"]).rpartition("/")[2]
        role = next((name for name, each in rules().roles.items() if each.id == identifier), None)
        found = _ASSIGNMENT.match(path)
        if role is None or found is None:
            return error(400, "RoleDefinitionDoesNotExist", f"There is no role '{identifier}' here (rules.yaml).")
        since = time.monotonic() + self.slow
        self.assignments.append(Assignment(role, found[1], since, principal=properties["principalId"], path=path))
        return None

    def _taken(self, request: HttpRequest, path: str) -> HttpResponse | None:  # noqa: ARG002
        """A role that a client takes counts on for a while (rule assignments-take-time)."""
        for each in self.assignments:
            if each.path.lower() == path.lower():
                each.until = time.monotonic() + self.slow
        return None


def signed_in(request: HttpRequest) -> str:
    """The object id of who asks, by the token; empty where there is none."""
    import jwt

    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    try:
        return str(jwt.decode(token, options={"verify_signature": False})["oid"])
    except (jwt.InvalidTokenError, KeyError):
        return ""


def action_of(method: str, path: str) -> tuple[str, str]:
    """(the action that a call of Resource Manager needs, the scope that it is asked on).

    Source: learn.microsoft.com/azure/role-based-access-control/resource-provider-operations (read 2026-11-28): of a
    provider's resource types, then read, write, delete, or what a POST is called, then action.
    """
    before, _, after = path.rpartition("/providers/")
    if not before:
        kind = "subscriptions/resourceGroups" if "/resourcegroups" in path.lower() else "subscriptions"
        return f"Microsoft.Resources/{kind}/{_VERBS.get(method, 'write')}", path
    provider, *rest = after.split("/")
    if not rest:
        return f"Microsoft.Resources/subscriptions/providers/{_VERBS.get(method, 'write')}", before
    if method != "POST":
        return "/".join([provider, *rest[::2], _VERBS[method]]), path
    return "/".join([provider, *rest[:-1:2], rest[-1], "action"]), path.rpartition("/")[0]


def _identities(request: HttpRequest) -> Iterable[str]:
    """The user-assigned identities that something is to run as."""
    if request.method not in ("PUT", "PATCH"):
        return []
    return assigned(request.json())


def assigned(resource: dict[str, Any]) -> list[str]:
    """ARM's paths of the user-assigned identities that a resource has."""
    identity = resource.get("identity")
    return list((identity.get("userAssignedIdentities") or {}) if isinstance(identity, dict) else {})


def _client(principal: str) -> str:
    return f"The client '{principal}' with object id '{principal}'"


def _not_authorized(principal: str, action: str, scope: str) -> HttpResponse:
    return error(
        403,
        "AuthorizationFailed",
        f"{_client(principal)} does not have authorization to perform action '{action}' over scope '{scope}' or the "
        "scope is invalid. If access was recently granted, please refresh your credentials.",
    )


def _told(role: Role) -> dict[str, Any]:
    return {
        "actions": role.actions,
        "notActions": role.not_actions,
        "dataActions": role.data_actions,
        "notDataActions": [],
    }
