"""The checks of the user's rights: roles, resource providers, and the storage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from tunewright.backends.azure import machines
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import azure_errors, is_unregistered, register
from tunewright.backends.azure.rules import is_allowed
from tunewright.backends.azure.store import BlobStore
from tunewright.config import Spec
from tunewright.core.errors import Check, UserError
from tunewright.pipeline.steps import Step

_PROVIDER = "Microsoft.MachineLearningServices/workspaces"
_WRITTEN = ("data/versions", "environments/versions", "jobs", "models/versions")
ACTIONS = tuple(f"{_PROVIDER}/{kind}/write" for kind in _WRITTEN)
"""The actions that running steps needs."""
CLUSTER_ACTION = f"{_PROVIDER}/computes/write"
"""The action that making or changing a cluster needs as well."""
DEPLOY_ACTIONS = tuple(f"{_PROVIDER}/onlineEndpoints{kind}/write" for kind in ("", "/deployments"))
ASSIGN_ACTION = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
"""The action on an identity that making something that runs as it needs."""
_REGISTRY_ACTIONS = tuple(
    f"Microsoft.ContainerRegistry/registries/{action}"
    for action in ("read", "listBuildSourceUploadUrl/action", "scheduleRun/action", "runs/read")
)
TARGETS = {
    "aca": ("Microsoft.App", ("Microsoft.App/containerApps/write", "Microsoft.App/managedEnvironments/read")),
    "aks": (
        "Microsoft.ContainerService",
        tuple(
            f"Microsoft.ContainerService/managedClusters/{action}"
            for action in ("read", "runCommand/action", "commandResults/read")
        ),
    ),
}
"""The targets to which an image is deployed: each one's provider, and the actions in the resource group that it needs
besides the registry's."""
PULLER = (
    "Name a user-assigned identity that has the role AcrPull on the registry: azure.identity=RESOURCE_ID. "
    "azd up makes one"
)
"""The identity that a container app needs: its own can have no role before it exists (rule identities-need-roles)."""
_SOON = "A role that was just given is in force after up to ten minutes."
"""The rule assignments-take-time."""


def image_checks(spec: Spec, at: Connection, to: str) -> list[Check]:
    """What deploying an image needs of the subscription and of the signed-in user's roles.

    Args:
        to: one of `TARGETS`.
    """
    provider, target_actions = TARGETS[to]
    group = f"/subscriptions/{at.name.subscription}/resourceGroups/{at.name.resource_group}"
    actions = (*_REGISTRY_ACTIONS, *target_actions)
    remedy = f"Ask for the role Contributor on the resource group {at.name.resource_group}. {_SOON}"
    name = f"permissions for {to}"
    return [
        *answered(f"provider {provider}", lambda: [_registered(at, provider)]),
        *answered(name, lambda: [_allowed(name, at, group, actions, remedy)]),
        *answered("identity", lambda: _assignable(spec, at)),
        *_puller(spec, to),
    ]


def rights_checks(spec: Spec, at: Connection, steps: Sequence[Step], deploy: bool) -> Iterator[Check]:
    """The rights on the workspace, and on the identity that new resources run as."""
    kinds = {(machines.size_of(each, spec), each.trains): each for each in steps}
    makes_cluster = not all(machines.is_ready(at, step, spec) for step in kinds.values())
    actions = ACTIONS + ((CLUSTER_ACTION,) if makes_cluster else ()) + (DEPLOY_ACTIONS if deploy else ())
    operator = " and, as a cluster has to be made or changed, AzureML Compute Operator" if makes_cluster else ""
    yield _allowed(
        "permissions",
        at,
        at.name.path,
        actions,
        f"Ask for the role AzureML Data Scientist{operator} on the workspace. {_SOON}",
    )
    if makes_cluster or deploy:
        yield from _assignable(spec, at)


def storage_check(at: Connection) -> Check:
    """Whether the user may read the workspace's storage."""
    try:
        BlobStore(at).text("tunewright/preflight")
    except UserError as error:
        remedy = f"Ask for the role Storage Blob Data Contributor on the workspace's storage account. {_SOON}"
        return Check("storage", False, " ".join(filter(None, (error.what, error.why))), remedy)
    return Check("storage", True, "read with Entra ID, no key")


def answered(name: str, checks: Callable[[], Iterable[Check]]) -> Iterator[Check]:
    """Checks; if Azure does not answer one of them, a failed check that says so, so that the other checks still run."""
    try:
        yield from checks()
    except UserError as error:
        remedy = f"Ask for the role Reader on the subscription; a fault of Azure's passes by itself. {_SOON}"
        yield Check(
            name,
            False,
            " ".join(filter(None, (error.what, error.why))),
            (error.fix if is_unregistered(error) else None) or remedy,
        )


def _puller(spec: Spec, to: str) -> Iterator[Check]:
    """A failed check if no identity may pull a container app's image."""
    if to == "aca" and machines.identity_of(spec) is None:
        yield Check("identity", False, "none is named that may pull the app's image", PULLER)


def _assignable(spec: Spec, at: Connection) -> Iterator[Check]:
    """Whether the user may make something that runs as the spec's identity (rule identity-must-be-assignable)."""
    if identity := machines.identity_of(spec):
        remedy = f"Ask for the role Managed Identity Operator on {identity.rpartition('/')[2]}. {_SOON}"
        yield _allowed("identity", at, identity, (ASSIGN_ACTION,), remedy)


def _allowed(name: str, at: Connection, scope: str, actions: Sequence[str], remedy: str) -> Check:
    with azure_errors("your permissions"):
        answer = at.ask("GET", f"{scope}/providers/Microsoft.Authorization/permissions", "2022-04-01")
    missing = [action for action in actions if not is_allowed(action, answer.get("value", []))]
    found = f"not allowed: {', '.join(missing)}" if missing else f"{len(actions)} of {len(actions)}"
    return Check(name, not missing, found, remedy)


def _registered(at: Connection, provider: str) -> Check:
    """Whether the subscription is registered for a resource provider (rule unregistered)."""
    with azure_errors(f"the provider {provider}"):
        answer = at.ask("GET", f"/subscriptions/{at.name.subscription}/providers/{provider}", "2021-04-01")
    state = str(answer.get("registrationState", ""))
    return Check(f"provider {provider}", state == "Registered", state, register(provider, at.name.subscription))
