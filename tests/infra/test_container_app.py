"""The gateway as a container app: what test_bicep.py asks of every file, and here what the gateway needs of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from tunewright.cli.app import command_line
from tunewright.gateway.config import GatewaySpec, load_gateway
from tunewright.serving.server import DRAIN_SECONDS

from .bicep import UNKNOWN, Template
from .test_bicep import GATEWAY, ROOT, infra, only

cli = command_line()

DOCKERFILE = (ROOT / "infra" / "docker" / "Dockerfile").read_text("utf-8")
KIND = "Microsoft.App/containerApps"


def app(**settings: Any) -> dict[str, Any]:
    properties: dict[str, Any] = only(GATEWAY, KIND, **settings)["properties"]
    return properties


def container() -> dict[str, Any]:
    (found,) = app()["template"]["containers"]
    return dict(found)


def template() -> Template:
    return infra()[GATEWAY]


def test_the_gateway_finds_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNEWRIGHT_GATEWAY_HOST", "0.0.0.0")  # as the image does
    variables = {each["name"]: each.get("value") for each in container()["env"]}
    monkeypatch.setenv("TUNEWRIGHT_GATEWAY", variables["TUNEWRIGHT_GATEWAY"])
    command = get_command(cli).commands["gateway"].commands["run"]
    asked = command.make_context("run", []).params
    folder, _, file = str(asked["file"]).rpartition("/")
    (volume,) = (each["volumeName"] for each in container()["volumeMounts"] if each["mountPath"] == folder)
    (mounted,) = (each for each in app()["template"]["volumes"] if each["name"] == volume)
    assert mounted["secrets"][0] == {"secretRef": "settings", "path": file}
    assert app()["configuration"]["secrets"][0]["name"] == "settings"
    probed = {probe["httpGet"]["port"] for probe in container()["probes"]}
    assert probed == {app()["configuration"]["ingress"]["targetPort"]} == {asked["port"]}
    assert f"EXPOSE {asked['port']}" in DOCKERFILE


def test_each_reference_names_a_secret_that_there_is() -> None:
    def each_of(variable: str) -> dict[str, Any]:
        body: dict[str, Any] = template().part("variables")[variable]["value"]["config"]
        return body

    for secrets, named in (("variableReferences", "variableValues"), ("fileReferences", "filePaths")):
        assert each_of(secrets)["name"] == each_of(named)["secretRef"]
        assert set(each_of(secrets)) == {"name", "keyVaultUrl", "identity"}, "no value is given, only its address"
    assert [set(each) for each in app()["configuration"]["secrets"]][1:] == [{"name", "keyVaultUrl", "identity"}] * 2


def test_one_replica_unless_there_is_a_database() -> None:
    assert (app(database=False)["template"]["scale"]["minReplicas"]) == 1
    assert (app(database=False)["template"]["scale"]["maxReplicas"]) == 1
    assert (app(database=True)["template"]["scale"]["maxReplicas"]) == 4
    parameters = template().part("parameters")
    assert parameters["concurrentRequests"]["default"] < GatewaySpec.model_fields["limit_concurrency"].default


def test_without_a_database_jobs_and_budgets_are_kept_in_the_replica(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings' own folder is read-only, so a store in it would keep the gateway from starting."""
    for each in container()["env"]:
        if "value" in each and each["value"] is not UNKNOWN:
            monkeypatch.setenv(each["name"], each["value"])
    file = tmp_path / "gateway.yaml"
    file.write_text("upstreams: {openai: {url: openai}}\nbudgets: [{usd_per_month: 9}]\n", "utf-8")
    folder = str(load_gateway(file).store.parent)
    (mounted,) = (each["volumeName"] for each in container()["volumeMounts"] if each["mountPath"] == folder)
    for captures in (False, True):
        volumes = {each["name"]: each for each in app(database=False, captures=captures)["template"]["volumes"]}
        assert volumes[mounted]["storageType"] == "EmptyDir", "SQLite can't be on a share"


def test_it_is_closed_by_default_and_no_path_is_insecure() -> None:
    defaults = {name: each["default"] for name, each in template().part("parameters").items()}
    assert defaults["external"] is defaults["database"] is defaults["captures"] is False
    assert app(external=False)["configuration"]["ingress"]["external"] is False
    assert app(external=True)["configuration"]["ingress"]["allowInsecure"] is False


def test_nothing_under_way_is_lost_when_a_replica_goes() -> None:
    assert app()["template"]["terminationGracePeriodSeconds"] > DRAIN_SECONDS
    paths = {probe["type"]: probe["httpGet"]["path"] for probe in container()["probes"]}
    assert paths == {"Startup": "/health", "Liveness": "/health", "Readiness": "/ready"}


def test_captures_go_to_a_share_or_stay_in_the_replica() -> None:
    def volume(captures: bool) -> dict[str, Any]:
        return dict(app(captures=captures)["template"]["volumes"][1])

    (user,) = set(re.findall(r"--uid (\d+)", DOCKERFILE))
    assert volume(False) == {"name": "captures", "storageType": "EmptyDir"}
    assert volume(True) == {
        "name": "captures",
        "storageType": "AzureFile",
        "storageName": UNKNOWN,
        "mountOptions": f"uid={user},gid={user}",
    }


def test_changed_settings_and_addresses_make_a_new_revision() -> None:
    """Container Apps makes one if the template changes, and not for a secret."""
    inside = template().text.partition("    template: {")[2]
    (hashed,) = re.findall(r"value: uniqueString\((.*)\)", inside)
    assert re.findall(r"\w+", hashed.replace("string", "")) == ["settings", "variables", "files"]


def test_it_signs_in_as_the_identity_that_it_has() -> None:
    body = only(GATEWAY, KIND)
    assert body["identity"]["type"] == "UserAssigned"
    assert "value: identity.properties.clientId" in template().text
    assert {each.get("value") for each in container()["env"] if each["name"] == "AZURE_CLIENT_ID"} == {UNKNOWN}


def test_the_command_on_top_gives_what_is_needed() -> None:
    comment = " ".join(line.removeprefix("//") for line in template().text.splitlines() if line.startswith("//"))
    given = set(re.findall(r"(\w+)=", comment.partition("--parameters")[2]))
    needed = {name for name, each in template().part("parameters").items() if each["default"] is None}
    assert needed <= given <= template().part("parameters").keys()
    for role in ("AcrPull", "Key Vault Secrets User", "Cognitive Services OpenAI User"):
        assert role in comment
