"""A long wait prints a line once a minute, ends at its limit, and says what it costs."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from tests.conftest import make_spec
from tunewright.backends.azure import backend as place
from tunewright.backends.azure import follow, throwaway, waiting
from tunewright.backends.azure.backend import AzureBackend
from tunewright.backends.azure.follow import JobFollower, Stopped
from tunewright.backends.azure.refusals import Unreachable
from tunewright.backends.azure.throwaway import Throwaway
from tunewright.backends.azure.waiting import Wait, wait_for
from tunewright.core.errors import UserError
from tunewright.deploy import images, trial
from tunewright.deploy.apps import App
from tunewright.deploy.kubernetes import NONE, LiveRelease
from tunewright.deploy.live import State
from tunewright.deploy.live_app import LiveApp
from tunewright.deploy.live_endpoint import LiveEndpoint
from tunewright.deploy.trial import Exam, NoAnswer, TrialQuestion
from tunewright.pipeline.steps import STEPS

MACHINE = "Standard_F4s_v2"
COSTS = f"1 x {MACHINE}, $0.17 an hour"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that a test and every sleep move."""
    now = SimpleNamespace(seconds=0.0)

    def sleep(seconds: float) -> None:
        now.seconds += seconds

    monkeypatch.setattr(waiting.time, "monotonic", lambda: now.seconds)
    monkeypatch.setattr(waiting.time, "sleep", sleep)
    return now


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line.strip() for line in capsys.readouterr().err.splitlines()]


def test_a_line_a_minute_and_a_limit(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    wait = Wait()
    for second in range(0, 150, 10):
        clock.seconds = second
        assert not wait.look("the image", 150, "$1 an hour")
    assert lines(capsys) == [
        "azure: waiting for the image, 1 min, at most 2; $1 an hour",
        "azure: waiting for the image, 2 min, at most 2; $1 an hour",
    ]
    clock.seconds = 151
    assert wait.look("the image", 150)


def test_another_thing_and_other_words_begin_the_minute_anew(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    wait = Wait()
    wait.look("the image", 90)
    clock.seconds = 59
    wait.reset()
    clock.seconds = 100
    assert not wait.look("a machine", 90), "the earlier wait has its own time"
    clock.seconds = 150
    wait.look("a machine", 90)
    assert lines(capsys) == []


def test_the_first_things_time_begins_with_the_wait(clock: Any) -> None:
    """Time before the first look counts: a request may hang for a minute."""
    wait = Wait()
    clock.seconds = 61
    assert wait.look("an answer", 60)


class Poller:
    """A long operation that is done after some seconds of a test's clock."""

    def __init__(self, clock: Any, seconds: float):
        self._clock, self._end = clock, seconds

    def done(self) -> bool:
        return bool(self._clock.seconds >= self._end)

    def wait(self, seconds: float) -> None:
        self._clock.seconds += seconds

    def result(self) -> str:
        return "made"


def test_an_operation_is_waited_for_to_its_end_or_its_limit(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert wait_for(Poller(clock, 130), "the endpoint x", 600) == "made"
    assert len(lines(capsys)) == 2
    with pytest.raises(UserError, match="not finished with the endpoint x after 10 minutes"):
        wait_for(Poller(clock, 10_000), "the endpoint x", 600)


def test_a_step_that_no_machine_comes_for_ends(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    follower = JobFollower(SimpleNamespace(), "job", {"train": 3.67}, 20.0)
    wait, queued = Wait(), SimpleNamespace(status="Queued", name="run")
    follower._report_wait("train", queued, wait)
    clock.seconds = 61
    follower._report_wait("train", queued, wait)
    said = lines(capsys)
    assert said == [
        "azure: waiting for a machine: the cluster grows, or others use it, 1 min, at most 240; $3.67 an hour from "
        "when a machine stands"
    ]
    follower._report_wait("train", SimpleNamespace(status="Running", name="run"), wait)
    clock.seconds = 8_000
    follower._report_wait("train", SimpleNamespace(status="Running", name="run"), wait)
    assert "waiting for the step train, which runs" in lines(capsys)[0]
    follower._report_wait("train", queued, wait)
    clock.seconds = 24_000
    follower.error = lambda _: "No capacity."
    follower._cluster_state = lambda _: "The cluster gpu is resizing."
    with pytest.raises(
        Stopped, match=r"The step train did not begin: it waited 240 minutes.*No capacity.*gpu is resizing"
    ):
        follower._report_wait("train", queued, wait)


def test_a_run_that_azure_does_not_end_is_ended_whatever_its_status(
    clock: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from azure.ai.ml.operations._run_history_constants import RunHistoryConstants

    said: dict[str, str] = {}
    for status in {*RunHistoryConstants.ALL_STATUSES, "Unknown"} - {*follow.OVER}:
        follower = JobFollower(SimpleNamespace(), "job", {"train": 3.67}, 20.0)
        follower._limits = {"train": 60.0}
        follower.error = follower._cluster_state = lambda _: None
        wait, run = Wait(), SimpleNamespace(status=status, name="run")
        for seconds in (0, 61):
            clock.seconds += seconds
            follower._report_wait("train", run, wait)
        (said[status],) = lines(capsys)
        clock.seconds += 4 * 3600
        with pytest.raises(Stopped):
            follower._report_wait("train", run, wait)
        lines(capsys)
    assert {status for status, line in said.items() if "which runs" in line} == {"Running", "Unknown"}
    assert "does not hear" in said["NotResponding"] and "is being cancelled" in said["CancelRequested"]


def of_one_step(seconds: float | None) -> Any:
    """A job as Azure describes it, with the limit from its submission."""
    return SimpleNamespace(name="run", status="Running", type="command", limits=SimpleNamespace(timeout=seconds))


def test_a_step_that_runs_on_after_its_limit_ends(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    job = of_one_step(7200)
    at: Any = SimpleNamespace(ml=SimpleNamespace(jobs=SimpleNamespace(get=lambda _: job)))
    follower = JobFollower(at, "job", {"train": 3.67}, 100.0)
    follower.seconds = lambda _: clock.seconds
    follower._print_log = lambda _: False
    follower._print_curve = lambda _: None
    with pytest.raises(Stopped, match=r"The step train runs on, though its limit of 120 minutes has passed"):
        follower.step(STEPS["train"])
    assert 7200 < clock.seconds < 7200 + follow._ENDING_SECONDS + 60, "Azure gets a while to end it itself"
    assert lines(capsys)[0] == (
        "azure: waiting for the step train, which runs, 1 min, at most 135; Azure ends it after 120 min; $3.67 an "
        "hour, $0.07 so far"
    )


def test_each_step_of_a_pipeline_has_its_limit(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    steps = {"train": of_one_step(3600), "export": of_one_step(60), "check": SimpleNamespace()}
    whole = SimpleNamespace(status="Running", type="pipeline", jobs=steps)
    jobs = SimpleNamespace(get=lambda _: whole, list=lambda **_: [])
    follower = JobFollower(SimpleNamespace(ml=SimpleNamespace(jobs=jobs)), "job", {}, 10.0)
    follower._look("train")
    assert follower._limits == {"train": 3600.0, "export": 60.0}
    wait, running = Wait(), SimpleNamespace(status="Running", name="run")
    clock.seconds = 3600 + follow._ENDING_SECONDS
    follower._report_wait("train", running, wait)
    assert "Azure ends it after 60 min" in lines(capsys)[0]
    clock.seconds += 1
    with pytest.raises(Stopped, match="60 minutes"):
        follower._report_wait("train", running, wait)
    follower._report_wait("check", running, wait)
    clock.seconds += 3600
    follower._report_wait("check", running, wait)
    assert "Azure ends it" not in lines(capsys)[0], "for a step without a known limit"
    clock.seconds += follow._LONGEST_RUN + follow._ENDING_SECONDS
    with pytest.raises(Stopped):
        follower._report_wait("check", running, wait)


def test_azure_away_is_told_each_minute(
    clock: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(_: str) -> Any:
        raise Unreachable("Azure could not be reached.")

    follower = JobFollower(SimpleNamespace(), "job", {"train": 3.67}, 20.0)
    monkeypatch.setattr(follower, "_look", away)
    with pytest.raises(Unreachable):
        follower._look_patiently("train")
    assert follow._PATIENCE_SECONDS < clock.seconds <= follow._PATIENCE_SECONDS + 2 * follow._SLOWEST
    first, *others = lines(capsys)
    assert first.endswith("Still trying; the job runs on.") and len(others) == 5
    assert others[0].endswith("1 min, at most 5; the job costs up to $3.67 an hour meanwhile")


class Silent:
    """A deployment that answers nothing until some second of a test's clock."""

    def __init__(self, clock: Any, until: float, fault: str = "503: it starts"):
        self._clock, self._until, self.fault = clock, until, fault

    def __call__(self, _: TrialQuestion) -> str | None:
        self._clock.seconds += 5
        return "a" if self._clock.seconds >= self._until else None


def test_a_deployment_that_wakes_up_is_waited_for_aloud(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    exam = Exam("m", [TrialQuestion([], "a")], 1.0, 1, 0, wake_seconds=600.0)
    assert trial._wake(Silent(clock, 130), exam, COSTS) >= 130
    assert lines(capsys) == [
        f"azure: waiting for the new version's first answer, {minute} min, at most 10; {COSTS}" for minute in (1, 2)
    ]
    before = clock.seconds
    with pytest.raises(NoAnswer, match="answered nothing in 6"):
        trial._wake(Silent(clock, 10_000), exam, COSTS)
    assert clock.seconds - before < 600 + 10
    before = clock.seconds
    with pytest.raises(UserError, match="a role that may call it"):
        trial._wake(Silent(clock, 10_000, "403: no"), exam, COSTS)
    assert clock.seconds - before == 5, "a refusal does not pass by itself"


def test_what_a_probe_makes_is_waited_for_aloud(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    told = {"properties": {"provisioningState": "Creating"}}
    at: Any = SimpleNamespace(name=SimpleNamespace(path="/w"), ask=lambda *_, **__: told)
    with pytest.raises(UserError, match="has not made x after 10 minutes"):
        Throwaway(make_spec(), at).put("a cluster", "taken", "computes/x", {"properties": {}}, "size")
    assert clock.seconds <= throwaway._SETTLE_SECONDS + 5
    said = lines(capsys)
    assert said[0] == "azure: a cluster"
    assert said[1] == "azure: waiting for computes x to be made, 1 min, at most 10; it costs nothing"
    assert len(said) == 11


def test_a_deployment_of_a_probe_says_what_it_costs(clock: Any) -> None:  # noqa: ARG001
    asked: list[str] = []
    at: Any = SimpleNamespace(name=SimpleNamespace(path="/w"), ask=lambda *_, costs, **__: asked.append(costs) or {})
    things = Throwaway(make_spec(), at)
    with things.taken_away():
        body = {"properties": {"instanceType": MACHINE}}
        things.put("a deployment", "refused", "onlineEndpoints/x/deployments/y", body, "size", settle=False)
    assert asked == ["$0.17 an hour"] * 2, "as it is made, and as it goes"


def test_a_job_that_is_cancelled_is_waited_for_aloud(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cancelling = SimpleNamespace(status="CancelRequested")
    at: Any = SimpleNamespace(ml=SimpleNamespace(jobs=SimpleNamespace(get=lambda _: cancelling)))
    there = AzureBackend(make_spec(), at, lambda *_: None, to="check", force=False, ready=lambda: None)
    with pytest.raises(UserError, match="still being cancelled"):
        there._once_cancelled("job")
    assert clock.seconds <= place._CANCELLING_SECONDS + 2
    said = lines(capsys)
    assert len(said) == 4
    assert said[1] == "azure: waiting for the job job to be cancelled, 1 min, at most 3; its machines cost until then"


def test_a_build_is_waited_for_aloud(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    at: Any = SimpleNamespace(ask=lambda *_: {"properties": {"status": "Running"}})
    images._wait_for_run(at, "/runs/cb1")
    said = lines(capsys)
    assert len(said) == 60 and said[0].endswith("1 min, at most 60; " + images._COSTS)


def test_changes_of_an_endpoint_say_what_stands_there(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    entity = SimpleNamespace(tags={"tunewright": make_spec().name}, traffic={"v1": 100}, mirror_traffic={})
    machines = [SimpleNamespace(name=name, instance_count=1, instance_type=MACHINE) for name in ("v1", "v2")]
    begun = lambda *_, **__: Poller(clock, clock.seconds + 61)  # noqa: E731
    ml = SimpleNamespace(
        online_endpoints=SimpleNamespace(get=lambda _: entity, begin_create_or_update=begun, begin_delete=begun),
        online_deployments=SimpleNamespace(list=lambda _: machines, begin_delete=begun),
    )
    live = LiveEndpoint(make_spec(), SimpleNamespace(ml=ml, name=SimpleNamespace(path="/w")))
    assert isinstance(live.state(), State)
    live.change("v2", True, traffic={"v1": 90, "v2": 10})
    live._delete("v2")
    live.change(None, False)
    live.remove()
    said = [line.rpartition("; ")[2] for line in lines(capsys) if "waiting" in line]
    assert said == [f"{COSTS} and {COSTS}", COSTS, COSTS, COSTS]


def test_a_new_endpoint_costs_nothing(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    from azure.core.exceptions import ResourceNotFoundError

    def none(_: str) -> Any:
        raise ResourceNotFoundError

    begun = lambda *_, **__: Poller(clock, clock.seconds + 61)  # noqa: E731
    ml = SimpleNamespace(online_endpoints=SimpleNamespace(get=none, begin_create_or_update=begun))
    LiveEndpoint(make_spec(), SimpleNamespace(ml=ml, name=SimpleNamespace(path="/w"))).begin("v1")
    assert lines(capsys)[1].endswith("1 min, at most 45; it costs nothing without a deployment")


def test_changes_of_a_container_app_say_what_it_costs() -> None:
    asked: list[tuple[str, str]] = []

    def ask(method: str, path: str, *_: Any, costs: str = "", **__: Any) -> dict[str, Any]:
        asked.append((f"{method} {path.rpartition('/')[2]}", costs))
        return {"tags": {}}

    at: Any = SimpleNamespace(name=SimpleNamespace(subscription="s", resource_group="g"), ask=ask)
    live = LiveApp(make_spec(), at)
    live.activate("v1")
    live.change({"v1": 100}, None, False)
    live._deactivate("v1")
    live.remove()
    told = {name: costs for name, costs in asked if not name.startswith("GET")}
    assert len(told) == 4 and all(
        "an hour a replica, nothing while it gets no requests" in each for each in told.values()
    )


def test_a_container_app_that_begins_says_what_it_costs(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ARG001
    at = SimpleNamespace(name=SimpleNamespace(subscription="s", resource_group="g"))
    own: Any = SimpleNamespace(
        _suffix="v1", name="app", cost="up to $0.22 an hour", _state=lambda: "InProgress", _at=at
    )
    with pytest.raises(UserError, match=r"did not start.*logs show --resource-group g --name app"):
        App._wait_until_ready(own)
    assert lines(capsys)[0].endswith("1 min, at most 20; up to $0.22 an hour")


def test_commands_in_a_cluster_say_what_the_pods_cost() -> None:
    asked: list[tuple[str, str]] = []
    values = {"stable": {"image": "r/tunewright/x:a", "replicas": 2}, "canary": NONE, "traffic": "all"}

    def ask(_: str, __: str, ___: str, body: Any = None, *, what: str = "", costs: str = "") -> dict[str, Any]:
        if body is None:
            return {"properties": {}}
        asked.append((what, costs))
        said = [{"name": "x"}] if "helm list" in body["command"] else values
        return {"properties": {"provisioningState": "Succeeded", "logs": json.dumps(said)}}

    spec = make_spec(name="x", traffic={"machine": MACHINE})
    live = LiveRelease(spec, SimpleNamespace(ask=ask, name=SimpleNamespace(resource_group="g")))
    live.cluster._given = "/aks"
    live.install(values | {"canary": {"image": "r/tunewright/x:b", "replicas": 1}})
    assert live.values() == values
    live.remove()
    pods = f"x {MACHINE}, ${{}} an hour, if each pod takes a machine"
    assert asked[0] == ("the cluster aks to end helm upgrade", "3 " + pods.format("0.51"))
    assert asked[-1] == ("the cluster aks to end helm uninstall tw-x", "2 " + pods.format("0.34"))
