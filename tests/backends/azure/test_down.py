"""`azure ls` and `azure down`: each kind by itself. If one can't be listed, the error names it, and the rest is
done."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest

from tests.backends.azure.conftest import Emulation, MakeJob, fails
from tunewright import api
from tunewright.azure_emulator import AzureEmulator
from tunewright.azure_emulator.arm import PAGE
from tunewright.backends.azure.connection import connect
from tunewright.config import Spec
from tunewright.core.errors import EXIT_USER, UserError
from tunewright.deploy import images
from tunewright.deploy.down import Unseen, take_down


def app(azure: AzureEmulator, name: str, project: str, **tags: str) -> str:
    """Put a container app that belongs to a project. Returns its path."""
    group = f"/subscriptions/{azure.cloud.subscription}/resourceGroups/{azure.cloud.group}"
    path = f"{group}/providers/Microsoft.App/containerApps/{name}"
    azure.cloud.put(path, {"tags": {"tunewright": project, **tags}, "properties": {}})
    return path


def cluster(azure: AzureEmulator, name: str, project: str, **tags: str) -> str:
    """Like `app`, for a cluster of machines."""
    path = f"{azure.cloud.workspace}/computes/{name}"
    machines = {"vmSize": "Standard_D4s_v3", "scaleSettings": {"maxNodeCount": 1}}
    azure.cloud.put(
        path,
        {
            "location": "eastus",
            "tags": {"tunewright": project, **tags},
            "properties": {"computeType": "AmlCompute", "provisioningState": "Succeeded", "properties": machines},
        },
    )
    return path


def work(azure: AzureEmulator, kind: str, name: str, project: str, **properties: Any) -> str:
    """Put a job or a schedule that belongs to a project. Returns its path."""
    path = f"{azure.cloud.workspace}/{kind}/{name}"
    azure.cloud.put(path, {"properties": properties | {"tags": {"tunewright": project}}})
    return path


def typed(emulation: Emulation, spec: Spec, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tunewright", "azure", words[0], str(spec.folder), *words[1:]]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | emulation.variables)


@pytest.mark.parametrize(
    ("refused", "named", "unknown"),
    [
        (r"GET .*/schedules$", "the schedules", ["cluster"]),
        (r"GET .*/jobs$", "the jobs", ["cluster"]),
        (r"GET .*/onlineEndpoints$", "the endpoints", []),
        (r"GET .*/managedClusters$", "the AKS clusters", []),
        (r"POST .*/runCommand$", "the cluster emulator", []),
    ],
)
def test_a_kind_that_can_not_be_listed_keeps_none_of_the_others(
    azure: AzureEmulator, job: MakeJob, refused: str, named: str, unknown: list[str]
) -> None:
    """But a cluster stays where nobody can say who else uses it."""
    spec = job()
    paths = [app(azure, f"app-{spec.name[-20:]}", spec.name), cluster(azure, f"c-{spec.name[-20:]}", spec.name)]
    fails(azure, refused, 403, "AuthorizationFailed", "No authorization.", times=2)
    with pytest.raises(Unseen, match=f"{named} .403, AuthorizationFailed.*No authorization") as unseen:
        api.standing(spec)
    assert [each.kind for each in unseen.value.found] == ["container app", "cluster"]
    with pytest.raises(UserError, match=f"{'These still exist: cluster .*' if unknown else ''}{named}"):
        take_down(unseen.value.found, unseen.value)
    left = [path for path in paths if azure.cloud.get(path)]
    assert left == (paths[1:] if unknown else [])
    for path in left:
        azure.cloud.remove(path)


def test_a_provider_that_is_not_registered_has_nothing(azure: AzureEmulator, job: MakeJob) -> None:
    """No resource of the provider can exist."""
    spec = job()
    made = cluster(azure, f"c-{spec.name[-20:]}", spec.name)
    for provider in ("Microsoft.App/containerApps", "Microsoft.ContainerService/managedClusters"):
        said = f"The subscription is not registered to use namespace '{provider.partition('/')[0]}'."
        fails(azure, f"GET .*/{provider}$", 409, "MissingSubscriptionRegistration", said)
    assert [each.kind for each in api.standing(spec)] == ["cluster"]
    azure.cloud.remove(made)


def test_what_azd_made_stays_even_if_its_environment_has_the_projects_name(azure: AzureEmulator, job: MakeJob) -> None:
    """infra/ sets our tag, too; `azd down` removes all of it."""
    spec = job()
    end, azd = spec.name[-18:], {"azd-env-name": spec.name}
    paths = [cluster(azure, f"c{end}", spec.name, **azd), app(azure, f"app-{end}", spec.name, **azd)]
    paths.append(cluster(azure, f"d{end}", spec.name))
    try:
        found = api.standing(spec)
        assert [each.name for each in found] == [f"d{end}"]
        take_down(found)
        assert [azure.cloud.get(path) is not None for path in paths] == [True, True, False]
    finally:
        for path in paths:
            azure.cloud.remove(path)


def test_a_cluster_that_another_project_uses_stays(
    azure: AzureEmulator, job: MakeJob, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clusters are named by their machines, so the projects of a workspace share them."""
    spec, end = job(), "".join(filter(str.isalnum, job().name))[-18:]
    own, alone, parted, planned = (cluster(azure, f"c{n}-{end}", spec.name) for n in range(4))
    command = {"jobType": "Command", "command": "true", "environmentId": "azureml:env:1"}
    part = {"type": "command", "componentId": "azureml:train:1", "computeId": parted}
    others = [
        work(azure, "jobs", f"j1-{end}", "theirs", **command, computeId=alone, status="Running"),
        work(azure, "jobs", f"j2-{end}", "theirs", jobType="Pipeline", jobs={"train": part}, status="Queued"),
        work(
            azure,
            "schedules",
            f"s-{end}",
            "theirs",
            isEnabled=True,
            trigger={"triggerType": "Cron", "expression": "0 0 * * *"},
            action={"actionType": "CreateJob", "jobDefinition": command | {"computeId": planned}},
        ),
        work(azure, "jobs", f"j3-{end}", "theirs", **command, computeId=own, status="Completed"),
    ]
    try:
        standing, before = api.standing(spec), len(azure.cloud.calls)
        take_down(standing)
        # Other tests leave schedules, so one list may have several pages. Throttled calls (429) are made again.
        calls = [call for call in azure.cloud.calls[before:] if call.method == "GET" and call.status == 200]
        asked = [call.path.partition("?")[0] for call in calls]
        schedules = f"{azure.cloud.workspace}/schedules"
        pages = -(-len([*azure.cloud.below(schedules)]) // PAGE)
        assert asked.count(schedules) == pages, "the users of four clusters, listed once"
        said = capsys.readouterr().err
        for compute, user in ((alone, f"job j1-{end}"), (parted, f"job j2-{end}"), (planned, f"schedule s-{end}")):
            assert azure.cloud.get(compute)
            assert f"{compute.rpartition('/')[2]} stays. It is used by the {user} of the project theirs." in said
        assert azure.cloud.get(own) is None
    finally:
        for path in others:
            azure.cloud.remove(path)
    take_down(api.standing(spec))
    assert [azure.cloud.get(path) for path in (alone, parted, planned)] == [None] * 3


def test_the_command_takes_the_rest_away_and_fails(azure: AzureEmulator, emulation: Emulation, job: MakeJob) -> None:
    spec = job()
    path = app(azure, f"app-{spec.name[-20:]}", spec.name)
    fails(azure, r"GET .*/onlineEndpoints$", 403, "AuthorizationFailed", "No authorization.", times=2)
    listed = typed(emulation, spec, "ls")
    assert listed.returncode == EXIT_USER
    assert f"container app app-{spec.name[-20:]}" in listed.stdout
    assert "Azure refused the endpoints (403, AuthorizationFailed)" in listed.stderr
    done = typed(emulation, spec, "down", "--yes")
    assert done.returncode == EXIT_USER
    assert "is gone" in done.stderr and azure.cloud.get(path) is None
    assert "Azure refused the endpoints" in done.stderr.splitlines()[-1]
    fails(azure, r"GET .*/onlineEndpoints$", 403, "AuthorizationFailed", "No authorization.")
    assert "This project has nothing" not in typed(emulation, spec, "ls").stdout
    clear = typed(emulation, spec, "ls")
    assert (clear.returncode, clear.stdout.strip()) == (
        0,
        "This project has nothing in Azure that costs money.",
    )


def test_lists_are_read_to_their_last_page(azure: AzureEmulator, job: MakeJob) -> None:
    spec = job()
    others = [app(azure, f"other-{n}-{spec.name[-15:]}", "somebody-else") for n in range(PAGE)]
    mine = app(azure, f"app-{spec.name[-20:]}", spec.name)
    assert [each.name for each in api.standing(spec)] == [mine.rpartition("/")[2]]
    for path in (*others, mine):
        azure.cloud.remove(path)


def test_an_image_is_found_among_many_builds(
    azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = connect(job())
    builds = {
        f"cb{n}": {
            "properties": {"status": "Succeeded", "outputImages": [{"repository": "tunewright/x", "tag": str(n)}]}
        }
        for n in range(PAGE + 1)
    }
    registry = next(each for each in azure.clusters._registry.hooks if each[2].__name__ == "_list")[2].__self__
    monkeypatch.setattr(registry, "_runs", builds)
    assert images.is_built(at, images.registry_of(at), f"tunewright/x:{PAGE}")
    assert not images.is_built(at, images.registry_of(at), f"tunewright/x:{PAGE + 1}")


def test_every_aks_cluster_is_looked_into(azure: AzureEmulator, job: MakeJob) -> None:
    """With two clusters, a release in either must be found, and the error names a cluster that refuses."""
    spec = job()
    group = f"/subscriptions/{azure.cloud.subscription}/resourceGroups/{azure.cloud.group}"
    second = f"{group}/providers/Microsoft.ContainerService/managedClusters/foreign"
    azure.cloud.put(second, {"location": "eastus", "properties": {}})
    try:
        fails(azure, r"POST .*/managedClusters/foreign/runCommand$", 403, "AuthorizationFailed", "Not yours.")
        image = f"x.azurecr.io/tunewright/{spec.name}:1"
        azure.clusters.releases[f"tw-{spec.name}"[:38].rstrip("-")] = {"stable": {"image": image}}
        with pytest.raises(Unseen, match=r"the cluster foreign \(403") as unseen:
            api.standing(spec)
        (release,) = unseen.value.found
        assert (release.kind, release.cost) == ("Helm release", "its pods take machines of emulator")
        release.remove()
        assert api.standing(spec) == []
    finally:
        azure.cloud.remove(second)
        azure.clusters.releases.clear()


def test_what_a_cluster_says_beside_the_answer_is_not_taken_for_it(
    azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = job()
    monkeypatch.setattr(azure.clusters, "says", "[]\nWARNING: an old client")
    assert api.standing(spec) == []
    monkeypatch.setattr(azure.clusters, "says", "no answer at all")
    with pytest.raises(Unseen, match=r"did not answer in JSON\. no answer at all"):
        api.standing(spec)
