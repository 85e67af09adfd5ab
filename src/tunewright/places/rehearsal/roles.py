"""Who may do what: assignments of Azure's built-in roles, and a refusal of all that none of them allows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from tunewright.places.azure.rules import Role, is_allowed, rules
from tunewright.places.rehearsal.cloud import PERSON, Answer, Asked, error

_BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
_VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
_ASSIGN = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
_NOT_PERMITTED = "This request is not authorized to perform this operation using this permission."


@dataclass
class Assignment:
    """A role of the emulator's user.

    Args:
        scope: ARM's path, on which and below which it holds.
        since: when it comes into force (`time.monotonic`).
    """

    role: str
    scope: str
    since: float = 0.0

    def holds_on(self, path: str) -> bool:
        return time.monotonic() >= self.since and f"{path}/".lower().startswith(f"{self.scope}/".lower())


@dataclass
class Access:
    """What the emulator's user may do; what no assignment allows is refused (rule deny-by-default)."""

    storage: str
    """ARM's path of the storage account."""
    assignments: list[Assignment] = field(default_factory=list)

    def assign(self, role: str, scope: str, after: float = 0.0) -> None:
        """Give the user a built-in role.

        Args:
            after: seconds until it is in force (rule assignments-take-time).
        """
        assert role in rules().roles, role
        self.assignments.append(Assignment(role, scope, time.monotonic() + after if after else 0.0))

    def permissions(self, path: str) -> list[dict[str, Any]]:
        """What the user's roles allow on a path, as Azure tells it."""
        return [_told(rules().roles[each.role]) for each in self.assignments if each.holds_on(path)]

    def allows(self, action: str, path: str) -> bool:
        return is_allowed(action, self.permissions(path))

    def refusal(self, asked: Asked, path: str) -> Answer | None:
        """The refusal of a call to Resource Manager; None where a role allows it."""
        action, scope = action_of(asked.method, path)
        who = f"The client 'emulator' with object id '{PERSON}'"
        if not self.allows(action, scope):
            return error(
                403, "AuthorizationFailed",
                f"{who} does not have authorization to perform action '{action}' over scope '{scope}' or the scope is "
                "invalid. If access was recently granted, please refresh your credentials.",
            )  # fmt: skip
        wanting = [each for each in _identities(asked) if not self.allows(_ASSIGN, each)]
        if wanting:
            return error(
                403, "LinkedAuthorizationFailed",
                f"{who} has permission to perform action '{action}' on scope '{scope}'; however, it does not have "
                f"permission to perform action(s) '{_ASSIGN}' on the linked scope(s) '{','.join(wanting)}' "
                "(respectively) or the linked scope(s) are invalid.",
            )  # fmt: skip
        return None

    def guarded(self, blobs: Callable[[Asked], Answer]) -> Callable[[Asked], Answer]:
        """A blob service that answers the user only what data actions allow; signed addresses need no role."""

        def answer(asked: Asked) -> Answer:
            action = f"{_BLOBS}/{_VERBS.get(asked.method, 'write')}"
            if "authorization" not in asked.headers or is_allowed(action, self.permissions(self.storage), data=True):
                return blobs(asked)
            code = "AuthorizationPermissionMismatch"
            told = f"<Error><Code>{code}</Code><Message>{_NOT_PERMITTED}</Message></Error>"
            body = f'<?xml version="1.0" encoding="utf-8"?>{told}'
            return Answer(403, body.encode(), {"x-ms-error-code": code, "content-type": "application/xml"})

        return answer


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


def _identities(asked: Asked) -> Iterable[str]:
    """The user-assigned identities that something is to run as."""
    if asked.method not in ("PUT", "PATCH"):
        return []
    identity = asked.json().get("identity")
    return ((identity or {}).get("userAssignedIdentities") or {}) if isinstance(identity, dict) else []


def _told(role: Role) -> dict[str, Any]:
    return {
        "actions": role.actions, "notActions": role.not_actions, "dataActions": role.data_actions, "notDataActions": []
    }  # fmt: skip
