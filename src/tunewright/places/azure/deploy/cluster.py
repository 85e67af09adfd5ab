"""An AKS cluster, reached through Resource Manager's run-command: no kubeconfig, and its API server may be private."""

from __future__ import annotations

import base64
import io
import json
import os
import zipfile
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from tunewright.errors import UserError
from tunewright.places.azure.connection import Connection, azure_errors

_NAMED = "AZURE_AKS_CLUSTER"
_VERSION = "2025-05-01"


class Cluster:
    """The one that a variable names, or the only one in the workspace's resource group."""

    def __init__(self, at: Connection):
        self._at = at

    @property
    def name(self) -> str:
        return self._path.rpartition("/")[2]

    @property
    def is_known(self) -> bool:
        """Whether one is meant."""
        return len(self._candidates) == 1

    def has(self, release: str) -> bool:
        """Whether a Helm release is in it, in a namespace of its own name."""
        said = self.run(f"helm list --namespace {release} --filter ^{release}$ --output json")
        return bool(json.loads(said.strip().splitlines()[-1]))

    def values(self, release: str) -> dict[str, Any]:
        """What a release was given."""
        said = self.run(f"helm get values {release} --namespace {release} --output json")
        return dict(json.loads(said.strip().splitlines()[-1]))

    def uninstall(self, release: str) -> None:
        self.run(f"helm uninstall {release} --namespace {release} --ignore-not-found")

    def run(self, command: str, files: Mapping[str, bytes] | None = None) -> str:
        """Run a command in the cluster, with some files beside it. Returns what it printed.

        Raises:
            UserError: Azure refuses, the command fails, or takes too long.
        """
        body = {"command": command, "context": _packed(files) if files else ""}
        with azure_errors(f"the cluster {self.name}"):
            result = self._at.ask("POST", f"{self._path}/runCommand", _VERSION, body)["properties"]
        if result["provisioningState"] != "Succeeded" or result.get("exitCode"):
            said = str(result.get("logs") or result.get("reason") or "").strip()[-500:]
            raise UserError(f"In the cluster failed: {command.partition(' --')[0]}.", why=said or None,
                            fix="Mend that, then type the same command again.")  # fmt: skip
        return str(result.get("logs") or "")

    @property
    def _path(self) -> str:
        """ARM's path of it.

        Raises:
            UserError: there is none, or it is not said which.
        """
        if not self.is_known:
            raise UserError(
                f"There are {len(self._candidates)} AKS clusters in {self._at.name.resource_group}.",
                fix=f"Name the one that is meant: {_NAMED}=NAME",
            )
        return self._candidates[0]

    @cached_property
    def _candidates(self) -> list[str]:
        where = f"/subscriptions/{self._at.name.subscription}/resourceGroups/{self._at.name.resource_group}"
        clusters = f"{where}/providers/Microsoft.ContainerService/managedClusters"
        if named := os.environ.get(_NAMED):
            return [f"{clusters}/{named}"]
        with azure_errors("the AKS clusters"):
            return [str(each["id"]) for each in self._at.ask("GET", clusters, _VERSION).get("value", [])]


def _packed(files: Mapping[str, bytes]) -> str:
    """Files as run-command takes them: a zip archive in base64."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return base64.b64encode(packed.getvalue()).decode()
