"""The bundle that serves: `serving.json`, the share of a challenger, and the failures of a challenger."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.conftest import TOKENIZER, make_spec, write_project
from tests.serving.test_app import Echo
from tunewright import api
from tunewright.core.errors import UserError
from tunewright.inference.bundle import BundleInfo, write_info
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.inference.predictors import Answer, GenerationConfig, Pieces
from tunewright.project import (
    SERVING,
    Project,
    Serving,
    Traffic,
    falls_to_challenger,
    read_serving,
    served_from,
    write_serving,
)
from tunewright.serving import server
from tunewright.serving.app import build_app
from tunewright.serving.captures import CaptureRecord, RequestLog, read_captures
from tunewright.serving.hosts import MOST_FAILURES, ChallengerShare, OneModel
from tunewright.serving.presence import Presence, Sign, now, servers_of
from tunewright.tasks import ClassifyTask


def test_serving_json_names_the_champion_and_the_former_ones(tmp_path: Path) -> None:
    assert read_serving(tmp_path) is None
    first = served_from("bundle-1", "one")
    write_serving(tmp_path, first.trying("bundle-2", "two", 0.1))
    assert Project(tmp_path.parent, tmp_path).traffic() == Traffic(tmp_path / "bundle-1", tmp_path / "bundle-2", 0.1)
    write_serving(tmp_path, first.promoted("bundle-2", "two").promoted("bundle-3", "three"))
    found = read_serving(tmp_path)
    assert found
    assert [each.version for each in (found.champion, *found.former)] == ["three", "two", "one"]
    assert Project(tmp_path.parent, tmp_path).traffic() == Traffic(tmp_path / "bundle-3")
    assert [path.name for path in tmp_path.iterdir()] == [SERVING], "nothing is left beside it"


def test_rolling_back_twice_leads_to_the_one_before_both() -> None:
    serving: Serving | None = served_from("bundle-1", "one").promoted("bundle-2", "two").promoted("bundle-3", "three")
    versions = []
    while serving:
        versions.append(serving.champion.version)
        serving = serving.rolled_back()
    assert versions == ["three", "two", "one"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"champion": {}}', '{"champion": null}'])
def test_a_broken_serving_json_is_refused_with_a_fix(text: str, tmp_path: Path) -> None:
    (tmp_path / SERVING).write_text(text)
    with pytest.raises(UserError, match=r"does not say what serves.*Remove it to serve the latest bundle"):
        read_serving(tmp_path)


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_share_of_none_or_all_is_refused(share: float, tmp_path: Path) -> None:
    serving = json.loads(served_from("bundle-1", "one").trying("bundle-2", "two", 0.5).model_dump_json())
    serving["challenger"]["share"] = share
    (tmp_path / SERVING).write_text(json.dumps(serving))
    with pytest.raises(UserError, match=r"challenger\.share"):
        read_serving(tmp_path)


def test_a_reader_gets_a_whole_file_while_it_is_written(tmp_path: Path) -> None:
    first = served_from("bundle-1", "one")
    write_serving(tmp_path, first)
    stop, found = threading.Event(), set()

    def read_on() -> None:
        while not stop.is_set():
            serving = read_serving(tmp_path)
            found.add(serving.champion.version if serving else None)

    reader = threading.Thread(target=read_on)
    reader.start()
    for _ in range(60):
        write_serving(tmp_path, first.promoted("bundle-2", "two"))
        write_serving(tmp_path, first)
    stop.set()
    reader.join()
    assert found <= {"one", "two"}


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_text_alone_decides_who_answers(share: float) -> None:
    texts = [f"request {number}" for number in range(20_000)]
    taken = [falls_to_challenger(text, "v2", share) for text in texts]
    spread = (share * (1 - share) / len(texts)) ** 0.5
    assert abs(sum(taken) / len(texts) - share) < 4 * spread
    assert taken == [falls_to_challenger(text, "v2", share) for text in texts]
    both = sum(one and falls_to_challenger(text, "v3", share) for one, text in zip(taken, texts, strict=True))
    assert abs(both / len(texts) - share**2) < 4 * (share**2 / len(texts)) ** 0.5, "another one gets other texts"


def test_a_project_serves_its_champion_rather_than_its_latest_bundle(tmp_path: Path) -> None:
    project = write_project(tmp_path / "p")
    with pytest.raises(UserError, match="no bundle yet"):
        api.traffic_of(project)
    (project / "runs").mkdir()
    write_serving(project / "runs", served_from("bundle-1", "one"))
    assert api.traffic_of(project) == Traffic(project / "runs" / "bundle-1")
    assert api.bundle_of(project) == project / "runs" / "bundle-1"
    assert not Project.is_one(tmp_path)


@pytest.mark.parametrize("mounted", ["", "alone", "tunewright-tickets/3", "tunewright-tickets/3/abc"])
def test_a_bundle_is_found_where_azure_mounts_it(mounted: str, tmp_path: Path) -> None:
    bundle = tmp_path / mounted
    bundle.mkdir(parents=True, exist_ok=True)
    (tmp_path / ".lock").mkdir(exist_ok=True)
    for inside in (bundle, bundle / "second"):
        inside.mkdir(exist_ok=True)
        (inside / "bundle.json").write_text("{}", "utf-8")
    assert api.bundle_of(tmp_path) == bundle


def test_a_folder_of_two_bundles_is_no_bundle(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / "models" / name).mkdir(parents=True)
        (tmp_path / "models" / name / "bundle.json").write_text("{}", "utf-8")
    assert api.bundle_of(tmp_path) == tmp_path


def test_a_silent_server_does_not_count_as_running(tmp_path: Path) -> None:
    assert servers_of(tmp_path) == []
    sign = Sign(tmp_path)
    alive = Presence(time=now(), address="http://a", champion="one")
    sign.give(alive)
    assert servers_of(tmp_path) == [alive]
    sign.give(alive.model_copy(update={"time": now() - timedelta(minutes=2)}))
    assert servers_of(tmp_path) == []
    sign.give(alive.model_copy(update={"time": now() - timedelta(days=2)}))
    assert servers_of(tmp_path) == []
    assert not any((tmp_path / "servers").iterdir()), "what a killed one left goes after a day"
    (tmp_path / "servers" / "x.json").write_text("{")
    sign.give(alive)
    sign.take_away()
    assert servers_of(tmp_path) == []


class Version(Echo):
    """An engine that answers with its own version, or fails."""

    def __init__(self, kind: str, version: str, error: Exception | None = None):
        super().__init__(kind)
        self.error = error
        self.bundle = SimpleNamespace(
            info=SimpleNamespace(**{**vars(Echo.bundle.info), "version": version}),
            flags=Echo.bundle.flags,
            task=ClassifyTask("Which?", {"one": "", "two": ""}),
        )

    def answer(self, text: str) -> Answer:
        if self.error:
            raise self.error
        version = self.bundle.info.version
        return super().answer(version if self.kind == "classify" else f"{version}: {text}")

    def stream(self, text: str, generation_config: GenerationConfig) -> Pieces:
        yield self.bundle.info.version
        if self.error:
            raise self.error
        yield from super().stream(text, generation_config)


Client = Callable[..., TestClient]


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Callable[[ChallengerShare | None], TestClient]]:
    """A trial -> a client of a server that runs it and keeps its captures in `tmp_path`."""
    opened = []

    def make(trial: ChallengerShare | None, kind: str = "classify") -> TestClient:
        models = OneModel(Version(kind, "one"))
        models.serve(models.champion, trial)
        opened.append(TestClient(build_app(models, request_log=RequestLog(tmp_path))))
        return opened[-1].__enter__()

    yield make
    for client in opened:
        client.__exit__(None, None, None)


def trial(error: Exception | None = None, kind: str = "classify", share: float = 0.5) -> ChallengerShare:
    return ChallengerShare(Version(kind, "two", error), share)


def labels(client: TestClient, texts: list[str]) -> list[str]:
    answers = [client.post("/v1/classify", json={"text": text}) for text in texts]
    assert all(answer.status_code == 200 for answer in answers)
    return [str(answer.json()["label"]) for answer in answers]


TEXTS = [f"ticket {number}" for number in range(80)]


@pytest.mark.slow
def test_captures_and_metrics_have_the_version_that_answered(
    serving: Callable[[ChallengerShare | None], TestClient], tmp_path: Path
) -> None:
    client = serving(trial())
    found = labels(client, TEXTS)
    assert found == ["two" if falls_to_challenger(text, "two", 0.5) else "one" for text in TEXTS]
    assert labels(client, TEXTS) == found, "who asks again is answered by the same one"
    kept = [each for each in read_captures(tmp_path) if isinstance(each, CaptureRecord)]
    assert [each.version for each in kept] == found * 2
    metrics = client.get("/metrics").text
    assert f'tunewright_confidence_count{{model="echo",version="two"}} {2.0 * found.count("two")}' in metrics


@pytest.mark.slow
@pytest.mark.parametrize("error", [RuntimeError("secret text"), MemoryError(), ZeroDivisionError()])
def test_the_champion_answers_when_the_challenger_fails(
    error: Exception,
    serving: Callable[[ChallengerShare | None], TestClient],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    running = trial(error)
    client = serving(running)
    assert set(labels(client, TEXTS)) == {"one"}
    assert running.failed == MOST_FAILURES == running.requests, "after so many it gets no more requests"
    assert {each.version for each in read_captures(tmp_path) if isinstance(each, CaptureRecord)} == {"one"}
    assert f'tunewright_challenger_failed_total{{version="two"}} {MOST_FAILURES}.0' in client.get("/metrics").text
    log = capsys.readouterr().err
    assert log.count("could not answer") == MOST_FAILURES
    assert "gets no more requests" in log
    assert "secret" not in log


def streamed(client: TestClient, text: str) -> list[Any]:
    body = {"model": "echo", "messages": [{"role": "user", "content": text}], "stream": True}
    lines = client.post("/v1/chat/completions", json=body).text.strip().split("\n\n")
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]


def test_the_champion_streams_when_the_challenger_fails_before_its_first_piece(
    serving: Callable[..., TestClient],
) -> None:
    class Speechless(Version):
        def stream(self, text: str, generation_config: GenerationConfig) -> Pieces:  # noqa: ARG002 (the engine's own)
            raise RuntimeError
            yield ""

    running = ChallengerShare(Speechless("generate", "two"), 0.999)
    events = streamed(serving(running, "generate"), "hello")
    assert events[1]["choices"][0]["delta"]["content"] == "one"
    assert running.failed == 1
    assert streamed(serving(trial(kind="generate", share=0.999), "generate"), "hello")[1]["choices"][0]["delta"] == {
        "content": "two"
    }


def test_an_invalid_request_is_no_fault_of_the_challenger(
    serving: Callable[[ChallengerShare | None], TestClient],
) -> None:
    running = trial(RuntimeError())
    client = serving(running)
    assert client.post("/v1/classify", json={"text": ""}).status_code == 400
    assert client.post("/v1/extract", json={"text": "a"}).status_code == 404
    assert running.failed == running.requests == 0


def test_without_a_trial_nothing_changes(serving: Callable[[ChallengerShare | None], TestClient]) -> None:
    assert set(labels(serving(None), TEXTS[:5])) == {"one"}


def encoder_bundle(folder: Path) -> Path:
    """An encoder's bundle without weights."""
    info = BundleInfo(
        name="tickets",
        base_model="bert",
        runtime="openvino-encoder",
        precision="int8",
        task=make_spec().task,
        longest_answer=0,
        answer_lead="",
        version="v",
        context=512,
        template_sha256=None,
    )
    folder.mkdir()
    write_info(folder, info)
    save_calibration(UNCALIBRATED, folder)
    shutil.copy(TOKENIZER / "tokenizer.json", folder)
    return folder


@pytest.mark.parametrize(
    ("engine", "reason"), [("vllm", "vLLM serves no encoders"), ("onnxruntime", "export.runtime=")]
)
def test_an_image_for_another_engine_does_not_serve_an_encoder(engine: str, reason: str, tmp_path: Path) -> None:
    found = Traffic(encoder_bundle(tmp_path / "bundle"))
    with pytest.raises(UserError, match=rf"runs in openvino-encoder.*{reason}"):
        server.serve(lambda: found, "127.0.0.1", 0, limits=server.Limits(engine=engine))
