"""Cut Azure's official ARM schemas down to what Tunewright sends, for the emulator, and to what infra/ declares.

    git clone --depth 1 https://github.com/Azure/azure-resource-manager-schemas
    python tools/arm_schemas.py azure-resource-manager-schemas/schemas

Kept of each api-version are the kinds of resources below and the definitions they lead to, without their descriptions.
Whether that is all, `tests/backends/azure/test_schemas.py` and `tests/infra/test_bicep.py` tell. They were cut at
commit a145443 (2026-08-16).
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_ML, _APPS = "Microsoft.MachineLearningServices", "Microsoft.App"
SENT = {
    # By azure-ai-ml, with the api-version that each of its clients names.
    f"2022-02-01-preview/{_ML}": ["workspaces_onlineEndpoints"],
    f"2023-04-01/{_ML}": ["workspaces_codes_versions"],
    f"2023-04-01-preview/{_ML}": [
        "workspaces_data_versions",
        "workspaces_environments_versions",
        "workspaces_onlineEndpoints_deployments",
    ],
    f"2023-06-01-preview/{_ML}": ["workspaces_schedules"],
    f"2023-08-01-preview/{_ML}": ["workspaces_computes", "workspaces_models_versions"],
    f"2024-01-01-preview/{_ML}": ["workspaces_components_versions", "workspaces_jobs"],
    f"2025-01-01-preview/{_ML}": ["workspaces_jobs"],
    # By our own calls (deploy/apps.py).
    f"2025-07-01/{_APPS}": ["containerApps", "containerApps_authConfigs"],
}
"""By the file of the repository: `<api-version>/<provider>`."""
DECLARED = {
    "2020-02-02/Microsoft.Insights.Application": ["components"],
    "2021-05-01-preview/Microsoft.Insights": ["diagnosticSettings"],
    "2022-04-01/Microsoft.Authorization": ["roleAssignments"],
    "2024-06-01/Microsoft.Network.privateDns": [
        "privateDnsZones",
        "privateDnsZones_A",
        "privateDnsZones_virtualNetworkLinks",
    ],
    "2024-07-01/Microsoft.Resources": ["resourceGroups"],
    "2024-08-01/Microsoft.Consumption": ["budgets"],
    "2024-11-30/Microsoft.ManagedIdentity": ["userAssignedIdentities"],
    "2025-01-01/Microsoft.Network.NRP": [
        "privateEndpoints",
        "privateEndpoints_privateDnsZoneGroups",
        "virtualNetworks",
    ],
    "2025-02-01/Microsoft.OperationalInsights": ["workspaces"],
    "2025-04-01/Microsoft.ContainerRegistry": ["registries"],
    "2025-05-01/Microsoft.KeyVault": ["vaults"],
    "2025-06-01/Microsoft.Storage": [
        "storageAccounts",
        "storageAccounts_blobServices",
        "storageAccounts_fileServices",
    ],
    f"2025-07-01/{_APPS}": ["containerApps", "managedEnvironments"],
    f"2025-12-01/{_ML}": ["workspaces", "workspaces_computes"],
}
_OURS = "#/definitions/"


def main(official: Path) -> None:
    """Args:
    official: the folder `schemas` of the repository.
    """
    write(official, SENT, ROOT / "src" / "tunewright" / "azure_emulator" / "arm_schemas" / "schemas.json.gz")
    write(official, DECLARED, ROOT / "tests" / "infra" / "schemas.json.gz")


def write(official: Path, wanted: Mapping[str, Sequence[str]], target: Path) -> None:
    """One file of all that is wanted, by `<provider>/<api-version>`."""
    made: dict[str, Any] = {}
    for name, kinds in wanted.items():
        version, _, provider = name.partition("/")
        whole = json.loads((official / f"{name}.json").read_text("utf-8-sig"))
        made[f"{'.'.join(provider.split('.')[:2])}/{version}"] = cut(whole, kinds)
    text = json.dumps(made, sort_keys=True, separators=(",", ":")).encode()
    target.write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1e3:.0f} kB of {len(text) / 1e3:.0f} kB")


def cut(whole: dict[str, Any], kinds: Sequence[str]) -> dict[str, Any]:
    """Some kinds of resources of a schema, of a group or of another scope, and the definitions that they lead to."""
    scopes = ("subscription_resourceDefinitions", "extension_resourceDefinitions", "resourceDefinitions")
    known = {kind: each for scope in scopes for kind, each in whole.get(scope, {}).items()}
    resources = {kind: _bare(known[kind]) for kind in kinds}
    for resource in resources.values():
        resource["properties"].pop("resources", None)  # children inside of their parent are never sent
    definitions: dict[str, Any] = {}
    waiting = [name for resource in resources.values() for name in _named(resource)]
    while waiting:
        name = waiting.pop()
        if name not in definitions:
            definitions[name] = _bare(whole["definitions"][name])
            waiting += _named(definitions[name])
    return {"resourceDefinitions": resources, "definitions": definitions}


def _bare(node: Any, is_schema: bool = True) -> Any:
    """A schema without what checks nothing. The keys of `properties` are names, not words of a schema."""
    if isinstance(node, list):
        return [_bare(each) for each in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _bare(value, not (is_schema and key == "properties"))
        for key, value in node.items()
        if not (is_schema and key == "description")
    }


def _named(node: Any) -> Iterator[str]:
    """The definitions that a schema refers to."""
    if isinstance(node, list):
        for each in node:
            yield from _named(each)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str) and value.startswith(_OURS):
                yield value.removeprefix(_OURS)
            else:
                yield from _named(value)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
