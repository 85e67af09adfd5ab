"""A canary ends by its state in Azure: the serving version stays, billed resources are found, and errors name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from tests.backends.azure.conftest import IDENTITY, MakeJob, fails, puts
from tests.backends.azure.deploying import EXAM, GOOD, SERVING, SLOW, Deploying
from tunewright import api, load_spec
from tunewright.azure_emulator import AzureEmulator
from tunewright.backends.azure.refusals import azure_errors
from tunewright.backends.azure.registry import versions
from tunewright.cli.app import command_line
from tunewright.core.errors import GateFailed, UserError
from tunewright.deploy import apps, images, live_of, release
from tunewright.deploy.down import take_down
from tunewright.deploy.live import CANARY, TRIAL
from tunewright.deploy.live_app import VERSION as APPS
from tunewright.deploy.trial import DeploymentTrial

cli = command_line()

ALL = ("aml", "aks", "aca")
ENDING = {"aml": r"DELETE .*/deployments/", "aca": r"POST .*/deactivate"}
"""The calls that remove a version."""


def refused(what: Callable[[], object]) -> str:
    with pytest.raises(UserError) as told:
        what()
    return str(told.value)


def upgrade(monkeypatch: pytest.MonkeyPatch, to: int = 2) -> None:
    """Another version of the package, which would make another version of the same bundle."""
    monkeypatch.setattr(images, "_pins", lambda: [f"upgraded=={to}"])


def no_helm(azure: AzureEmulator, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """Let the next `helm COMMAND` fail, and later ones succeed."""
    done = azure.clusters._done

    def no(wanted: str, files: dict[str, bytes]) -> tuple[int, str]:
        if not wanted.startswith(f"helm {command}"):
            return done(wanted, files)
        monkeypatch.setattr(azure.clusters, "_done", done)
        return 1, "Error: No role for that."

    monkeypatch.setattr(azure.clusters, "_done", no)


@pytest.mark.parametrize("to", ALL)
def test_without_a_canary_nothing_is_rolled_back_or_promoted(project: Deploying, to: str) -> None:
    assert "does not exist" in refused(lambda: project.conclude(to))
    old = project.release(to)
    for promote in (True, False):
        told = refused(lambda: project.conclude(to, promote=promote, confirm=lambda *_: True))  # noqa: B023
        assert "no canary" in told and f"{old.fresh} (100 % of the traffic" in told and "azure down" in told
    assert project.serving(to) == {old.fresh: 100}


@pytest.mark.parametrize("to", ALL)
def test_the_commands_that_are_named_are_those_to_type(project: Deploying, to: str) -> None:
    """The spec's file has a name of its own, and a container app needs --identity."""
    file = (project.spec.folder / "tunewright.yaml").rename(project.spec.folder / "mails.yaml")
    project.spec = load_spec(file)
    error = refused(lambda: project.conclude(to))
    assert f"tunewright deploy {file} --to {to}{' --identity FILE' if to == 'aca' else ''} --canary 10" in error
    project.release(to)
    assert f"tunewright azure down {file}" in refused(lambda: project.conclude(to))
    project.target(to, "two").create()
    assert f"Or remove it: tunewright deploy {file} --to {to} --rollback" in refused(
        lambda: project.conclude(to, promote=True)
    )


@pytest.mark.parametrize("to", ALL)
def test_the_commands_that_are_named_have_the_overrides_of_the_one_that_was_typed(project: Deploying, to: str) -> None:
    project.spec = load_spec(project.spec.folder, ["azure.budget_usd=7"])
    typed = f"{project.spec.folder} azure.budget_usd=7"
    assert f"tunewright deploy {typed} --to {to}" in refused(lambda: project.conclude(to))
    project.release(to)
    assert f"tunewright azure down {typed}" in refused(lambda: project.conclude(to))


@pytest.mark.parametrize("to", ALL)
def test_the_real_canary_is_ended_after_an_upgrade(
    project: Deploying, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = project.release(to)
    new = project.release(to, "two", canary=20)
    assert project.serving(to) == {old.fresh: 80, new.fresh: 20}
    upgrade(monkeypatch)
    assert project.target(to, "two").fresh != new.fresh
    assert project.conclude(to) == new.fresh
    assert project.state(to).shares == {old.fresh: 100}
    assert project.state(to).fresh is None
    again = project.release(to, "two", canary=20)  # what went may come back
    project.conclude(to)
    assert project.release(to, "two", canary=20).fresh == again.fresh
    project.conclude(to)
    new = project.release(to, "three", canary=20)
    upgrade(monkeypatch, 3)
    assert project.conclude(to, promote=True) == new.fresh
    assert project.state(to).shares == {new.fresh: 100}
    assert project.state(to).fresh is None
    assert "no canary" in refused(lambda: project.conclude(to, promote=True))


def test_the_model_that_was_tried_becomes_the_champion(project: Deploying) -> None:
    project.release("aml", "one")
    project.release("aml", "two", canary=20)
    project.target("aml", "three")  # what the project's outputs are by now
    project.conclude("aml", promote=True)
    states = {each.version: each.state for each in versions(project.at, f"tunewright-{project.spec.name}")}
    assert states == {"1": "former", "2": "champion", "3": "challenger"}


def test_a_mirror_is_a_canary(project: Deploying) -> None:
    assert "no traffic to mirror" in refused(lambda: project.release("aml", mirror=30))
    old = project.release("aml")
    new = project.release("aml", "two", mirror=30)
    state = project.state("aml")
    assert (state.fresh, state.is_canary, state.mirrored) == (new.fresh, True, 30)
    assert project.serving("aml") == {old.fresh: 100}
    project.conclude("aml")
    assert project.state("aml").shares == {old.fresh: 100}
    new = project.release("aml", "two", mirror=30)
    project.conclude("aml", promote=True)
    assert project.state("aml").shares == {new.fresh: 100}
    assert project.state("aml").mirrored == 0


@pytest.mark.parametrize("to", ALL)
def test_the_first_version_is_no_canary(project: Deploying, to: str) -> None:
    target = project.target(to)
    assert release(project.spec, target, EXAM, 10).percent == 100
    assert project.state(to).shares == {target.fresh: 100}
    assert "no canary" in refused(lambda: project.conclude(to))


@pytest.mark.parametrize("to", ["aml", "aca"])
def test_what_alone_serves_goes_only_once_it_is_typed(project: Deploying, to: str) -> None:
    """Somebody deleted the other version by hand while there was a canary."""
    project.release(to)
    new = project.release(to, "two", canary=20)
    live: Any = live_of(to, project.spec, project.at)
    (other,) = project.state(to).others
    if to == "aml":
        live.change(new.fresh, True, traffic={new.fresh: 100})
        live._delete(other)
    else:
        live.change({new.fresh: 100}, new.fresh, True)
        live._deactivate(other)
    told = refused(lambda: project.conclude(to))
    assert "only version" in told and "--yes" in told and live.name in told
    asked = []
    assert refused(lambda: project.conclude(to, confirm=lambda *said: asked.append(said) is not None))
    assert asked[0][0] == live.name
    assert project.serving(to) == {new.fresh: 100}
    arguments = ["deploy", str(project.spec.folder), "--to", to, "--rollback"]
    for typed in ("", "y\n", "yes\n"):
        done = CliRunner().invoke(cli, arguments, input=typed)
        assert isinstance(done.exception, UserError), done.output
    assert project.serving(to) == {new.fresh: 100}
    done = CliRunner().invoke(cli, arguments, input=f"{live.name}\n")
    assert done.exit_code == 0, done.output
    assert live.state() is None


@pytest.mark.parametrize("to", ALL)
def test_on_the_command_line(project: Deploying, to: str) -> None:
    old = project.release(to)
    arguments = ["deploy", str(project.spec.folder), "--to", to, "--rollback"]
    assert "no canary" in str(CliRunner().invoke(cli, [*arguments, "--yes"]).exception)
    assert project.serving(to) == {old.fresh: 100}
    project.release(to, "two", canary=20)
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    assert project.serving(to) == {old.fresh: 100}
    assert isinstance(CliRunner().invoke(cli, [*arguments[:-1], "--promote", "--yes"]).exception, UserError)


@pytest.mark.parametrize("to", ALL)
def test_a_failed_or_interrupted_trial_leaves_what_was_there(project: Deploying, to: str) -> None:
    def interrupt() -> DeploymentTrial:
        raise KeyboardInterrupt

    for finds, kind in ((lambda: SLOW, GateFailed), (interrupt, KeyboardInterrupt)):
        project.finds = finds
        with pytest.raises(kind):
            project.release(to)
        assert live_of(to, project.spec, project.at).state() is None
    project.finds = lambda: GOOD
    old = project.release(to)
    before = project.state(to)
    for finds, kind in ((lambda: SLOW, GateFailed), (interrupt, KeyboardInterrupt)):
        project.finds = finds
        with pytest.raises(kind):
            project.release(to, "two", canary=10)
        assert project.state(to) == before
    assert project.serving(to) == {old.fresh: 100}


def test_a_division_of_the_traffic_by_hand_outlives_a_failed_trial(project: Deploying) -> None:
    old = project.release("aml")
    new = project.release("aml", "two", canary=30)
    live: Any = live_of("aml", project.spec, project.at)
    live.change(None, False)
    project.finds = lambda: SLOW
    with pytest.raises(GateFailed):
        project.release("aml", "three")
    assert project.serving("aml") == {old.fresh: 70, new.fresh: 30}


def test_an_endpoint_that_was_there_outlives_a_failed_trial(project: Deploying) -> None:
    live: Any = live_of("aml", project.spec, project.at)
    live.begin("nothing-came-of-it")
    project.finds = lambda: SLOW
    with pytest.raises(GateFailed):
        project.release("aml")
    assert project.state("aml").shares == {}


@pytest.mark.parametrize("to", ALL)
@pytest.mark.parametrize("interrupted", [False, True])
def test_when_the_undo_fails_too_the_user_is_told_both_and_the_cost(
    project: Deploying, azure: AzureEmulator, monkeypatch: pytest.MonkeyPatch, to: str, interrupted: bool
) -> None:
    old = project.release(to)
    standing = project.target(to, "two").fresh

    def broken() -> DeploymentTrial:
        if to == "aks":
            no_helm(azure, monkeypatch, "upgrade")
        else:
            fails(azure, ENDING[to], 403, "Forbidden", "No role for that.")
        if interrupted:
            raise KeyboardInterrupt
        return SLOW

    project.finds = broken
    told = refused(lambda: project.release(to, "two"))
    first = "It was interrupted" if interrupted else "P95 is 1000000 ms"
    stands = f"Still deployed at the {live_of(to, project.spec, project.at).kind} {old.name}: {standing} (0 %"
    assert told.index(first) < told.index("No role for that") < told.index(stands)
    assert "an hour" in told and f"--to {to} --rollback" in told and "azure down" in told
    assert "was removed; the earlier" not in told
    assert project.serving(to) == {old.fresh: 100}
    # And the command that is named does it.
    project.conclude(to)
    assert project.state(to).shares == {old.fresh: 100}


@pytest.mark.parametrize("to", ["aml", "aks"])
def test_when_a_first_version_can_t_be_taken_away_the_command_that_is_named_does_it(
    project: Deploying, azure: AzureEmulator, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    def broken() -> DeploymentTrial:
        if to == "aks":
            no_helm(azure, monkeypatch, "uninstall")
        else:
            fails(azure, r"DELETE .*/onlineEndpoints/", 403, "Forbidden", "No role for that.")
        return SLOW

    project.finds = broken
    told = refused(lambda: project.release(to))
    assert "P95 is" in told and "No role for that" in told and "an hour" in told
    assert ("--rollback" in told) == (to == "aml"), "a release's first version has no canary track"
    assert "azure down" in told
    if to == "aml":
        project.conclude(to)
        assert project.state(to).shares == {}
    else:
        take_down(api.standing(project.spec))
        assert live_of(to, project.spec, project.at).state() is None


def test_when_azure_says_nothing_of_what_stands_the_user_is_told_the_cost(
    project: Deploying, azure: AzureEmulator
) -> None:
    project.release("aml")
    new = project.target("aml", "two").fresh

    def away() -> DeploymentTrial:
        fails(azure, r"/onlineEndpoints/", 403, "Forbidden", "No role for that.", 99)
        return SLOW

    project.finds = away
    told = refused(lambda: project.release("aml", "two"))
    azure.cloud.faults.clear()
    assert f"The version {new} of the endpoint" in told and "may still exist (2 x Standard_F4s_v2, $0.34" in told
    assert "--rollback" in told
    assert project.state("aml").fresh == new


@pytest.mark.parametrize("to", ALL)
def test_what_a_killed_deployment_left_is_found_by_the_next(
    project: Deploying, to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = project.release(to)
    left = project.target(to, "two")
    left.create()
    state = project.state(to)
    assert (state.fresh, state.is_canary) == (left.fresh, False)
    assert "did not finish" in refused(lambda: project.conclude(to, promote=True))
    upgrade(monkeypatch)
    new = project.release(to, "two", canary=20)
    assert project.serving(to) == {old.fresh: 80, new.fresh: 20}
    assert left.fresh not in project.state(to).shares
    # Of a canary in traffic that is not done behind anyone's back.
    assert "Another version is on trial" in refused(lambda: project.release(to, "three"))
    assert project.serving(to) == {old.fresh: 80, new.fresh: 20}


@pytest.mark.parametrize("to", ALL)
def test_a_killed_deployment_is_gone_on_with_by_the_same_version(project: Deploying, to: str) -> None:
    project.target(to).create()
    target = project.release(to)
    assert project.state(to).shares == {target.fresh: 100}
    assert project.state(to).fresh is None


def test_an_interrupted_creation_is_found_by_its_tag(project: Deploying, azure: AzureEmulator) -> None:
    """Interrupted while Azure makes it, and then Azure refuses to delete it."""
    project.release("aml")
    before = project.state("aml")
    target: Any = project.target("aml", "two")

    def interrupt(_: object) -> None:
        fails(azure, r"DELETE .*/deployments/", 409, "Conflict", "It is being made.")
        raise KeyboardInterrupt

    target._wait = interrupt
    told = refused(lambda: release(project.spec, target, EXAM, None))
    assert "It was interrupted" in told and "It is being made" in told and "$0.34 an hour" in told
    endpoint = azure.cloud.get(f"{azure.cloud.workspace}/onlineEndpoints/{target.name}")
    assert endpoint and endpoint["tags"][TRIAL] == target.fresh and CANARY not in endpoint["tags"]
    project.conclude("aml")
    assert project.state("aml") == before


@pytest.mark.parametrize("to", list(ENDING))
@pytest.mark.parametrize("promote", [False, True])
def test_an_end_that_is_broken_off_goes_on(project: Deploying, azure: AzureEmulator, to: str, promote: bool) -> None:
    old = project.release(to)
    new = project.release(to, "two", canary=20)
    fails(azure, ENDING[to], 403, "Forbidden", "No role for that.")
    told = refused(lambda: project.conclude(to, promote=promote))
    assert "No role for that" in told and "the canary has not ended" in told
    assert f"{old.fresh} (" in told and f"{new.fresh} (" in told and "an hour" in told
    assert ("--promote" if promote else "--rollback") in told
    project.conclude(to, promote=promote)
    assert project.state(to).shares == {(new if promote else old).fresh: 100}


@pytest.mark.parametrize("to", list(ENDING))
def test_a_deployment_that_serves_and_does_not_end_is_not_undone(
    project: Deploying, azure: AzureEmulator, to: str
) -> None:
    old = project.release(to)
    fails(azure, ENDING[to], 403, "Forbidden", "No role for that.")
    told = refused(lambda: project.release(to, "two"))
    new = project.target(to, "two").fresh
    assert "did not finish" in told and "No role for that" in told and "same command again" in told
    assert f"{old.fresh} (0 % of the traffic" in told
    assert project.serving(to) == {new: 100}
    project.release(to, "two")  # the same command again
    assert project.state(to).shares == {new: 100}


def test_traffic_that_azure_refuses_leaves_nothing(project: Deploying, azure: AzureEmulator) -> None:
    old = project.release("aml")
    project.finds = lambda: (fails(azure, r"PUT .*/onlineEndpoints/[^/]+$", 403), GOOD)[1]
    told = refused(lambda: project.release("aml", "two", canary=10))
    assert "Nothing of the new version is left" in told
    assert project.state("aml").shares == {old.fresh: 100}


def test_pods_are_there_before_the_traffic(
    project: Deploying, azure: AzureEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A canary of one pod must not get the traffic of four, and values that somebody set by hand stay."""
    target = project.release("aks")
    new = project.release("aks", "two", canary=10)
    values = azure.clusters.releases[target.name]
    assert (values["stable"]["replicas"], values["canary"]["replicas"]) == (4, 1)
    values["server"] = {"timeoutSeconds": 20, "limitConcurrency": 9}
    seen = []
    original = azure.clusters._install

    def watched(release: str, values: dict[str, Any], files: dict[str, bytes]) -> tuple[int, str]:
        seen.append((values["traffic"], values["stable"]["replicas"], values["canary"]["replicas"]))
        return original(release, values, files)

    monkeypatch.setattr(azure.clusters, "_install", watched)
    project.conclude("aks", promote=True)
    assert seen == [("all", 4, 4), ("canary", 4, 4), ("canary", 4, 4), ("all", 4, 0)]
    values = azure.clusters.releases[target.name]
    assert values["stable"]["image"].endswith(new.fresh)
    assert values["server"]["limitConcurrency"] == 9


@pytest.mark.parametrize("to", ALL)
def test_what_another_project_made_under_this_name_is_not_touched(
    project: Deploying, job: MakeJob, tmp_path: Path, to: str
) -> None:
    azure, long = project.azure, f"t-the-long-name-of-job-{to}-with-more-of-it"
    ours, theirs = (Deploying(azure, job(name=f"{long}-{end}", traffic=SERVING), tmp_path) for end in "ab")
    assert live_of(to, ours.spec, ours.at).name == live_of(to, theirs.spec, theirs.at).name
    old = ours.release(to)
    for what in (lambda: theirs.release(to), lambda: theirs.conclude(to)):
        assert f"belongs to the project {ours.spec.name}" in refused(what)
    assert ours.serving(to) == {old.fresh: 100}
    assert api.standing(theirs.spec) == []
    take_down(api.standing(ours.spec))


def test_an_app_whose_traffic_goes_to_the_latest(project: Deploying, azure: AzureEmulator) -> None:
    """As the portal writes it."""
    old: Any = project.release("aca")
    app = azure.cloud.get(old.path)
    assert app
    app["properties"]["latestReadyRevisionName"] = old.fresh
    app["properties"]["configuration"]["ingress"]["traffic"] = [{"latestRevision": True, "weight": 100}]
    assert project.serving("aca") == {old.fresh: 100}
    new = project.release("aca", "two", canary=10)
    assert project.serving("aca") == {old.fresh: 90, new.fresh: 10}


def test_what_somebody_set_at_an_app_outlives_the_next_version(project: Deploying, azure: AzureEmulator) -> None:
    old: Any = project.release("aca")
    app: Any = azure.cloud.get(old.path)
    mine = {
        "external": False,
        "customDomains": [{"name": "tickets.acme.com", "bindingType": "Disabled"}],
        "ipSecurityRestrictions": [{"name": "office", "ipAddressRange": "192.0.2.0/24", "action": "Allow"}],
    }
    foreign = {"server": "acme.azurecr.io", "username": "acme", "passwordSecretRef": "s"}
    app["properties"]["configuration"]["ingress"] |= mine
    app["properties"]["configuration"]["secrets"] = [{"name": "s"}]
    app["properties"]["configuration"]["registries"].append(foreign)
    new = project.release("aca", "two")
    assert project.serving("aca") == {new.fresh: 100}
    kept: Any = azure.cloud.get(old.path)
    configuration = kept["properties"]["configuration"]
    assert {key: configuration["ingress"][key] for key in mine} == mine
    assert configuration["secrets"] == [{"name": "s"}] and foreign in configuration["registries"]


def test_an_app_gets_the_identity_that_the_spec_names_by_now(
    project: Deploying, azure: AzureEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    old: Any = project.release("aca")
    app: Any = azure.cloud.get(old.path)
    app["identity"]["type"] = "SystemAssigned,UserAssigned"
    monkeypatch.setenv("AZURE_ML_IDENTITY", f"{IDENTITY}-2")
    project.release("aca", "two")
    app = azure.cloud.get(old.path)
    assert app["identity"]["type"] == "SystemAssigned,UserAssigned"
    assert app["identity"]["userAssignedIdentities"].keys() == {IDENTITY, f"{IDENTITY}-2"}
    assert [each["identity"] for each in app["properties"]["configuration"]["registries"]] == [f"{IDENTITY}-2"]


def test_an_earlier_version_of_an_app_serves_again(
    project: Deploying, azure: AzureEmulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Azure makes no second revision of a name, and changes none."""
    old: Any = project.release("aca")
    new = project.release("aca", "two")
    assert project.state("aca").shares == {new.fresh: 100}
    app: Any = azure.cloud.get(old.path)
    again = {"properties": {"template": app["properties"]["template"] | {"revisionSuffix": old._suffix}}}
    with pytest.raises(UserError, match=r"revision with suffix .* already exists"), azure_errors("the app"):
        project.at.ask("PATCH", old.path, APPS, again)
    monkeypatch.setattr(apps, "built", lambda *_: pytest.fail("its image is there"))
    assert project.release("aca").fresh == old.fresh
    assert project.state("aca").shares == {old.fresh: 100}


def test_the_serving_revision_is_tried_while_another_one_is_the_canary(
    project: Deploying, azure: AzureEmulator
) -> None:
    old: Any = project.release("aca")
    new: Any = project.release("aca", "two", canary=10)
    for tried in (old, new):
        assert httpx.get(f"{tried._address().url}/models", timeout=60).status_code == 200
        assert tried.fresh in azure.apps.running
        azure.apps._stop(tried.fresh)
        assert azure.apps.running == []


def test_a_release_has_one_engine(project: Deploying) -> None:
    """Both tracks share the engine, so a canary with another one would break the serving version."""
    old = project.release("aks")
    other: Any = project.target("aks", "two")
    other._engine = "openvino"
    told = refused(lambda: release(project.spec, other, EXAM, 10))
    assert "serves with onnxruntime, and this bundle needs openvino" in told
    assert project.state("aks").shares == {old.fresh: 100}


def test_the_same_version_gets_another_number_of_machines(project: Deploying, azure: AzureEmulator) -> None:
    old = project.release("aml")
    path = f"{azure.cloud.workspace}/onlineEndpoints/{old.name}/deployments/{old.fresh}"

    def machines() -> int:
        found = azure.cloud.get(path)
        assert found
        return int(found["sku"]["capacity"])

    more: Any = project.target("aml")
    more._instances = 3
    assert machines() == 2
    for made in (1, 0):  # the second time there is nothing to change
        since = len(azure.cloud.calls)
        assert release(project.spec, more, EXAM, None).percent == 100
        assert (machines(), len(puts(azure, "/deployments/", since))) == (3, made)
    assert project.state("aml").shares == {old.fresh: 100}


def test_a_compute_instance_of_another_project_stays(azure: AzureEmulator, job: MakeJob) -> None:  # noqa: ARG001
    name = "t-the-long-name-of-a-notebook"
    first, second = job(name=f"{name}-a"), job(name=f"{name}-b")
    api.notebook(first, "Standard_D4s_v3")
    assert f"belongs to the project {name}-a" in refused(lambda: api.notebook(second, "Standard_D2s_v3"))
    api.notebook(first, "Standard_D4s_v3")
    take_down(api.standing(first))
