"""Which workspace a spec means."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.backends.azure import azd
from tunewright.config import Spec
from tunewright.core.errors import UserError

VARIABLES = ("AZURE_SUBSCRIPTION_ID", "AZURE_RESOURCE_GROUP", "AZURE_ML_WORKSPACE")
"""The variables that name a workspace, as `azd env` has them after `azd up`."""
_CONFIG_KEYS = ("subscription_id", "resource_group", "workspace_name")
_CONFIGS = ("config.json", ".azureml/config.json")


@dataclass(frozen=True)
class WorkspaceName:
    subscription: str
    resource_group: str
    workspace: str

    @property
    def path(self) -> str:
        """The workspace's path in Azure Resource Manager."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace}"
        )


def workspace_of(spec: Spec) -> WorkspaceName:
    """The workspace that a spec means.

    The first of these that names one counts: the spec itself, azd's variables, what `azd up` wrote above the spec or
    above the current folder, a `config.json` downloaded from the studio.

    Raises:
        UserError: none of them names it.
    """
    if spec.azure.workspace:
        return WorkspaceName(*spec.azure.workspace.split("/"))
    parts = [os.environ.get(name, "") for name in VARIABLES]
    if not all(parts):
        values = azd.written(spec.folder, Path.cwd())
        parts = [values.get(name, "") for name in VARIABLES]
    if not all(parts):
        config = _config(spec.folder)
        parts = [str(config.get(key) or "") for key in _CONFIG_KEYS]
    if not all(parts):
        raise UserError(
            "Nothing names the Azure Machine Learning workspace to use.",
            where=spec.folder,
            why="Looked in the spec, in azd's variables and files, and for a config.json beside the spec or above it.",
            fix="Make one with azd up (docs/azure-infrastructure.md), download config.json from ml.azure.com, or add "
            "azure.workspace=SUBSCRIPTION_ID/RESOURCE_GROUP/NAME. Without a subscription: --emulate",
        )
    return WorkspaceName(*parts)


def _config(folder: Path) -> dict[str, Any]:
    """The nearest `config.json` that names a workspace, in a folder or above it; empty if there is none."""
    for parent in (folder, *folder.parents):
        for name in _CONFIGS:
            file = parent / name
            if file.is_file():
                try:
                    data = json.loads(file.read_text("utf-8"))
                except ValueError as error:
                    raise UserError(f"This is not JSON: {error}.", where=file, fix="Download it again.") from None
                if isinstance(data, dict) and "workspace_name" in data:
                    return data
    return {}
