"""An AKS cluster, reached through Resource Manager's run-command. It needs no kubeconfig, and the cluster's API server
may be private."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import re
import zipfile
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tunewright.backends.azure.answers import without_secrets
from tunewright.backends.azure.connection import Connection
from tunewright.backends.azure.refusals import azure_errors
from tunewright.core.errors import UserError

_VARIABLE = "AZURE_AKS_CLUSTER"
_VERSION = "2025-05-01"
_ENTRA_SERVER = "6dae42f8-4368-4678-94ff-3960e28e3630"
"""AKS' server application, the same in every tenant: the audience of a token for a cluster's API server. `az aks
command invoke` requests a token for it (Azure/azure-cli, acs/custom.py, aks_runcommand; read 2026-11-28)."""
_PENDING = re.compile(r"another operation \(install/upgrade/rollback\) is in progress")
"""Helm's message while the last upgrade of a release is pending (rule helm-hides-pending)."""
_ROLES = (
    "Ask for the role Azure Kubernetes Service RBAC Cluster Admin on the cluster; if the cluster has roles of its own, "
    "ask to join a group that administers it. Then type the same command again."
)
"""The role that a release needs: it makes its namespace, which a role of one namespace does not allow."""


class Cluster:
    """An AKS cluster.

    Args:
        path: its path in Resource Manager; None for the one that a variable names, or the only one in the workspace's
            resource group.
    """

    def __init__(self, at: Connection, path: str | None = None):
        self._at, self._given = at, path

    @property
    def name(self) -> str:
        return self._path.rpartition("/")[2]

    @property
    def is_known(self) -> bool:
        """Whether it is clear which cluster to use."""
        return len(self._candidates) == 1

    def has(self, release: str) -> bool:
        """Whether the cluster has a Helm release in the namespace of the same name, even one whose upgrade was broken
        off (rule helm-hides-pending)."""
        return bool(self._run_json(f"helm list --namespace {release} --all --filter ^{release}$ --output json"))

    def values(self, release: str) -> dict[str, Any]:
        """The values of a release."""
        return dict(self._run_json(f"helm get values {release} --namespace {release} --output json"))

    def uninstall(self, release: str, costs: str = "") -> None:
        self.run(f"helm uninstall {release} --namespace {release} --ignore-not-found", costs=costs)

    def run(self, command: str, files: Mapping[str, bytes] | None = None, costs: str = "") -> str:
        """Run a command in the cluster, with some files beside it. Returns its output.

        Args:
            costs: as in `Wait.look`.

        Raises:
            UserError: Azure refuses, the command fails, or takes too long.
        """
        body = {"command": command, "context": _packed(files) if files else ""}
        with azure_errors(f"the cluster {self.name}"):
            body |= self._sign_in()
            what = f"the cluster {self.name} to end {_head(command)}"
            result = self._at.ask("POST", f"{self._path}/runCommand", _VERSION, body, what=what, costs=costs)[
                "properties"
            ]
        if result["provisioningState"] != "Succeeded" or result.get("exitCode"):
            output = without_secrets(str(result.get("logs") or result.get("reason") or "")).strip()[-500:]
            raise UserError(
                f"{_head(command)} failed in the cluster {self.name}.", why=output or None, fix=self._remedy(output)
            )
        return str(result.get("logs") or "")

    def _remedy(self, output: str) -> str:
        """What to do about a failed command, by its output."""
        if re.search("forbidden|unauthorized", output, re.I):
            return _ROLES
        if _PENDING.search(output):
            return (
                "A helm command runs there, or was broken off; helm can't tell which. If nobody runs one: "
                f'{self._invoke} "helm rollback RELEASE --namespace RELEASE", or for a release that was never ready '
                '"helm uninstall RELEASE --namespace RELEASE"; then type the same command again.'
            )
        return "Fix that, then type the same command again."

    def _run_json(self, command: str) -> Any:
        """Run a command, and return the JSON that it printed in one line; helm may print warnings around it.

        Raises:
            UserError: as for `run`, or it printed no JSON.
        """
        output = self.run(command)
        for line in reversed(output.splitlines()):
            with contextlib.suppress(ValueError):
                return json.loads(line)
        raise UserError(
            f"In the cluster {self.name}, {_head(command)} did not answer in JSON.",
            why=without_secrets(output).strip()[-500:],
            fix=f"See its output there: {self._invoke} '{command}'",
        )

    @property
    def _invoke(self) -> str:
        """What a user types to run a command in the cluster."""
        return f"az aks command invoke --resource-group {self._at.name.resource_group} --name {self.name} --command"

    def _sign_in(self) -> dict[str, str]:
        """The token that a call must contain. A cluster with Entra ID needs the caller's token, and refuses a call
        without it (MissingAADClusterToken: Azure/azure-rest-api-specs#22480, read 2026-11-28); other clusters need
        none."""
        profile = self._at.ask("GET", self._path, _VERSION)["properties"].get("aadProfile") or {}
        if not profile.get("managed"):
            return {}
        token = self._at.credential.get_token(f"{_ENTRA_SERVER}/.default", tenant_id=profile.get("tenantID")).token
        return {"clusterToken": token}

    @property
    def _path(self) -> str:
        """The cluster's path in Resource Manager.

        Raises:
            UserError: there is none, or there are several and nothing names one.
        """
        if not self.is_known:
            raise UserError(
                f"There are {len(self._candidates)} AKS clusters in {self._at.name.resource_group}.",
                fix=f"Name the one to use: {_VARIABLE}=NAME",
            )
        return self._candidates[0]

    @cached_property
    def _candidates(self) -> list[str]:
        return [self._given] if self._given else _paths(self._at)


def _head(command: str) -> str:
    """A command without its options."""
    return command.partition(" --")[0]


def clusters(at: Connection) -> list[Cluster]:
    """The cluster that a variable names, or all clusters in the workspace's resource group.

    Raises:
        UserError: Azure refuses.
    """
    return [Cluster(at, path) for path in _paths(at)]


def _paths(at: Connection) -> list[str]:
    """The paths in Resource Manager of the clusters to choose from."""
    group = f"/subscriptions/{at.name.subscription}/resourceGroups/{at.name.resource_group}"
    path = f"{group}/providers/Microsoft.ContainerService/managedClusters"
    if name := os.environ.get(_VARIABLE):
        return [f"{path}/{name}"]
    with azure_errors("the AKS clusters"):
        return [str(each["id"]) for each in at.ask("GET", path, _VERSION).get("value", [])]


def _packed(files: Mapping[str, bytes]) -> str:
    """Files as run-command takes them: a zip archive in base64."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return base64.b64encode(packed.getvalue()).decode()
