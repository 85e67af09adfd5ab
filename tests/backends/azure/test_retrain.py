"""`retrain --to`: trained here or in a job, registered, a canary beside the serving version, promoted or removed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.backends.azure.conftest import IDENTITY, MakeJob, ended, fails
from tests.conftest import unalike
from tests.monitoring.captures import capture, review
from tunewright import api
from tunewright.api import On
from tunewright.azure_emulator import AzureEmulator
from tunewright.backends.azure.connection import connect
from tunewright.backends.azure.registry import versions
from tunewright.cli.app import command_line
from tunewright.config import Spec
from tunewright.core.errors import EXIT_GATE
from tunewright.deploy import exam, live_of
from tunewright.deploy.down import take_down
from tunewright.deploy.live import State
from tunewright.monitoring.retraining import events
from tunewright.monitoring.retraining.canary import CanaryTerms
from tunewright.monitoring.retraining.in_azure import InAzure
from tunewright.monitoring.retraining.run import Course
from tunewright.monitoring.store import open_store
from tunewright.monitoring.store.tables import Deployment
from tunewright.project import read_serving

cli = command_line()

WORDS: tuple[Mapping[str, str], ...] = (
    {"billing": "invoice", "defect": "broken", "refund": "money"},
    {"billing": "rechnung", "defect": "kaputt", "refund": "geld"},
)
"""The words of each label's texts, in two languages. Only the first language is trained from the beginning."""


def rows(language: int, count: int, what: str) -> list[dict[str, str]]:
    return [
        {"text": f"{word} {unalike(f'{what} {label} {number}')} {word}", "label": label}
        for number in range(count)
        for label, word in WORDS[language].items()
    ]


def lines(found: Sequence[Mapping[str, str]]) -> str:
    return "".join(f"{json.dumps(row)}\n" for row in found)


@pytest.fixture
def spec(azure: AzureEmulator, job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> Iterator[Spec]:
    """A project with a linear model, whose steps run as forks here."""
    monkeypatch.setattr(exam, "_LOAD_SECONDS", 1.0)
    monkeypatch.setattr(exam, "_WAKE_SECONDS", 1.0)
    made = job(
        azure={"identity": IDENTITY},
        model="linear",
        traffic={"machine": "Standard_F4s_v2"},
        goal={"p95_ms": 60_000.0},
        data={"train": "train.jsonl", "test": {"seen": "test.jsonl"}},
    )
    (made.folder / "train.jsonl").write_text(lines(rows(0, 30, "taught")), "utf-8")
    tests = [row for language in range(2) for row in rows(language, 30, "asked")]
    (made.folder / "test.jsonl").write_text(lines(tests), "utf-8")
    yield made
    azure.cloud.faults.clear()
    take_down(api.standing(made))
    assert not azure.cloud.violations


def corrected(spec: Spec) -> None:
    """Three people correct the answers in the other language."""
    labels = list(WORDS[1])
    with closing(open_store(spec)) as store, store.session() as session:
        for number, row in enumerate(rows(1, 30, "corrected")):
            wrong = labels[(labels.index(row["label"]) + 1 + number % 2) % 3]
            asked = capture(number, row["text"], wrong, model=spec.name, confidence=0.4, state="done")
            session.add_all([asked, review(asked, ("ann", "bob", "eve")[number // 3 % 3], row["label"])])


class Found:
    """The state of the deployment, the registry, the project and the list of resources at one moment."""

    def __init__(self, spec: Spec, to: str):
        at = connect(spec)
        state = live_of(to, spec, at).state()
        assert state
        self.state: State = state
        self.shares = sorted(share for share in state.shares.values())
        self.registered = {each.version: each.state for each in versions(at, f"tunewright-{spec.name}")}
        serving = read_serving(spec.folder / "runs")
        self.champion = serving.champion.bundle if serving else ""
        self.standing = [each.kind for each in api.standing(spec) if each.kind != "cluster"]
        with closing(open_store(spec)) as store, store.session() as session:
            self.events = [each.event for each in session.query(Deployment).order_by(Deployment.number)]


PARTS = {"aml": "endpoint", "aca": "container app", "aks": "Helm release"}
"""The kinds of a project's resources, by target."""
SHARES = {"aml": [20, 80], "aca": [20, 80], "aks": [50, 50]}
"""Traffic in Kubernetes follows the pods, and each version has one."""
SERVERS = {"aml": "inference.ml.azure.com", "aca": "azurecontainerapps.io"}


def breaks(azure: AzureEmulator, to: str) -> None:
    """The deployment answers nothing any more; in Kubernetes the canary's pods end."""
    if to == "aks":
        ((_, server),) = (served for key, served in azure.clusters._servers.items() if key[1] == "canary")
        server.close()
    else:
        fails(azure, rf"POST .*\.{re.escape(SERVERS[to])}", 500, times=200)


@pytest.mark.usefixtures("prepared_steps")
@pytest.mark.parametrize(
    ("to", "on"),
    [
        pytest.param("aml", "azure", marks=pytest.mark.nightly),
        ("aca", "local"),
        pytest.param("aks", "local", marks=pytest.mark.nightly),
    ],
)
def test_from_corrections_to_a_canary_that_is_taken_away_and_one_that_is_promoted(
    spec: Spec, azure: AzureEmulator, to: str, on: On, identity: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    who, before = identity if to == "aca" else None, set(azure.runner.jobs)
    api.run(spec)
    api.deploy(spec, to, identity=who, anyway=True)
    first = Found(spec, to)
    during: list[Found] = []
    watch = InAzure.watch

    def looked_at(*arguments: Any) -> Any:
        during.append(Found(spec, to))
        if len(during) == 1:  # this canary breaks once it has traffic
            breaks(azure, to)
        return watch(*arguments)

    monkeypatch.setattr(InAzure, "watch", looked_at)
    corrected(spec)
    typed = ["retrain", str(spec.folder), "--on", on, "--to", to, "--shadow", "0", "--canary", "20", "--json"]
    done = CliRunner().invoke(cli, [*typed, *(["--identity", str(who)] if who else [])])
    assert done.exit_code == EXIT_GATE, done.output
    told = json.loads(done.stdout)
    assert told["event"] == events.ROLLED_BACK
    assert told["sentence"].startswith("Rolled back in the canary: ") and "answered nothing" in told["sentence"]
    ended(azure)
    jobs = [name for name in azure.runner.jobs.keys() - before if spec.name[:30] in name]
    assert bool(jobs) == (on == "azure"), "trained in a job"
    canary, after = during[0], Found(spec, to)
    assert canary.shares == SHARES[to] and canary.state.is_canary
    if to == "aml":  # the others' bundles are in their images
        assert canary.registered == after.registered == {"1": "champion", "2": "challenger"}
    assert canary.events == [events.TRAINED, events.SHADOW, events.CANARY]
    assert after.events == [*canary.events, events.ROLLED_BACK]
    assert after.state == first.state and after.champion == canary.champion != told["detail"]["bundle"]
    assert first.standing == canary.standing == after.standing == [PARTS[to]]

    azure.cloud.faults.clear()
    course = Course(0, CanaryTerms(0.2, minutes=0), anyway=True)
    again = api.retrain(spec, course, on=on, to=to, identity=who)
    assert again.event == events.PROMOTED and "Tested once in the canary" in again.sentence
    canary, after = during[1], Found(spec, to)
    assert canary.shares == SHARES[to] and canary.state.is_canary
    assert after.state.shares == {canary.state.fresh: 100} and after.state.fresh is None
    if to == "aml":
        assert canary.registered == {"1": "champion", "2": "challenger"}
        assert after.registered == {"1": "former", "2": "champion"}
    assert after.champion == again.detail["bundle"] == told["detail"]["bundle"]
    assert after.events[4:] == [events.TRAINED, events.SHADOW, events.CANARY, events.PROMOTED]
    assert after.standing == [PARTS[to]]
