"""The infrastructure, as far as it can be proven without Azure; a Bicep compiler is asked where there is one."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tunewright.backends.azure.rules import endpoint_family, is_of_clusters
from tunewright.deploy.quotas import quota_command
from tunewright.economics.prices import price_book

from .arm import Schemas
from .bicep import (
    ROOTS,
    Template,
    read_folder,
    read_text,
    resources,
    settings_of,
    settle,
    syntax_faults,
    unwrapped,
    wiring_faults,
)
from .exposure import ALWAYS, PRIVATE, exposures
from .second import Reading, faults, read

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
FILES = sorted(path.relative_to(INFRA).as_posix() for path in INFRA.rglob("*.bicep"))


@cache
def infra() -> dict[str, Template]:
    return read_folder(INFRA)


def planted(path: str, before: str, after: str) -> dict[str, Template]:
    """The infrastructure with one mistake in it."""
    text = infra()[path].text
    assert before in text
    return {**infra(), path: read_text(path, text.replace(before, after, 1))}


def schema_faults(templates: dict[str, Template]) -> list[str]:
    schemas = Schemas()
    return sorted(
        {
            f"{path}: {resource.name}{fault}"
            for path, template in templates.items()
            for settings in settings_of(template)
            for resource in resources(template, settings)
            for fault in schemas.faults(resource.type, resource.api_version, resource.body)
        }
    )


def only(path: str, resource_type: str, **settings: Any) -> dict[str, Any]:
    """The body of the one resource of that type in the file."""
    template = infra()[path]
    values = next(values for values in settings_of(template) if settings.items() <= values.items())
    (body,) = [resource.body for resource in resources(template, values) if resource.type == resource_type]
    return body


@pytest.mark.parametrize("path", FILES)
def test_syntax(path: str) -> None:
    assert not syntax_faults((INFRA / path).read_text())


@pytest.mark.parametrize(
    ("before", "after"),
    [("kind: 'StorageV2'", "kind 'StorageV2'"), ("param private bool", "param bool"), ("}\n", "\n")],
)
def test_a_syntax_error_is_found(before: str, after: str) -> None:
    text = infra()["modules/storage.bicep"].text
    assert before in text and syntax_faults(text.replace(before, after, 1))


def test_the_parts_fit_together() -> None:
    assert wiring_faults(infra()) == []


FOUND_BY_BOTH = [
    ("main.bicep", "email: budgetEmail", "mail: budgetEmail", "budget.bicep has no parameter mail"),
    ("main.bicep", "outputs.insightsId", "outputs.insight", "monitoring has no output insight"),
    ("main.bicep", "network!.outputs.id", "network!.outputs.ids", "network has no output ids"),
    ("main.bicep", "modules/budget.bicep", "modules/budgets.bicep", "modules/budgets.bicep, which is not there"),
    ("main.bicep", "'rg-${environmentName}'", "'rg-${environment}'", "environment is not declared"),
    ("main.bicep", "gpuCluster\n  ]", "gpus\n  ]", "gpus is not declared"),
]
"""File, what stands there, what is planted in its place, and the fault that either parser then finds."""


@pytest.mark.parametrize(
    ("path", "before", "after", "fault"),
    [
        ("main.bicep", "    email: budgetEmail\n", "", "budget: parameter email is not passed"),
        *FOUND_BY_BOTH,
        ("main.bicep", "lowPriority: false", "lowPriority: 'no'", "lowPriority is a bool, not a string"),
        ("main.bicep", "nodes: gpuNodes", "nodes: gpuSize", "nodes is a int, not a string"),
        ("modules/cluster.bicep", "vmSize: size", "vmSize: 'Standard_D4s_v3'", "size is never used"),
        ("modules/workspace.bicep", "packageHosts ? hosts : {}", "packageHosts ? {} : {}", "hosts is never used"),
        ("modules/cluster.bicep", "@description('The most machines.')\n", "", "parameter nodes has no description"),
        ("modules/storage.bicep", "private ? 'Deny'", "!private ? 'Deny'", "several parts needs parentheses"),
        ("modules/network.bicep", "'private-endpoint.bicep'", "'endpoint.bicep'", "private-endpoint.bicep: no module"),
    ],
)
def test_parts_that_do_not_fit_are_found(path: str, before: str, after: str, fault: str) -> None:
    assert any(fault in found for found in wiring_faults(planted(path, before, after)))


@pytest.mark.parametrize("path", FILES)
def test_both_parsers_read_the_same(path: str) -> None:
    template = infra()[path]

    def named(kind: Any) -> str:
        return kind if isinstance(kind, str) else f"{kind['item_type']}[]"

    parameters = {
        name: (named(each["type"]), each["default"] is not None) for name, each in template.part("parameters").items()
    }
    looked_up = {
        name: (f"{each['type']}@{each['api_version']}", bool(each["existing"]))
        for name, each in template.part("resources").items()
    }
    modules = {
        name: (each["detail"]["path"], {*unwrapped(each["config"])[1].get("params", {})})
        for name, each in template.part("modules").items()
    }
    found = read(template.text)
    expected = Reading(
        parameters,
        {*template.part("variables")},
        looked_up,
        modules,
        {name: named(each["type"]) for name, each in template.part("outputs").items()},
        found.references,
        found.asked,
    )
    assert found == expected


def test_the_second_parser_finds_no_fault_either() -> None:
    assert faults({path: read(template.text) for path, template in infra().items()}) == []


@pytest.mark.parametrize(
    ("path", "before", "after", "fault"),
    [
        ("main.bicep", "    email: budgetEmail\n", "", "parameter email is not passed"),
        *FOUND_BY_BOTH,
        ("modules/cluster.bicep", "vmSize: size", "vmSize: sizes", "sizes is not declared"),
    ],
)
def test_the_second_parser_finds_these_faults_too(path: str, before: str, after: str, fault: str) -> None:
    readings = {each: read(template.text) for each, template in infra().items()}
    assert before in infra()[path].text
    readings[path] = read(infra()[path].text.replace(before, after, 1))
    assert any(fault in found for found in faults(readings))


@pytest.mark.may_skip
@pytest.mark.parametrize("root", sorted(ROOTS))
def test_the_compiler_takes_it(root: str, tmp_path: Path) -> None:
    """Where one is on the path: CI's workflow installs it."""
    bicep, az = shutil.which("bicep"), shutil.which("az")
    if not (bicep or az):
        pytest.skip("neither bicep nor az is on the path; .github/workflows/infrastructure.yml compiles it")
    command = [bicep, "build"] if bicep else [az, "bicep", "build", "--file"]
    made = tmp_path / "main.json"
    done = subprocess.run(
        [*map(str, command), str(INFRA / root), "--outfile", str(made)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr, done.stderr
    assert json.loads(made.read_text())["parameters"].keys() == infra()[root].part("parameters").keys()


def test_resources_are_what_their_schemas_allow() -> None:
    assert schema_faults(infra()) == []


def test_every_type_exists_with_its_api_version() -> None:
    """As far as the official schemas know it: resources that are only looked up, too."""
    schemas = Schemas()
    declared = {
        (item["type"], item["api_version"]) for one in infra().values() for item in one.part("resources").values()
    }
    assert {each for each in declared if not schemas.covers(*each)} == set()


WORKSPACE, CLUSTER, APPS = (f"modules/{name}.bicep" for name in ("workspace", "cluster", "container-apps"))
GATEWAY = "gateway/container-app.bicep"


@pytest.mark.parametrize(
    ("path", "before", "after", "fault"),
    [
        (WORKSPACE, "v1LegacyMode: false", "v1Legacy: false", ".properties.v1Legacy: unknown property"),
        (
            WORKSPACE,
            "firewallSku: 'Basic'",
            "firewall: 'Basic'",
            ".properties.managedNetwork.firewall: unknown property",
        ),
        (WORKSPACE, "destination: '*.hf.co'", "host: '*.hf.co'", "hugging-face-storage.host: unknown property"),
        (WORKSPACE, "'AllowOnlyApprovedOutbound'", "'AllowApprovedOutbound'", "isolationMode: 'AllowApprovedOutbound'"),
        (WORKSPACE, "? 'Disabled' : 'Enabled'", "? 'Off' : 'Enabled'", ".properties.publicNetworkAccess: 'Off'"),
        (WORKSPACE, "? 'Disabled' : 'Enabled'", "? 'Disabled' : 'On'", ".properties.publicNetworkAccess: 'On'"),
        (WORKSPACE, "type: 'FQDN'", "type: 'Host'", "outboundRules.pypi-index: 0 branches of the union fit"),
        (WORKSPACE, "    type: 'SystemAssigned'\n", "", ".identity.type: required"),
        (WORKSPACE, "hbiWorkspace: highBusinessImpact", "hbiWorkspace: 'true'", "hbiWorkspace: 'true' is not of type"),
        (WORKSPACE, "@2025-12-01", "@2025-11-01", "no schema for Microsoft.MachineLearningServices/workspaces"),
        (CLUSTER, "        maxNodeCount: nodes\n", "", ".scaleSettings.maxNodeCount: required"),
        (CLUSTER, "computeType: 'AmlCompute'", "computeType: 'Cluster'", ".properties: 0 branches of the union fit"),
        (CLUSTER, "minNodeCount: 0", "minNodeCount: '0'", ".minNodeCount: '0' is not of type 'integer'"),
        (CLUSTER, "'LowPriority'", "'Low'", ".vmPriority: 'Low'"),
        (CLUSTER, "  name: name\n  location", "  name: '1st'\n  location", ".name: '1st' does not match"),
        (APPS, "internal: true", "inside: true", ".vnetConfiguration.inside: unknown property"),
        (APPS, "        name: 'Consumption'\n", "", ".workloadProfiles[0].name: required"),
        (GATEWAY, "'Single'", "'One'", ".configuration.activeRevisionsMode: 'One'"),
        (GATEWAY, "keyVaultUrl: each.value", "vaultUrl: each.value", ".secrets[1].vaultUrl: unknown property"),
        (GATEWAY, "storageType: 'Secret'", "storageType: 'Secrets'", ".volumes[0].storageType: 'Secrets'"),
        (GATEWAY, "? 'AzureFile'", "? 'AzureFiles'", ".volumes[1].storageType: 'AzureFiles'"),
        (GATEWAY, "path: each.key", "file: each.key", ".volumes[0].secrets[1].file: unknown property"),
        (GATEWAY, "secretRef: toLower", "secret: toLower", ".containers[0].env[4].secret: unknown property"),
        (GATEWAY, "type: 'Startup'", "type: 'Start'", ".probes[0].type: 'Start'"),
        (GATEWAY, "port: 8081", "port: 'http'", ".httpGet.port: 'http' is not of type 'integer'"),
    ],
)
def test_what_a_schema_forbids_is_found(path: str, before: str, after: str, fault: str) -> None:
    assert any(fault in found for found in schema_faults(planted(path, before, after)))


def test_nothing_is_open_and_no_key_is_told() -> None:
    assert exposures(infra()) == []
    types = {item["type"] for template in infra().values() for item in template.part("resources").values()}
    assert {*ALWAYS, *PRIVATE} <= types


STORAGE, REGISTRY, VAULT = (f"modules/{name}.bicep" for name in ("storage", "registry", "keyvault"))


@pytest.mark.parametrize(
    ("path", "before", "after", "fault"),
    [
        (STORAGE, "allowSharedKeyAccess: false", "allowSharedKeyAccess: true", "allowSharedKeyAccess is True"),
        (STORAGE, "    allowBlobPublicAccess: false\n", "", "allowBlobPublicAccess is None"),
        (STORAGE, "'TLS1_2'", "'TLS1_0'", "minimumTlsVersion is 'TLS1_0'"),
        (STORAGE, "supportsHttpsTrafficOnly: true", "supportsHttpsTrafficOnly: false", "HttpsTrafficOnly is False"),
        (
            STORAGE,
            "allowCrossTenantReplication: false",
            "allowCrossTenantReplication: true",
            "TenantReplication is True",
        ),
        (
            STORAGE,
            "deleteRetentionPolicy: {\n      enabled: true",
            "deleteRetentionPolicy: {\n      enabled: false",
            "blobs",
        ),
        (STORAGE, "shareDeleteRetentionPolicy", "deleteRetentionPolicy", "shareDeleteRetentionPolicy.enabled is None"),
        (STORAGE, "? 'Disabled' : 'Enabled'", "? 'Enabled' : 'Disabled'", "publicNetworkAccess is 'Enabled'"),
        (STORAGE, "? 'Deny' : 'Allow'", "? 'Allow' : 'Allow'", "networkAcls.defaultAction is 'Allow'"),
        (STORAGE, "  tags: tags\n", "", "storage: has no tags"),
        (REGISTRY, "adminUserEnabled: false", "adminUserEnabled: true", "adminUserEnabled is True"),
        (REGISTRY, "anonymousPullEnabled: false", "anonymousPullEnabled: true", "anonymousPullEnabled is True"),
        (REGISTRY, "'Premium' : 'Basic'", "'Standard' : 'Basic'", "sku.name is 'Standard'"),
        (REGISTRY, "private ? 'Disabled' : 'Enabled'", "'Enabled'", "publicNetworkAccess is 'Enabled'"),
        (VAULT, "enableRbacAuthorization: true", "enableRbacAuthorization: false", "enableRbacAuthorization is False"),
        (VAULT, "    enablePurgeProtection: true\n", "", "enablePurgeProtection is None"),
        (VAULT, "enableSoftDelete: true", "enableSoftDelete: false", "enableSoftDelete is False"),
        (
            VAULT,
            "private ? 'Disabled' : 'Enabled'",
            "(!private) ? 'Disabled' : 'Enabled'",
            "publicNetworkAccess is 'Enabled'",
        ),
        (WORKSPACE, "'Identity'", "'AccessKey'", "systemDatastoresAuthMode is 'AccessKey'"),
        (WORKSPACE, "v1LegacyMode: false", "v1LegacyMode: true", "v1LegacyMode is True"),
        (
            WORKSPACE,
            "'AllowOnlyApprovedOutbound'",
            "'AllowInternetOutbound'",
            "isolationMode is 'AllowInternetOutbound'",
        ),
        (WORKSPACE, "private ? 'Disabled' : 'Enabled'", "'Enabled'", "publicNetworkAccess is 'Enabled'"),
        (CLUSTER, "remoteLoginPortPublicAccess: 'Disabled'", "remoteLoginPortPublicAccess: 'Enabled'", "remoteLogin"),
        (CLUSTER, "disableLocalAuth: true", "disableLocalAuth: false", "disableLocalAuth is False"),
        (CLUSTER, "enableNodePublicIp: !private", "enableNodePublicIp: true", "enableNodePublicIp is True"),
        ("modules/monitoring.bicep", "DisableLocalAuth: true", "DisableLocalAuth: false", "DisableLocalAuth is False"),
        (APPS, "'azure-monitor'", "'log-analytics'", "destination is 'log-analytics'"),
        (APPS, "internal: true", "internal: false", "vnetConfiguration.internal is False"),
        (GATEWAY, "allowInsecure: false", "allowInsecure: true", "ingress.allowInsecure is True"),
        (GATEWAY, "'UserAssigned'", "'SystemAssigned'", "identity.type is 'SystemAssigned'"),
        (GATEWAY, "  tags: tags\n", "", "gateway: has no tags"),
        (GATEWAY, "= gateway.properties.configuration.ingress.fqdn", "= listSecrets(gateway.id)", "listSecrets asks"),
        ("main.bicep", "    private: private\n", "    private: false\n", "storage is not told whether all is private"),
        (STORAGE, "string = storage.id", "string = storage.listKeys().keys[0].value", "listKeys asks for a key"),
        (REGISTRY, "string = registry.name", "string = registry.listCredentials().username", "listCredentials asks"),
        (
            "modules/monitoring.bicep",
            "string = insights.name",
            "string = insights.properties.ConnectionString",
            "ConnectionString in output",
        ),
        (
            "modules/monitoring.bicep",
            "insights.name",
            "insights.properties.InstrumentationKey",
            "InstrumentationKey in",
        ),
        (STORAGE, "@description('Name.')\noutput", "@secure()\noutput", "secure in @secure()"),
    ],
)
def test_an_open_door_is_found(path: str, before: str, after: str, fault: str) -> None:
    assert any(fault in found for found in exposures(planted(path, before, after)))


def roles(path: str) -> set[tuple[str, str, str]]:
    """Who has which role on what."""
    template, found = infra()[path], set()
    for declared in template.part("resources").values():
        if declared["type"] == "Microsoft.Authorization/roleAssignments":
            config = unwrapped(declared["config"])[1]
            role = config["properties"]["roleDefinitionId"]["function"]["parameters"]["resource_name_1"]
            found.add((config["properties"]["principalId"], config.get("scope", "group"), settle(role, template, {})))
    return found


def test_nobody_has_more_roles_than_needed() -> None:
    blobs, pull = "ba92f5b4-2d11-453d-a403-e96b0029c9fe", "7f951dda-4ed3-4680-a7ca-43fe172d538d"
    scientist, publisher = "f6c7c914-8db3-469d-8ca1-694a8f32e121", "3913510d-42f4-4e42-8a64-420c390055eb"
    operator, approver = "f1a07417-d97a-45cb-824c-7a7467783830", "b556d68e-0be0-4f35-a333-ad7ee1ce17ea"
    assert roles("modules/access.bicep") == {
        ("identityPrincipalId", "storage", blobs),
        ("identityPrincipalId", "registry", pull),
        ("identityPrincipalId", "workspace", scientist),
        ("identityPrincipalId", "insights", publisher),
        ("principalId", "storage", blobs),
        ("principalId", "workspace", scientist),
        ("principalId", "identity", operator),
        ("workspacePrincipalId", "group", approver),
    }
    reader = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
    assert roles("modules/private-endpoint.bicep") == {("readerPrincipalId", "endpoint", reader)}
    assert not any(
        roles(path) for path in FILES if path not in {"modules/access.bicep", "modules/private-endpoint.bicep"}
    )


def test_clusters_cost_nothing_at_rest() -> None:
    body = only(CLUSTER, "Microsoft.MachineLearningServices/workspaces/computes", lowPriority=False, private=False)
    scale = body["properties"]["properties"]["scaleSettings"]
    assert (scale["minNodeCount"], scale["nodeIdleTimeBeforeScaleDown"]) == (0, "PT120S")
    assert body["properties"]["properties"]["vmPriority"] == "Dedicated"
    main = infra()["main.bicep"]
    clusters = {name: unwrapped(main.part("modules")[name]["config"]) for name in ("gpuCluster", "cpuCluster")}
    assert clusters["gpuCluster"][0] == "gpu", "a new subscription has no quota for it"
    named = {name: config["params"] for name, (_, config) in clusters.items()}
    assert {name: (given["name"], given["size"]) for name, given in named.items()} == {
        "gpuCluster": ("tunewright-gpu", "gpuSize"),
        "cpuCluster": ("tunewright-cpu", "cpuSize"),
    }
    defaults = {name: parameter["default"] for name, parameter in main.part("parameters").items()}
    assert (defaults["gpuSize"], defaults["cpuSize"]) == ("Standard_NC4as_T4_v3", "Standard_D4s_v3")
    assert not (defaults["private"] or defaults["lowPriority"] or defaults["gpu"])


def test_the_budget_tells_at_50_80_and_100_percent_and_when_it_will_not_last() -> None:
    body = only("modules/budget.bicep", "Microsoft.Consumption/budgets")["properties"]
    alerts = body["notifications"].values()
    assert {(alert["thresholdType"], alert["threshold"]) for alert in alerts} == {
        ("Actual", 50),
        ("Actual", 80),
        ("Actual", 100),
        ("Forecasted", 100),
    }
    assert all(alert["enabled"] and alert["contactEmails"] for alert in alerts)
    assert body["timeGrain"] == "Monthly" and body["category"] == "Cost"


def test_a_private_workspace_lets_out_only_named_hosts_and_only_where_asked() -> None:
    kind = "Microsoft.MachineLearningServices/workspaces"
    rules = only(WORKSPACE, kind, private=True, packageHosts=True)["properties"]["managedNetwork"]["outboundRules"]
    assert {rule["destination"] for rule in rules.values()} == {
        "pypi.org",
        "files.pythonhosted.org",
        "huggingface.co",
        "*.huggingface.co",
        "*.hf.co",
    }
    assert (
        only(WORKSPACE, kind, private=True, packageHosts=False)["properties"]["managedNetwork"]["outboundRules"] == {}
    )
    assert only(WORKSPACE, kind, private=False)["properties"]["managedNetwork"] == {"isolationMode": "Disabled"}


def test_a_private_endpoint_leads_to_each_part() -> None:
    template = infra()["modules/network.bicep"]
    endpoints = settle(template.part("variables")["endpoints"]["value"], template, {})
    assert [endpoint["part"] for endpoint in endpoints] == ["amlworkspace", "blob", "file", "registry", "vault"]
    zones = template.part("variables")["zones"]["value"]
    used = re.findall(r"zones\.(\w+)$", template.code, flags=re.MULTILINE)
    assert sorted(used) == sorted(zones)


def test_everything_is_tagged_with_the_environment() -> None:
    main = infra()["main.bicep"]
    assert main.part("variables")["tags"]["value"] == {
        "tunewright": "environmentName",
        "'azd-env-name'": "environmentName",
    }
    for name, module in main.part("modules").items():
        given = unwrapped(module["config"])[1]["params"]
        assert given.get("tags", "tags") == "tags", name


def test_azd_fills_every_parameter_from_its_environment() -> None:
    """Without defaults of its own: azd leaves out what is not set, and the one in main.bicep counts."""
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    declared = infra()["main.bicep"].part("parameters")
    assert given.keys() == declared.keys() - {"thisMonth"}
    variables = {name: entry["value"] for name, entry in given.items()}
    assert all(re.fullmatch(r"\$\{[A-Z_]+\}", value) for value in variables.values())
    assert len(set(variables.values())) == len(variables)
    outputs = infra()["main.bicep"].part("outputs")
    assert variables["budgetStart"] == "${TUNEWRIGHT_BUDGET_START}" and "TUNEWRIGHT_BUDGET_START" in outputs


def test_azd_and_tunewright_find_what_was_made() -> None:
    assert infra()["main.bicep"].part("outputs").keys() >= {
        "AZURE_SUBSCRIPTION_ID",
        "AZURE_RESOURCE_GROUP",
        "AZURE_LOCATION",
        "AZURE_ML_WORKSPACE",
        "AZURE_CONTAINER_REGISTRY",
        "AZURE_CONTAINER_APPS_ENVIRONMENT",
    }
    assert infra()["main.bicep"].parsed["globals"]["scope"]["value"] == "subscription"


def test_azure_yaml_leads_azd_to_the_infrastructure() -> None:
    settings = YAML(typ="safe").load((ROOT / "azure.yaml").read_text())
    assert settings.keys() == {"name", "requiredVersions", "infra", "hooks"}
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", settings["name"])
    assert settings["infra"]["provider"] == "bicep"
    assert (ROOT / settings["infra"]["path"] / f"{settings['infra']['module']}.bicep").is_file()


SCOPE = "/subscriptions/ID/providers/Microsoft.MachineLearningServices/locations/eastus"


def quota_output(size: str, nodes: int, *, low_priority: bool = False) -> str:
    """What TUNEWRIGHT_GPU_QUOTA is under these parameters."""
    main = infra()["main.bicep"]
    families, cores = (
        {str(key): value for key, value in main.part("variables")[name]["value"].items()}
        for name in ("gpuFamilies", "gpuCores")
    )
    known = main.part("outputs")["TUNEWRIGHT_GPU_QUOTA"]["value"]["operator"]["operands"]
    assert known["condition"]["function"]["type"] == "contains" and families.keys() == cores.keys()
    asked = known["true_value"]["operator"]["operands"]
    assert asked["condition"] == "lowPriority"
    text = known["false_value"] if size not in families else asked["true_value" if low_priority else "false_value"]
    values = {
        "gpuFamilies[gpuSize]": families.get(size),
        "gpuCores[gpuSize] * gpuNodes": cores.get(size, 0) * nodes,
        "quotaScope": main.part("variables")["quotaScope"]["value"],
        "subscription().subscriptionId": "ID",
        "location": "eastus",
    }
    for expression, value in values.items():
        text = text.replace(f"${{{expression}}}", str(value))
    assert "${" not in text, "of the expressions one is not known here"
    return str(text)


GPUS = sorted(name for name, machine in price_book().machines.items() if machine.gpu and is_of_clusters(name))


@pytest.mark.parametrize("size", GPUS)
def test_azd_asks_for_quota_as_the_preflight_does(size: str) -> None:
    """Of every size with GPUs that clusters take: the same family, its cores, the whole command."""
    known = endpoint_family(size)
    assert known
    wanted = 2 * price_book().machine(size).cores
    assert quota_output(size, 2) == quota_command("ID", "eastus", known.family, wanted)
    low = quota_output(size, 2, low_priority=True)
    assert low == quota_command("ID", "eastus", "Total Cluster LowPriority", wanted)


def test_of_a_size_that_is_not_known_the_families_are_listed() -> None:
    assert quota_output("Standard_NC1_v99", 1) == f"az quota list --scope {SCOPE}"


def test_the_page_has_the_command_for_the_default_size() -> None:
    size = infra()["main.bicep"].part("parameters")["gpuSize"]["default"]
    command = quota_output(size, 1)
    assert command == (
        f"az quota create --resource-name standardNCASv3_T4Family --limit-object value=4 --scope {SCOPE} "
        "--resource-type dedicated"
    )
    assert f"\n{command}\n" in (ROOT / "docs" / "azure-infrastructure.md").read_text("utf-8")


def hook(system: str) -> dict[str, Any]:
    """What runs after `azd provision`, which `azd up` has in it; by azd's schema each system says all of it."""
    settings = YAML(typ="safe").load((ROOT / "azure.yaml").read_text())["hooks"]["postprovision"]
    assert settings.keys() == {"posix", "windows"}
    found = dict(settings[system])
    assert found.keys() == {"shell", "run", "interactive", "continueOnError"}
    assert found["interactive"] is True, "azd shows nothing else that a hook prints"
    assert found["continueOnError"] is True, "all is made by then"
    return found


@pytest.mark.parametrize(("system", "shell"), [("posix", "sh"), ("windows", "pwsh")])
def test_the_hook_shows_the_command_after_azd_up(system: str, shell: str) -> None:
    found = hook(system)
    assert found["shell"] == shell and "TUNEWRIGHT_GPU_QUOTA" in infra()["main.bicep"].part("outputs")
    assert "TUNEWRIGHT_GPU_QUOTA" in found["run"] and "az provider register --namespace Microsoft.Quota" in found["run"]
    if not (program := shutil.which(shell)):
        return  # its words are looked at, and no more can be done here
    command = quota_output("Standard_NC4as_T4_v3", 1)
    told = [
        subprocess.run(
            [program, "-c" if shell == "sh" else "-Command", found["run"]],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for environment in ({**os.environ, "TUNEWRIGHT_GPU_QUOTA": command}, _without_the_output())
    ]
    assert told[0].rstrip().splitlines()[-1].strip() == command
    assert told[1].strip() == "", "before the first deployment there is no output"


def _without_the_output() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "TUNEWRIGHT_GPU_QUOTA"}


def test_the_page_tells_every_setting_and_output() -> None:
    page = (ROOT / "docs" / "azure-infrastructure.md").read_text()
    given = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    settings = {entry["value"].strip("${}") for entry in given.values()}
    told = {name for name in settings if name.startswith("TUNEWRIGHT_")} | {*infra()["main.bicep"].part("outputs")}
    assert not {name for name in told if f"`{name}`" not in page}
