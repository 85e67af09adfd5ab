"""A person rolls back while a retraining is under way: the store, `serving.json` and the stages are real."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest

from tests.conftest import make_spec
from tests.monitoring.bundles import bundle_in
from tunewright.config import Spec
from tunewright.monitoring.retraining import events
from tunewright.monitoring.retraining import run as module
from tunewright.monitoring.retraining.canary import CanaryTerms
from tunewright.monitoring.retraining.gate import Decision
from tunewright.monitoring.retraining.run import Course, Parts, Retrained, retrain
from tunewright.monitoring.retraining.serves import changing_what_serves
from tunewright.monitoring.retraining.status import roll_back
from tunewright.monitoring.store import Store, open_store
from tunewright.monitoring.store.tables import Capture, Deployment
from tunewright.project import read_serving, served_from, write_serving

SOON = CanaryTerms(0.1, captures=1, minutes=10, every=0.01)


def nothing() -> None:
    """What happens where a test does nothing of its own."""


class Played:
    """A project in which v1 serves, v0 served before, and v2 is the challenger."""

    def __init__(self, folder: Path):
        self.spec: Spec = make_spec(folder)
        self.store: Store = open_store(self.spec)
        self.runs = folder / "runs"
        for number in range(3):
            bundle_in(self.runs / f"bundle-{number}", f"v{number}", None)
        write_serving(self.runs, served_from("bundle-0", "v0").promoted("bundle-1", "v1"))

    def retrain(
        self,
        *,
        training: Callable[[], object] = nothing,
        gate: Callable[[], object] = nothing,
        collect: Callable[[], object] = nothing,
        course: Course | None = None,
    ) -> Retrained:
        """A retraining.

        Args:
            training, gate, collect: what happens during these.
        """

        def train(_: Spec) -> SimpleNamespace:
            training()
            return SimpleNamespace(bundle=self.runs / "bundle-2", gate_failures=[])

        def decide(*_: object) -> Decision:
            gate()
            return Decision(True, "It may serve.", [], [], 1.0, 1.0, 0)

        parts = Parts(
            latest=lambda: self.runs / "bundle-2",
            collect=collect,
            collect_corrections=lambda: "one",
            freeze=nothing,
            run=train,
            appraise=lambda _session, _captures: None,
        )
        with mock.patch.object(module, "contest", decide):
            return retrain(self.spec, self.store, self.runs, parts, course or Course(0, None))

    def roll_back(self) -> None:
        roll_back(self.spec, self.store, self.runs)

    def at_canary(self) -> None:
        """A retraining was killed when its canary began."""
        detail = {"bundle": "bundle-2", "champion": "v1", "corrections": "one", "share": 0.1, "sentence": ""}
        events.record(self.store, self.spec.name, "v2", events.CANARY, detail | {"begun": ""})
        serving = read_serving(self.runs)
        assert serving
        write_serving(self.runs, serving.trying("bundle-2", "v2", 0.1))

    def answer(self) -> None:
        """The challenger has answered a request."""
        told = {"version": "v2", "answer": "billing", "confidence": 0.9, "escalate": False, "seconds": 0.01}
        with self.store.session() as session:
            session.add(Capture(id="a", time=datetime.now(UTC), model=self.spec.name, request="a", **told))

    @property
    def serves(self) -> tuple[str, list[str], str | None]:
        """(the champion, the former ones, the challenger)."""
        serving = read_serving(self.runs)
        assert serving
        on_trial = serving.challenger.version if serving.challenger else None
        return serving.champion.version, [each.version for each in serving.former], on_trial

    @property
    def history(self) -> list[tuple[str, str]]:
        with self.store.session() as session:
            return [(each.version, each.event) for each in session.query(Deployment).order_by(Deployment.number)]


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    made = Played(tmp_path)
    yield made
    made.store.close()


def test_without_a_rollback_the_challenger_is_promoted(played: Played) -> None:
    assert played.retrain().event == events.PROMOTED
    assert played.serves == ("v2", ["v1", "v0"], None)


def test_a_rollback_between_the_comparison_and_the_promotion_stands(played: Played) -> None:
    """No server runs, which would else be a reason to promote without a canary."""
    found = played.retrain(gate=played.roll_back, course=Course(0, SOON))
    assert (found.event, found.sentence) == (events.ROLLED_BACK, "The champion has changed since the comparison.")
    assert (found.champion, found.challenger) == ("v0", "v2")
    assert played.serves == ("v0", [], None)
    assert played.history == [("v1", "rolled-back"), ("v2", "trained"), ("v2", "rolled-back")]


def test_after_a_rollback_during_training_the_challenger_is_compared_with_what_serves_then(played: Played) -> None:
    found = played.retrain(training=played.roll_back)
    assert (found.event, found.detail["champion"]) == (events.PROMOTED, "v0")
    assert played.serves == ("v2", ["v0"], None), "what was rolled back is no former champion"


@pytest.mark.parametrize("times", [1, 2])
def test_a_rollback_at_the_end_of_a_canary_stands(played: Played, times: int) -> None:
    """A person rolls back when the canary has looked at `serving.json` and before it finds nothing against the
    challenger."""
    played.at_canary()
    looks = 0

    def collect() -> None:
        nonlocal looks
        looks += 1
        if looks == 2:  # the first is the retraining's own
            played.answer()
            for _ in range(times):
                played.roll_back()

    found = played.retrain(collect=collect, course=Course(0, SOON))
    assert looks == 2
    assert found.event == events.ROLLED_BACK
    assert played.serves == [("v1", ["v0"], None), ("v0", [], None)][times - 1]
    rolled_back = [each for each in played.history if each[1] == events.ROLLED_BACK]
    assert rolled_back == [("v2", "rolled-back"), ("v1", "rolled-back"), ("v2", "rolled-back")][: 2 * times - 1]


def test_a_canary_that_nobody_asked_keeps_the_champion(played: Played) -> None:
    played.at_canary()
    found = played.retrain(course=Course(0, CanaryTerms(0.1, minutes=0, every=0.01)))
    assert found.sentence == ("Rolled back in the canary: the canary measured nothing, because no request reached it.")
    assert played.serves == ("v1", ["v0"], None)


def test_a_rollback_waits_while_what_serves_is_changed(played: Played) -> None:
    back = threading.Thread(target=played.roll_back)
    with changing_what_serves(played.runs):
        back.start()
        time.sleep(0.2)
        assert played.serves == ("v1", ["v0"], None)
        assert played.history == []
        serving = read_serving(played.runs)
        assert serving
        write_serving(played.runs, serving.promoted("bundle-2", "v2"))
    back.join()
    assert played.serves == ("v1", ["v0"], None), "back from the one that was promoted meanwhile"
    assert played.history == [("v2", "rolled-back")]


def test_a_promotion_and_its_note_are_one_change(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a rollback could come between, and the history would end with the promotion."""
    write, held = events.record, list[bool]()

    def record(*arguments: object) -> Deployment:
        descriptor = os.open(played.runs / ".serving.lock", os.O_RDWR | os.O_CREAT)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.append(False)
        except BlockingIOError:
            held.append(True)
        finally:
            os.close(descriptor)
        return write(*arguments)

    monkeypatch.setattr(events, "record", record)
    played.retrain()
    played.roll_back()
    assert [event for _, event in played.history] == ["trained", "shadow", "promoted", "rolled-back"]
    assert held == [False, False, True, True]
