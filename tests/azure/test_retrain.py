"""`retrain --on azure --to aml`: trained in a job, registered, a canary of the endpoint, promoted or taken away."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.azure.conftest import MakeJob, ended, fails
from tests.conftest import unalike
from tests.monitor.captures import capture, review
from tunewright import api
from tunewright.cli.app import app as cli
from tunewright.errors import EXIT_GATE
from tunewright.monitor.retrain import events
from tunewright.monitor.retrain.canary import Terms
from tunewright.monitor.retrain.in_azure import InAzure
from tunewright.monitor.retrain.retrain import Course
from tunewright.monitor.store import open_store
from tunewright.monitor.store.tables import Deployment
from tunewright.places.azure.connection import connect
from tunewright.places.azure.deploy import exam, trial
from tunewright.places.azure.deploy.endpoint import LiveEndpoint
from tunewright.places.azure.deploy.live import State
from tunewright.places.azure.down import take_down
from tunewright.places.azure.registry import versions
from tunewright.places.rehearsal import Rehearsal
from tunewright.serve.serving import read_serving
from tunewright.spec import Spec

WORDS: tuple[Mapping[str, str], ...] = (
    {"billing": "invoice", "defect": "broken", "refund": "money"},
    {"billing": "rechnung", "defect": "kaputt", "refund": "geld"},
)
"""By what a text of each label is known, in two languages. The first alone is taught from the beginning."""


def rows(language: int, count: int, what: str) -> list[dict[str, str]]:
    return [
        {"text": f"{word} {unalike(f'{what} {label} {number}')} {word}", "label": label}
        for number in range(count) for label, word in WORDS[language].items()
    ]  # fmt: skip


def lines(found: Sequence[Mapping[str, str]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in found)


@pytest.fixture
def spec(azure: Rehearsal, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spec]:
    """A project of a linear model."""
    monkeypatch.setattr(exam, "_LOAD_SECONDS", 1.0)
    monkeypatch.setattr(trial, "_WAKE_SECONDS", 1.0)
    made = job(model="linear", traffic={"machine": "Standard_F4s_v2"}, goal={"p95_ms": 60_000.0},
               data={"train": "train.jsonl", "test": {"seen": "test.jsonl"}})  # fmt: skip
    (made.folder / "train.jsonl").write_text(lines(rows(0, 30, "taught")), "utf-8")
    tests = [row for language in range(2) for row in rows(language, 30, "asked")]
    (made.folder / "test.jsonl").write_text(lines(tests), "utf-8")
    yield made
    azure.cloud.faults.clear()
    take_down(api.standing(made))
    assert not azure.cloud.violations


def corrected(spec: Spec) -> None:
    """Three people mend what was answered in the other language."""
    labels = list(WORDS[1])
    with closing(open_store(spec)) as store, store.session() as session:
        for number, row in enumerate(rows(1, 30, "corrected")):
            wrong = labels[(labels.index(row["label"]) + 1 + number % 2) % 3]
            asked = capture(number, row["text"], wrong, model=spec.name, confidence=0.4, state="done")
            session.add_all([asked, review(asked, ("ann", "bob", "eve")[number // 3 % 3], row["label"])])


class Found:
    """What the endpoint, the registry, the project and the list of what stands say at a moment."""

    def __init__(self, spec: Spec):
        at = connect(spec)
        state = LiveEndpoint(spec, at).state()
        assert state
        self.state: State = state
        self.shares = sorted(share for share in state.shares.values())
        self.registered = {each.version: each.state for each in versions(at, f"tunewright-{spec.name}")}
        serving = read_serving(spec.folder / "runs")
        self.champion = serving.champion.bundle if serving else ""
        self.standing = [each.kind for each in api.standing(spec) if each.kind != "cluster"]
        with closing(open_store(spec)) as store, store.session() as session:
            self.events = [each.event for each in session.query(Deployment).order_by(Deployment.number)]


def test_from_corrections_to_a_canary_that_is_taken_away_and_one_that_is_promoted(
    azure: Rehearsal, spec: Spec, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.run(spec)
    api.deploy(spec, "aml", anyway=True)
    first = Found(spec)
    during: list[Found] = []
    watch = InAzure.watch

    def looked_at(*arguments: Any) -> Any:
        during.append(Found(spec))
        if len(during) == 1:  # this canary breaks once it has traffic
            fails(azure, r"POST .*\.inference\.ml\.azure\.com", 500, times=200)
        return watch(*arguments)

    monkeypatch.setattr(InAzure, "watch", looked_at)
    corrected(spec)
    typed = ["retrain", str(spec.folder), "--on", "azure", "--to", "aml", "--shadow", "0", "--canary", "20", "--json"]
    done = CliRunner().invoke(cli, typed)
    assert done.exit_code == EXIT_GATE, done.output
    told = json.loads(done.stdout)
    assert told["event"] == events.ROLLED_BACK
    assert told["sentence"].startswith("Taken away in the canary: ") and "answered nothing" in told["sentence"]
    ended(azure)
    assert [name for name in azure.runner.jobs if spec.name[:30] in name], "it was trained in a job"
    canary, after = during[0], Found(spec)
    assert canary.shares == [20, 80] and canary.state.is_canary
    assert canary.registered == after.registered == {"1": "champion", "2": "challenger"}
    assert canary.events == [events.TRAINED, events.SHADOW, events.CANARY]
    assert after.events == [*canary.events, events.ROLLED_BACK]
    assert after.state == first.state and after.champion == canary.champion != told["detail"]["bundle"]
    assert first.standing == canary.standing == after.standing == ["endpoint"]

    azure.cloud.faults.clear()
    again = api.retrain(spec, Course(0, Terms(0.2, minutes=0), anyway=True), on="azure", to="aml")
    assert again.event == events.PROMOTED and "Tried once in the canary" in again.sentence
    canary, after = during[1], Found(spec)
    assert canary.shares == [20, 80] and canary.registered == {"1": "champion", "2": "challenger"}
    assert after.state.shares == {canary.state.fresh: 100} and after.state.fresh is None
    assert after.registered == {"1": "former", "2": "champion"}
    assert after.champion == again.detail["bundle"] == told["detail"]["bundle"]
    assert after.events[4:] == [events.TRAINED, events.SHADOW, events.CANARY, events.PROMOTED]
    assert after.standing == ["endpoint"]
