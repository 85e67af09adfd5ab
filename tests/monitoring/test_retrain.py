"""From a challenger to a new champion, with tiny random models behind real servers that are asked all the while.

The models are random, so the tests are made so that one of them is right: the answers that it gives are called so.
"""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.conftest import spec_data, unalike
from tests.serving.test_adapters import peft_adapter
from tunewright.config import Spec, load_spec
from tunewright.core.artifacts import atomic_folder, read_manifest
from tunewright.core.errors import UserError
from tunewright.core.processes import free_port
from tunewright.data.dataset import Dataset, save_dataset
from tunewright.data.splits.withholding import FOR_THE_GATE, Withheld, save_withheld
from tunewright.evaluation.evidence import collect as collect_answers
from tunewright.evaluation.steps import ANSWERS
from tunewright.evaluation.verdict.comparison import SERVED
from tunewright.exporters.bundle import write_bundle
from tunewright.exporters.openvino import build_openvino, export_adapter
from tunewright.inference.bundle import load_bundle, read_info, write_info
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.inference.checksums import seal
from tunewright.models.resolve import resolve
from tunewright.monitoring.retraining import events
from tunewright.monitoring.retraining.canary import CanaryTerms
from tunewright.monitoring.retraining.gate import ALL, CORRECTIONS
from tunewright.monitoring.retraining.run import Course, Parts, Retrained, retrain
from tunewright.monitoring.retraining.status import roll_back, status
from tunewright.monitoring.store import Store, open_store
from tunewright.monitoring.store.collect import collect
from tunewright.monitoring.store.tables import Capture, Deployment, SecondOpinion
from tunewright.project import Project, Traffic, read_serving, served_from, write_serving
from tunewright.serving.captures import CaptureRecord as Captured
from tunewright.serving.captures import read_captures
from tunewright.serving.engine import Engine
from tunewright.serving.presence import servers_of
from tunewright.serving.watcher import BundleWatcher
from tunewright.tasks import Example, Meta

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

LABELS = ["refund", "reform", "delivery", "defect"]
TESTED = 40
"""Test examples; with two models that never agree they are enough for the gate."""
CHAMPION, CHALLENGER = 1, 3
"""Seeds of two adapters that answer differently."""
SOON = CanaryTerms(share=0.4, captures=40, minutes=2, every=0.2)


class Bundles:
    """Bundles of random adapters, a bundle a seed, beside one base."""

    def __init__(self, base: Path, home: Path):
        self.base, self._home = base, home
        build_openvino(base, home / "weights", "int8")

    def spec(self, folder: Path) -> Spec:
        """A project that serves such bundles."""
        folder.mkdir()
        task = {"kind": "classify", "instruction": "Route: {labels}", "labels": LABELS}
        data = spec_data(
            name="tickets",
            model=str(self.base),
            task=task,
            train={"max_length": 512},
            export={"runtime": "openvino-lora"},
            goal={"p95_ms": 60_000.0},
        )
        (folder / "tunewright.yaml").write_text(json.dumps(data), "utf-8")
        return load_spec(folder)

    def write(self, spec: Spec, folder: Path, seed: int, context: int | None = None) -> None:
        peft = self._home / f"peft-{seed}"
        if not (self._home / f"adapter-{seed}").exists():
            peft_adapter(self.base, seed, 4, peft)
            export_adapter(peft, self.base, self._home / f"adapter-{seed}", "int8")
        (folder / "openvino").symlink_to(self._home / "weights", target_is_directory=True)
        shutil.copytree(self._home / f"adapter-{seed}", folder / "adapter")
        info = write_bundle(spec, resolve(spec.model, spec.folder), folder, 12)
        if context:
            write_info(folder, info.model_copy(update={"context": context}))
        save_calibration(UNCALIBRATED, folder)
        seal(folder)


@pytest.fixture(scope="module")
def bundles(make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> Bundles:
    return Bundles(make_tiny_model("llama3")[1], tmp_path_factory.mktemp("bundles"))


class Retraining:
    """A project whose pipeline makes bundles of random adapters, with all that the gate reads beside them."""

    def __init__(self, bundles: Bundles, folder: Path):
        self._bundles = bundles
        self.spec = bundles.spec(folder)
        self.runs, self.captures = folder / "runs", folder / "captures"
        self.runs.mkdir()
        self.captures.mkdir()
        self.store: Store = open_store(self.spec)
        self.pin = "corrections 1"
        (self.runs / "latest").mkdir()
        (self.runs / "latest" / "bundle").symlink_to(self.make(CHAMPION, right=CHAMPION))

    def make(self, seed: int, *, right: int, context: int | None = None, held: int = 0) -> Path:
        """A bundle and what it came from.

        Args:
            right: the seed whose answers are called right.
            context: tokens that it takes; as many as were taught by default.
            held: corrections that its data held out, as where the tests are named files.
        """
        name = f"{seed}-{right}-{context or 0}-{held}"
        folder = self.runs / f"bundle-{name}"
        if not folder.exists():
            with self._step("bundle", name) as output:
                self._bundles.write(self.spec, output.path, seed, context)
            engine = Engine.load(load_bundle(folder), 1)
            judge = Engine.load(load_bundle(self.make(right, right=right)), 1) if right != seed else engine
            texts = [unalike(f"test {number}") for number in range(TESTED)]
            tests = [Example.of(text, judge.answer(text).text, Meta(id=f"test:{n}")) for n, text in enumerate(texts)]
            with self._step("split", name) as output:
                save_dataset(output.path, Dataset([Example.of("taught", "refund", Meta(id="a"))], [], {"test": tests}))
                asked = [unalike(f"correction {number}") for number in range(held)]
                rows = [Example.of(text, judge.answer(text).text, Meta(id=text)) for text in asked]
                save_withheld(output.path, [Withheld(example, FOR_THE_GATE, "train") for example in rows])
            with self._step("parity", name, split=self._content("split", name)) as output:
                collect_answers(SERVED, engine, engine.bundle.task, {"test": tests}, output.path / ANSWERS)
            made_of = {step: self._content(step, name) for step in ("split", "parity")}
            manifest = json.loads((folder / "manifest.json").read_text())
            (folder / "manifest.json").write_text(json.dumps(manifest | {"inputs": made_of}))
        return folder

    @contextmanager
    def _step(self, step: str, name: str, **inputs: str) -> Iterator[Any]:
        with atomic_folder(
            self.runs / f"{step}-{name}",
            kind=step,
            fingerprint=name,
            spec_sha256="",
            inputs=inputs,
            seed=0,
            code_version="",
        ) as output:
            yield output

    def _content(self, step: str, name: str) -> str:
        manifest = read_manifest(self.runs / f"{step}-{name}")
        assert manifest
        return manifest.content

    def parts(self, make: Callable[[], Path], failures: list[str] | None = None) -> Parts:
        return Parts(
            latest=lambda: Project(self.spec.folder).latest_bundle(),
            collect=lambda: collect(self.spec, self.store),
            collect_corrections=lambda: self.pin,
            freeze=lambda: None,
            appraise=lambda _session, _captures: None,
            run=lambda _spec: SimpleNamespace(bundle=make(), gate_failures=failures or []),
        )

    def retrain(self, make: Callable[[], Path], course: Course | None = None) -> Retrained:
        return retrain(self.spec, self.store, self.runs, self.parts(make), course or Course(0, None))

    @property
    def events(self) -> list[str]:
        with self.store.session() as session:
            return [each.event for each in session.query(Deployment).order_by(Deployment.number)]

    @contextmanager
    def served(self) -> Iterator[str]:
        """The project's own server, as a user starts it; its address."""
        port = free_port()
        command = [
            str(Path(sys.executable).with_name("tunewright")),
            "serve",
            str(self.spec.folder),
            "--port",
            str(port),
            "--captures",
            str(self.captures),
            "--threads",
            "1",
        ]
        address = f"http://127.0.0.1:{port}"
        with (self.runs / "log").open("w") as log, subprocess.Popen(command, stderr=log) as server:
            try:
                self.wait(lambda: _is_ready(address) or server.poll())
                assert server.poll() is None, (self.runs / "log").read_text()
                yield address
            finally:
                server.terminate()

    def wait(self, until: Callable[[], Any]) -> None:
        deadline = time.monotonic() + 60
        while not until():
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _is_ready(address: str) -> bool:
    try:
        return httpx.get(f"{address}/ready").is_success
    except httpx.TransportError:
        return False


@contextmanager
def asked(address: str, length: int = 0) -> Iterator[list[int]]:
    """A server, asked by three all the while: the status of every answer.

    Args:
        length: of each text, in letters, where it is to be long.
    """
    stop, found = threading.Event(), list[int]()

    def ask_on(seed: int) -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            number = 0
            while not stop.is_set():
                number += 1
                text = unalike(f"live {seed} {number}").ljust(length, ".")
                found.append(client.post("/v1/classify", json={"text": text}).status_code)

    with ExitStack() as stack:
        clients = [threading.Thread(target=ask_on, args=(seed,)) for seed in range(3)]
        for asker in clients:
            asker.start()
            stack.callback(asker.join)
        stack.callback(stop.set)
        yield found


@pytest.fixture
def project(bundles: Bundles, tmp_path: Path) -> Iterator[Retraining]:
    made = Retraining(bundles, tmp_path / "project")
    yield made
    made.store.close()


def better(project: Retraining) -> Path:
    return project.make(CHALLENGER, right=CHALLENGER)


def test_a_better_model_is_promoted_under_load_without_a_failed_request(project: Retraining) -> None:
    old = read_info(project.make(CHAMPION, right=CHAMPION)).version
    new = read_info(better(project)).version
    with project.served() as address, asked(address) as statuses:
        project.wait(lambda: len(statuses) >= 30)
        found = project.retrain(lambda: better(project), Course(20, SOON))
        assert found.event == events.PROMOTED, found.sentence
        project.wait(lambda: {each.champion for each in servers_of(project.runs)} == {new})
        seen = len(statuses)
        project.wait(lambda: len(statuses) >= seen + 20)
    assert set(statuses) == {200}
    assert project.events == [events.TRAINED, events.SHADOW, events.CANARY, events.PROMOTED]
    assert found.champion == found.challenger == new
    serving = read_serving(project.runs)
    assert serving and [serving.champion.version, *(each.version for each in serving.former)] == [new, old]

    collect(project.spec, project.store)
    with project.store.session() as session:
        versions = [each.version for each in session.query(Capture).order_by(Capture.time)]
        assert session.query(SecondOpinion).filter_by(source=new).count() == 20
    assert versions[:20] == [old] * 20
    assert set(versions[-15:]) == {new}
    # Between the first and the last answer of both, the share is that of the canary, as far as chance goes.
    during = versions[versions.index(new) : len(versions) - versions[::-1].index(old)]
    share, spread = during.count(new) / len(during), (SOON.share * (1 - SOON.share) / len(during)) ** 0.5
    assert abs(share - SOON.share) < 4 * spread, Counter(during)

    assert roll_back(project.spec, project.store, project.runs)[1].version == old
    assert status(project.spec, project.store, project.runs).history[0].event == events.ROLLED_BACK
    with pytest.raises(UserError, match="no previous champion"):
        roll_back(project.spec, project.store, project.runs)


def test_a_challenger_that_fails_on_live_requests_is_taken_away_and_nobody_notices(project: Retraining) -> None:
    """It takes shorter texts than the champion, which the tests did not show."""
    old = read_info(project.make(CHAMPION, right=CHAMPION)).version
    short = project.make(CHALLENGER, right=CHALLENGER, context=200)
    with project.served() as address, asked(address, length=150) as statuses:
        project.wait(lambda: len(statuses) >= 5)
        found = project.retrain(lambda: short, Course(0, SOON))
    assert found.event == events.ROLLED_BACK
    assert "it could not answer" in found.sentence
    assert set(statuses) == {200}
    assert {each.version for each in read_captures(project.captures) if isinstance(each, Captured)} == {old}
    serving = read_serving(project.runs)
    assert serving and (serving.champion.version, serving.challenger) == (old, None)


def test_a_challenger_that_cannot_be_loaded_is_taken_away_and_a_broken_file_changes_nothing(
    project: Retraining,
) -> None:
    damaged = better(project)
    weights = damaged / "openvino"
    whole = weights.resolve()
    weights.unlink()
    shutil.copytree(whole, weights)
    file = max(weights.iterdir(), key=lambda each: each.stat().st_size)
    file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:])
    with project.served() as address:

        def answers() -> bool:
            return httpx.post(f"{address}/v1/classify", json={"text": "a"}, timeout=60).is_success

        found = project.retrain(lambda: damaged, Course(0, SOON))
        assert found.event == events.ROLLED_BACK
        assert found.sentence.startswith("Rolled back in the canary: ")
        assert answers()
        (project.runs / "serving.json").write_text("{")
        project.wait(lambda: "the old one goes on" in (project.runs / "log").read_text())
        assert answers()
        assert "can't be loaded; the champion answers everything" in (project.runs / "log").read_text()
    assert servers_of(project.runs) == [], "a server that ended takes its sign of life away"


def test_two_bundles_are_loaded_only_while_one_is_on_trial(project: Retraining) -> None:
    """And none is loaded twice: who was on trial serves on, who served is let go."""
    old, new = project.make(CHAMPION, right=CHAMPION), better(project)
    serving = served_from(old.name, "old")
    watcher = BundleWatcher(
        lambda: Project(project.runs.parent).traffic() if (project.runs / "serving.json").exists() else Traffic(old),
        Engine.load(load_bundle(old), 1),
        project.runs,
        1,
    )
    try:
        watcher.start("here")
        models, first = watcher.models, weakref.ref(watcher.models.champion)
        write_serving(project.runs, serving.trying(new.name, "new", 0.5))
        project.wait(lambda: models.trial)
        assert models.trial and models.champion is first()
        second = weakref.ref(models.trial.engine)
        write_serving(project.runs, serving.promoted(new.name, "new"))
        project.wait(lambda: models.champion is second() and not models.trial)
        project.wait(lambda: gc.collect() >= 0 and first() is None)
    finally:
        watcher.end()


class Killed(BaseException):
    """In place of a signal: whatever is under way ends here."""


def test_killed_at_each_stage_it_goes_on_from_there(project: Retraining, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after each note of the store, and in the training."""
    with project.served() as address:
        for number in range(5):
            httpx.post(f"{address}/v1/classify", json={"text": f"text {number}"}, timeout=60).raise_for_status()
        write, course = events.record, Course(5, CanaryTerms(0.3, captures=4, minutes=2, every=0.1))

        def killed(run: Callable[[], object]) -> None:
            with pytest.raises(Killed):
                run()

        def in_training() -> Path:
            raise Killed

        killed(lambda: project.retrain(in_training, course))
        for event in (events.TRAINED, events.SHADOW, events.CANARY, events.PROMOTED):
            for after in (False, True):

                def record(*arguments: Any, event: str = event, after: bool = after) -> Deployment:
                    row = write(*arguments) if after or arguments[3] != event else None
                    if arguments[3] == event:
                        raise Killed
                    assert row
                    return row

                monkeypatch.setattr(events, "record", record)
                # Only a canary is asked, so that the shadow finds the same five requests each time.
                with asked(address) if event == events.PROMOTED else nullcontext():
                    killed(lambda: project.retrain(lambda: better(project), course))
                monkeypatch.undo()
        stages = [events.TRAINED, events.SHADOW, events.CANARY, events.PROMOTED]
        assert project.events == stages
        with project.store.session() as session:
            assert session.query(SecondOpinion).count() == 5
    again = project.retrain(lambda: better(project), course)
    assert (again.event, again.challenger) == (None, None)
    assert "nothing new to learn" in again.sentence
    assert project.events == stages
    serving = read_serving(project.runs)
    assert serving and serving.champion.version == read_info(better(project)).version


def test_a_worse_model_is_refused_and_changes_nothing(project: Retraining) -> None:
    old = read_info(project.make(CHAMPION, right=CHAMPION)).version
    found = project.retrain(lambda: project.make(CHALLENGER, right=CHAMPION))
    assert (found.event, found.champion) == (events.REFUSED, old)
    assert "it is worse on all tests" in found.sentence
    assert project.events == [events.REFUSED]
    assert project.retrain(lambda: better(project)).event is None, "the same corrections are not learnt twice"
    same = project.retrain(lambda: project.make(CHAMPION, right=CHAMPION), Course(0, None, anyway=True))
    assert "the model that already serves" in same.sentence


def test_a_test_that_is_too_long_for_the_champion_counts_against_it(project: Retraining) -> None:
    champion = project.make(CHAMPION, right=CHAMPION)
    write_info(champion, read_info(champion).model_copy(update={"context": 100}))
    found = project.retrain(lambda: better(project))
    assert found.event == events.PROMOTED
    assert found.detail["decision"]["parts"][0]["champion"] == 0


def test_where_tests_are_named_files_both_are_asked_the_corrections_that_were_held_out(project: Retraining) -> None:
    found = project.retrain(lambda: project.make(CHALLENGER, right=CHALLENGER, held=20))
    assert found.event == events.PROMOTED
    tests = {part["name"]: part for part in found.detail["decision"]["parts"] if part["kind"] == "test"}
    assert (tests[ALL]["count"], tests[CORRECTIONS]["count"]) == (TESTED + 20, 20)
    assert tests[CORRECTIONS]["challenger"] == 1 > tests[CORRECTIONS]["champion"]


def test_without_a_server_the_file_is_all_that_changes(project: Retraining) -> None:
    found = project.retrain(lambda: better(project), Course(10, SOON))
    assert found.sentence == "Promoted without a canary, because no server is running."
    assert project.events == [events.TRAINED, events.SHADOW, events.PROMOTED]


def test_two_retrainings_do_not_run_at_once(project: Retraining) -> None:
    def second() -> Path:
        with pytest.raises(UserError, match="works in this folder"):
            project.retrain(lambda: better(project))
        return better(project)

    assert project.retrain(second).event == events.PROMOTED
