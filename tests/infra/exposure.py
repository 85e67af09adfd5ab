"""What must be closed in the infrastructure, and what must never be told."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .bicep import Template, resources, settings_of, unwrapped

ALWAYS: dict[str, dict[str, Any]] = {
    "Microsoft.Storage/storageAccounts": {
        "properties.allowSharedKeyAccess": False,
        "properties.allowBlobPublicAccess": False,
        "properties.allowCrossTenantReplication": False,
        "properties.minimumTlsVersion": "TLS1_2",
        "properties.supportsHttpsTrafficOnly": True,
    },
    "Microsoft.Storage/storageAccounts/blobServices": {
        "properties.deleteRetentionPolicy.enabled": True,
        "properties.containerDeleteRetentionPolicy.enabled": True,
    },
    "Microsoft.Storage/storageAccounts/fileServices": {"properties.shareDeleteRetentionPolicy.enabled": True},
    "Microsoft.ContainerRegistry/registries": {
        "properties.adminUserEnabled": False,
        "properties.anonymousPullEnabled": False,
    },
    "Microsoft.KeyVault/vaults": {
        "properties.enableRbacAuthorization": True,
        "properties.enablePurgeProtection": True,
        "properties.enableSoftDelete": True,
    },
    "Microsoft.MachineLearningServices/workspaces": {
        "identity.type": "SystemAssigned",
        "properties.systemDatastoresAuthMode": "Identity",
        "properties.v1LegacyMode": False,
    },
    "Microsoft.MachineLearningServices/workspaces/computes": {
        "identity.type": "UserAssigned",
        "properties.disableLocalAuth": True,
        "properties.properties.remoteLoginPortPublicAccess": "Disabled",
    },
    "Microsoft.OperationalInsights/workspaces": {"properties.features.disableLocalAuth": True},
    "Microsoft.Insights/components": {"properties.DisableLocalAuth": True},
    "Microsoft.App/managedEnvironments": {"properties.appLogsConfiguration.destination": "azure-monitor"},
    "Microsoft.App/containerApps": {
        "identity.type": "UserAssigned",
        "properties.configuration.ingress.allowInsecure": False,
    },
}

PRIVATE: dict[str, dict[str, Any]] = {
    "Microsoft.Storage/storageAccounts": {
        "properties.publicNetworkAccess": "Disabled",
        "properties.networkAcls.defaultAction": "Deny",
    },
    "Microsoft.ContainerRegistry/registries": {"properties.publicNetworkAccess": "Disabled", "sku.name": "Premium"},
    "Microsoft.KeyVault/vaults": {
        "properties.publicNetworkAccess": "Disabled",
        "properties.networkAcls.defaultAction": "Deny",
    },
    "Microsoft.MachineLearningServices/workspaces": {
        "properties.publicNetworkAccess": "Disabled",
        "properties.managedNetwork.isolationMode": "AllowOnlyApprovedOutbound",
        "properties.imageBuildCompute": "tunewright-cpu",
    },
    "Microsoft.MachineLearningServices/workspaces/computes": {"properties.properties.enableNodePublicIp": False},
    "Microsoft.App/managedEnvironments": {
        "properties.publicNetworkAccess": "Disabled",
        "properties.vnetConfiguration.internal": True,
    },
}

WITHOUT_TAGS = {
    "Microsoft.Authorization/roleAssignments",
    "Microsoft.Consumption/budgets",
    "Microsoft.Insights/diagnosticSettings",
    "Microsoft.Network/privateDnsZones/A",
    "Microsoft.Network/privateEndpoints/privateDnsZoneGroups",
    "Microsoft.Storage/storageAccounts/blobServices",
    "Microsoft.Storage/storageAccounts/fileServices",
}

KEY_CALL = re.compile(r"\b(list[A-Z]\w*|getSecret)\s*\(")
SECRET_WORD = re.compile(r"(?i)secure|secret|password|connection_?string|instrumentation_?key|\w+_?key\b|\bsas\b")


def exposures(templates: dict[str, Template]) -> list[str]:
    faults = [fault for template in templates.values() for fault in _open_doors(template)]
    faults += [fault for template in templates.values() for fault in _told_secrets(template)]
    for path, template in templates.items():
        for name, module in template.part("modules").items():
            given = unwrapped(module["config"])[1].get("params", {})
            if "private" in given and given["private"] != "private":
                faults.append(f"{path}: {name} is not told whether all is private")
    return sorted(set(faults))


def _open_doors(template: Template) -> Iterator[str]:
    for settings in settings_of(template):
        for resource in resources(template, settings):
            wanted = ALWAYS.get(resource.type, {})
            if settings.get("private"):
                wanted = wanted | PRIVATE.get(resource.type, {})
            for place, value in wanted.items():
                found = _at(resource.body, place)
                if found != value or type(found) is not type(value):
                    yield f"{template.path}: {resource.name}: {place} is {found!r}, not {value!r}"
    for name, declared in template.part("resources").items():
        tags = unwrapped(declared["config"])[1].get("tags")
        if not declared["existing"] and declared["type"] not in WITHOUT_TAGS and tags != "tags":
            yield f"{template.path}: {name}: has no tags"


def _told_secrets(template: Template) -> Iterator[str]:
    for call in KEY_CALL.findall(template.code):
        yield f"{template.path}: {call} asks for a key"
    for line in template.code.splitlines():
        if line.startswith(("output ", "@secure", "param ")) and (word := SECRET_WORD.search(line)):
            yield f"{template.path}: {word[0]} in {line}"


def _at(body: Any, place: str) -> Any:
    for key in place.split("."):
        body = body.get(key) if isinstance(body, dict) else None
    return body
