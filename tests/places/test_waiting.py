"""A long wait is told once a minute, ends at its limit, and says what it costs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tunewright.errors import UserError
from tunewright.places.azure import waiting
from tunewright.places.azure.follow import Follower, Stopped
from tunewright.places.azure.waiting import Wait, awaited


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A clock that a test moves."""
    now = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now.seconds)
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
    wait.heard()
    clock.seconds = 100
    assert not wait.look("a machine", 90), "what was waited for before has its own time"
    clock.seconds = 150
    wait.look("a machine", 90)
    assert lines(capsys) == []


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
    assert awaited(Poller(clock, 130), "the endpoint x", 600) == "made"
    assert len(lines(capsys)) == 2
    with pytest.raises(UserError, match="not come to an end with the endpoint x after 10 minutes"):
        awaited(Poller(clock, 10_000), "the endpoint x", 600)


def test_a_step_that_no_machine_comes_for_ends(clock: Any, capsys: pytest.CaptureFixture[str]) -> None:
    follower = Follower(SimpleNamespace(), "job", {"train": 3.67}, 20.0)  # type: ignore[arg-type]
    wait, queued = Wait(), SimpleNamespace(status="Queued", name="run")
    follower._tell("train", queued, wait)
    clock.seconds = 61
    follower._tell("train", queued, wait)
    said = lines(capsys)
    assert said == [
        "azure: waiting for a machine: the cluster grows, or others use it, 1 min, at most 240; $3.67 an hour from "
        "when a machine stands"
    ]  # fmt: skip
    follower._tell("train", SimpleNamespace(status="Running", name="run"), wait)
    clock.seconds = 8_000
    follower._tell("train", SimpleNamespace(status="Running", name="run"), wait)
    assert "waiting for the step train, which runs" in lines(capsys)[0]
    follower._tell("train", queued, wait)
    clock.seconds = 24_000
    follower.error = lambda _: "No capacity."  # type: ignore[method-assign]
    follower._machines = lambda _: "The cluster gpu is resizing."  # type: ignore[method-assign]
    with pytest.raises(Stopped, match=r"The step train did not begin: 240 minutes.*No capacity.*gpu is resizing"):
        follower._tell("train", queued, wait)
