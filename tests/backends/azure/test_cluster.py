"""A call of an AKS cluster that Entra ID guards has a token for the cluster."""

from __future__ import annotations

from collections.abc import Iterator

import jwt
import pytest

from tests.backends.azure.conftest import MakeJob
from tunewright.azure_emulator import AzureEmulator
from tunewright.azure_emulator.cloud import TENANT
from tunewright.azure_emulator.clusters import ENTRA_SERVER
from tunewright.backends.azure.connection import Connection, connect
from tunewright.core.errors import UserError
from tunewright.deploy import cluster
from tunewright.deploy.cluster import Cluster


@pytest.fixture
def at(azure: AzureEmulator, job: MakeJob) -> Iterator[Connection]:
    azure.clusters.tokens.clear()
    yield connect(job())
    azure.clusters.profile({"managed": True, "enableAzureRBAC": True, "tenantID": TENANT})


def test_the_emulator_refuses_as_azure_does(at: Connection) -> None:
    from azure.core.exceptions import HttpResponseError

    with pytest.raises(HttpResponseError, match=r"\.clusterToken is required") as refused:
        at.ask("POST", f"{Cluster(at)._path}/runCommand", "2025-05-01", {"command": "helm list", "context": ""})
    assert (refused.value.status_code, refused.value.error.code) == (400, "MissingAADClusterToken")


def test_a_cluster_with_entra_id_is_given_a_token_of_its_server(azure: AzureEmulator, at: Connection) -> None:
    assert Cluster(at).has("nothing") is False
    (token,) = azure.clusters.tokens
    assert token and jwt.decode(token, options={"verify_signature": False})["aud"] == ENTRA_SERVER
    assert token not in "\n".join(map(str, azure.cloud.calls))


def test_a_cluster_without_it_is_given_none(azure: AzureEmulator, at: Connection) -> None:
    """With the token the cluster could act as the user; a cluster that needs none must not get it."""
    azure.clusters.profile(None)
    assert Cluster(at).has("nothing") is False
    assert azure.clusters.tokens == [None]


def test_a_token_for_somebody_else_is_not_let_in(at: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_ENTRA_SERVER", "https://management.azure.com")
    with pytest.raises(UserError, match=r"must be logged in.*Azure Kubernetes Service RBAC Cluster Admin"):
        Cluster(at).has("nothing")


def test_a_role_that_is_missing_in_the_cluster_is_named(
    azure: AzureEmulator, at: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(azure.clusters, "says", 'Error: secrets is forbidden: User "you" cannot list secrets')
    monkeypatch.setattr(azure.clusters, "code", 1)
    with pytest.raises(UserError, match=r"is forbidden.*Azure Kubernetes Service RBAC Cluster Admin"):
        Cluster(at).has("nothing")
