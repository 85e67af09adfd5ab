"""Access control: assignments of Azure's built-in roles, and the refusal of every call that none of them allows."""

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
"""The prefix of the data actions of blobs."""
_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
_ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
_PULL = "Microsoft.ContainerRegistry/registries/pull/read"
_RUNS = "Microsoft.MachineLearningServices/workspaces/experiments/runs"
NOT_PERMITTED = "This request is not authorized to perform this operation using this permission."
_NO_KEYS = "Key based authentication is not permitted on this storage account."
_ASSIGNMENT = re.compile(r"^(.*)/providers/Microsoft\.Authorization/roleAssignments/[^/]+$", re.I)


@dataclass
class Assignment:
    """The assignment of a role to a principal.

    Args:
        scope: the path in Resource Manager at which, and below which, it holds.
        since: the time from which it is in force (`time.monotonic`); `until` is the end.
        principal: the principal's object id; None: every managed identity has the role.
        path: its own path in Resource Manager, if a client made it.
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
    """What principals may do: the emulator's user, and the managed identities of what runs there. A call that no
    assignment allows is refused."""

    storage: str
    """The storage account's path in Resource Manager."""
    registry: str
    """The container registry's path."""
    workspace: str
    assignments: list[Assignment] = field(default_factory=list)
    slow: float = 10.0
    """Seconds until an assignment that a client makes or deletes takes effect; in Azure it is up to ten minutes."""

    @property
    def hooks(self) -> list[tuple[str, str, Callable[[HttpRequest, str], HttpResponse | None]]]:
        return [("PUT", _ASSIGNMENT.pattern, self._assigned), ("DELETE", _ASSIGNMENT.pattern, self._taken)]

    def assign(self, role: str, scope: str, after: float = 0.0, principal: str | None = PERSON) -> None:
        """Give a principal a built-in role.

        Args:
            after: seconds until it is in force.
            principal: as in `Assignment`.
        """
        assert role in rules().roles, role
        since = time.monotonic() + after if after else 0.0
        self.assignments.append(Assignment(role, scope, since, principal=principal))

    def permissions(self, path: str, principal: str = PERSON) -> list[dict[str, Any]]:
        """The permissions of a principal's roles on a path, as Azure lists them."""
        return [_permission(rules().roles[each.role]) for each in self.assignments if each.holds_on(path, principal)]

    def allows(self, action: str, path: str, principal: str = PERSON) -> bool:
        """Whether a principal may perform an action (rule role-wildcards)."""
        return is_allowed(action, self.permissions(path, principal))

    def allows_blobs(self, verb: str, principal: str) -> bool:
        """Whether a principal may read or write blobs."""
        return is_allowed(f"{BLOBS}/{verb}", self.permissions(self.storage, principal), data=True)

    def allows_pull(self, principal: str) -> bool:
        """Whether a principal may pull the registry's images."""
        return self.allows(_PULL, self.registry, principal)

    def refusal(self, request: HttpRequest, path: str) -> HttpResponse | None:
        """The refusal of a call to Resource Manager (rules deny-by-default and identity-must-be-assignable); None if a
        role allows it."""
        action, scope = action_of(request.method, path)
        principal = signed_in(request)
        if not self.allows(action, scope, principal):
            return _not_authorized(principal, action, scope)
        missing = [each for each in _identities(request) if not self.allows(_ASSIGN, each, principal)]
        if missing:
            return error(
                403,
                "LinkedAuthorizationFailed",
                f"{_client(principal)} has permission to perform action '{action}' on scope '{scope}'; however, it "
                f"does not have permission to perform action(s) '{_ASSIGN}' on the linked scope(s) "
                f"'{','.join(missing)}' (respectively) or the linked scope(s) are invalid.",
            )
        return None

    def run_refusal(self, request: HttpRequest) -> HttpResponse | None:
        """The refusal of a signed-in call to run history or MLflow. They are not part of Resource Manager, but need
        roles on the workspace too (rule deny-by-default). None if a role allows it."""
        action, principal = f"{_RUNS}/{_VERBS.get(request.method, 'write')}", signed_in(request)
        if "authorization" not in request.headers or self.allows(action, self.workspace, principal):
            return None
        return _not_authorized(principal, action, self.workspace)

    def guarded(self, blobs: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
        """A blob service that gives a signed-in caller only what their data actions allow (rule deny-by-default), and
        takes no keys (rule storage-refusals). Signed addresses need no role."""

        def answer(request: HttpRequest) -> HttpResponse:
            header = request.headers.get("authorization", "")
            if header.startswith("SharedKey"):
                return refusal(403, "KeyBasedAuthenticationNotPermitted", _NO_KEYS)
            if header and not self.allows_blobs(_VERBS.get(request.method, "write"), signed_in(request)):
                return refusal(403, "AuthorizationPermissionMismatch", NOT_PERMITTED)
            return blobs(request)

        return answer

    def _assigned(self, request: HttpRequest, path: str) -> HttpResponse | None:
        """Make an assignment, which takes effect after a while (rule assignments-take-time)."""
        properties = request.json()["properties"]
        identifier = str(properties["roleDefinitionId"]).rpartition("/")[2]
        role = next((name for name, each in rules().roles.items() if each.id == identifier), None)
        match = _ASSIGNMENT.match(path)
        if role is None or match is None:
            return error(400, "RoleDefinitionDoesNotExist", f"There is no role '{identifier}' here (rules.yaml).")
        since = time.monotonic() + self.slow
        self.assignments.append(Assignment(role, match[1], since, principal=properties["principalId"], path=path))
        return None

    def _taken(self, request: HttpRequest, path: str) -> HttpResponse | None:  # noqa: ARG002
        """Delete an assignment, which stays in force for a while (rule assignments-take-time)."""
        for each in self.assignments:
            if each.path.lower() == path.lower():
                each.until = time.monotonic() + self.slow
        return None


def signed_in(request: HttpRequest) -> str:
    """The object id of the caller, by the token; empty without a token."""
    import jwt

    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    try:
        return str(jwt.decode(token, options={"verify_signature": False})["oid"])
    except (jwt.InvalidTokenError, KeyError):
        return ""


def action_of(method: str, path: str) -> tuple[str, str]:
    """(the action that a call of Resource Manager needs, the scope of the call).

    Source: learn.microsoft.com/azure/role-based-access-control/resource-provider-operations (read 2026-11-28): the
    provider and its resource types, then read, write or delete; for a POST its name, then action.
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
    """The user-assigned identities in a request's body."""
    if request.method not in ("PUT", "PATCH"):
        return []
    return assigned(request.json())


def assigned(resource: dict[str, Any]) -> list[str]:
    """The paths in Resource Manager of a resource's user-assigned identities."""
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


def _permission(role: Role) -> dict[str, Any]:
    return {
        "actions": role.actions,
        "notActions": role.not_actions,
        "dataActions": role.data_actions,
        "notDataActions": [],
    }
