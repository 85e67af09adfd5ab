"""What is called by a project has a name that Azure takes, whatever the project is called."""

from __future__ import annotations

import re

import pytest

from tests.backends.azure.conftest import MakeJob
from tunewright.azure_emulator.names import KINDS, REPOSITORY
from tunewright.backends.azure.connection import connect
from tunewright.backends.azure.machines import cluster_names, instance_name
from tunewright.backends.azure.rules import is_of_clusters
from tunewright.core.errors import UserError
from tunewright.deploy.images import repository_of
from tunewright.deploy.kubernetes import owner_of, release_name
from tunewright.deploy.live_app import LiveApp
from tunewright.deploy.live_endpoint import LiveEndpoint
from tunewright.economics.prices import price_book

NAMES = ("t" * 60, "a--b__c-_d", "report-2024", "9-lives", "ends-", "ends__", "a" * 20 + "-12-" + "b" * 30)


def is_taken(kind: str, name: str) -> bool:
    """Whether Azure takes a name for something, which ARM's path ends in."""
    return all(
        re.fullmatch(each.name, found[1]) for each in KINDS if (found := re.search(each.path, f"/{kind}/{name}", re.I))
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_projects_names(job: MakeJob, name: str) -> None:
    spec = job(name=name)
    at = connect(spec)
    assert is_taken("computes", instance_name(spec))
    assert is_taken("onlineEndpoints", LiveEndpoint(spec, at).name)
    assert is_taken("containerApps", LiveApp(spec, at).name)
    assert is_taken("jobs", f"tw-{name[:30]}-check-bundle-{'0' * 12}-49")
    assert is_taken("schedules", f"tw-{name}-retrain")
    assert re.fullmatch(r"(?=.{1,53}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?", release_name(spec))
    assert REPOSITORY.fullmatch(repository_of(spec)), repository_of(spec)
    image = {"image": f"registry.azurecr.io/{repository_of(spec)}:0"}
    assert owner_of({"stable": image}, spec) == name
    assert owner_of({"stable": {"image": "registry.azurecr.io/tunewright/other:0"}}, spec) == "other"


@pytest.mark.parametrize("name", ["Tickets", "a.b", "", "x" * 61])
def test_names_that_no_project_has(job: MakeJob, name: str) -> None:
    with pytest.raises(UserError, match="name"):
        job(name=name)


def test_clusters_of_every_size() -> None:
    sizes = [name for name in price_book().machines if name.startswith("Standard_") and is_of_clusters(name)]
    names = [each for size in sizes for low in (False, True) for each in cluster_names(size, False, low)]
    assert [name for name in names if not is_taken("computes", name)] == []
    by_size = [cluster_names(size, True, low)[1] for size in sizes for low in (False, True)]
    assert len(set(by_size)) == 2 * len(sizes)
    assert cluster_names("Standard_NC24ads_A100_v4", True, True)[1] == "tw-nc24ads-a100-v4-lp"
