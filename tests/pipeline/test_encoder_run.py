"""The ticket example on a tiny random encoder, from data to the running server: how well it routes is not the point."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

import tunewright as tw
from tests.conftest import copied_example, tunewright, wait_for_checkpoint, whole_run, write_project
from tests.fixtures.encoders import WINDOW, write_encoder
from tunewright.core.artifacts import read_jsonl
from tunewright.core.errors import EXIT_GATE, EXIT_USER
from tunewright.inference.bundle import load_bundle

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

SMALL = [
    "train.max_steps=3",
    "train.num_evaluations=1",
    "train.num_checkpoints=0",
    "evaluate.max_examples=3",
    "export.max_disagreement=0.9",
    "export.max_accuracy_drop=0.9",
]
READS = 320
"""Tokens that the encoder of the run reads: a byte of a ticket is one."""


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """(the folder `runs/latest` of a whole run, its report)."""
    folder = tmp_path_factory.mktemp("encoder")
    model = write_encoder("bert", folder / "bert", READS)
    return whole_run(copied_example("tickets", folder), f"model={model}", *SMALL)


def test_the_candidates_are_those_of_an_encoder(done: tuple[Path, dict[str, Any]]) -> None:
    latest, report = done
    measured = {file.stem for file in (latest / "evaluate" / "answers").glob("*.jsonl")}
    assert {"encoder", "exported", "majority", "svm"} <= measured
    assert not measured & {"few_shot", "adapter", "merged"}
    candidates = set(report["comparison"]["candidates"])
    assert {"encoder", "exported", "served"} <= candidates
    assert not candidates & {"few_shot", "adapter", "merged"}


def test_parity_passed_from_the_trained_one_to_the_served_one(done: tuple[Path, dict[str, Any]]) -> None:
    parity = done[1]["parity"]
    assert parity["passed"]
    assert [link["candidate"] for link in parity["chain"]] == ["encoder", "exported", "served"]
    exported, served = parity["chain"][1:]
    assert (served["agreement"], served["primary_metric"]) == (exported["agreement"], exported["primary_metric"])


def test_the_served_answers_are_those_of_the_exported_model(latest: Path) -> None:
    exported = {row["id"]: row for row in read_jsonl(latest / "evaluate" / "answers" / "exported.jsonl")}
    served = {row["id"]: row for row in read_jsonl(latest / "parity" / "answers" / "served.jsonl")}
    shared = exported.keys() & served.keys()
    assert len(shared) >= 6
    for key in shared:
        assert served[key]["answer"] == exported[key]["answer"]
        assert served[key]["confidence"] == pytest.approx(exported[key]["confidence"], abs=1e-6)


def test_the_bundle_has_what_an_encoder_needs_and_no_template(latest: Path) -> None:
    bundle = load_bundle(latest / "bundle")
    assert bundle.is_classifier
    assert bundle.info.context == READS
    assert (bundle.info.longest_answer, bundle.info.template_sha256) == (0, None)
    assert not (latest / "bundle" / "chat_template.jinja").exists()
    assert not (latest / "export" / "merged").exists()


def test_the_record_of_the_training_says_what_was_read(latest: Path) -> None:
    audit = (latest / "train" / "audit.txt").read_text("utf-8")
    assert audit.startswith("[CLS]")
    assert "texts have up to 259 tokens" in audit
    assert "a text's vector is the mean of its tokens'" in audit
    assert [row["step"] for row in read_jsonl(latest / "train" / "curve.jsonl") if "loss" in row] == [1, 2, 3]
    assert (latest / "train" / "diagnosis.json").exists()
    assert not (latest / "train" / "checkpoints").exists()


def test_a_client_of_openais_gets_a_label(server: str, latest: Path) -> None:
    said = {"model": "tickets", "messages": [{"role": "user", "content": "Where is my parcel?"}]}
    chat = httpx.post(f"{server}/v1/chat/completions", json=said, timeout=60).json()
    assert chat["choices"][0]["message"]["content"] in load_bundle(latest / "bundle").task.answers
    assert chat["choices"][0]["finish_reason"] == "stop"
    assert chat["usage"]["prompt_tokens"] == len("Where is my parcel?") + 2


def test_a_client_of_openais_can_have_it_streamed(server: str) -> None:
    said = {"model": "tickets", "messages": [{"role": "user", "content": "Where is my parcel?"}]}
    whole = httpx.post(f"{server}/v1/chat/completions", json=said, timeout=60).json()
    streamed = httpx.post(f"{server}/v1/chat/completions", json=said | {"stream": True}, timeout=60).text
    events = [line.removeprefix("data: ") for line in streamed.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    deltas = [json.loads(event)["choices"] for event in events[:-1]]
    text = "".join(choices[0]["delta"].get("content") or "" for choices in deltas if choices)
    assert text == whole["choices"][0]["message"]["content"]


def test_the_plain_route_tells_the_probability_of_every_label(server: str, latest: Path) -> None:
    asked = {"text": "Where is my parcel?", "probabilities": True}
    plain = httpx.post(f"{server}/v1/classify", json=asked, timeout=60).json()
    assert list(plain["probabilities"]) == list(load_bundle(latest / "bundle").task.answers)
    assert sum(plain["probabilities"].values()) == pytest.approx(1)
    assert plain["label"] == max(plain["probabilities"], key=plain["probabilities"].__getitem__)
    assert plain["confidence"] == pytest.approx(plain["probabilities"][plain["label"]])


def test_a_batch_answers_as_the_server_does_and_refuses_what_it_refuses(
    server: str, latest: Path, tmp_path: Path
) -> None:
    texts = [row["text"] for row in read_jsonl(latest.parents[1] / "data" / "test_unseen_phrasing.jsonl")[:40]]
    texts[7] = "x" * (READS - 2)
    texts[11] = "x" * (READS - 1)
    lines = [*(json.dumps({"id": n, "text": text}) for n, text in enumerate(texts)), "no json"]
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    done = tunewright("batch", str(latest / "bundle"), str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert done.returncode == EXIT_GATE, "two lines were refused"
    found = read_jsonl(tmp_path / "out.jsonl")
    assert len(found) == 41
    for number, (row, text) in enumerate(zip(found, texts, strict=False)):
        assert row["id"] == number
        answer = httpx.post(f"{server}/v1/classify", json={"text": text}, timeout=60)
        if number == 11:
            assert answer.status_code == 400
            refused = row["error"]
            assert refused["code"] == "context_length_exceeded"
            assert f"The request has {READS + 1} tokens, this model takes {READS}." in refused["message"]
            assert answer.json()["error"]["code"] == "context_length_exceeded"
            assert f"{READS + 1} tokens" in answer.json()["error"]["message"]
        else:
            assert answer.status_code == 200
            told = answer.json()
            assert (row["label"], row["confidence"]) == (told["label"], told["confidence"])
    assert found[40]["error"]["code"] == "invalid_json"


def test_a_batch_of_which_no_line_can_be_answered_ends(latest: Path, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text("no json\n" + json.dumps({"text": "x" * READS}) + "\n", "utf-8")
    done = tunewright("batch", str(latest / "bundle"), str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert done.returncode == EXIT_GATE, done.stderr
    codes = [row["error"]["code"] for row in read_jsonl(tmp_path / "out.jsonl")]
    assert codes == ["invalid_json", "context_length_exceeded"]


def test_a_text_that_is_too_long_is_found_before_training_and_its_tokens_are_told(tmp_path: Path) -> None:
    """One token more than it reads."""
    project = write_project(tmp_path / "project", model=str(write_encoder("bert", tmp_path / "bert")))
    with (project / "train.jsonl").open("a", encoding="utf-8") as stream:
        for number in range(2):
            text = f"{number} refund ".ljust(WINDOW - 2 + number, "z")
            stream.write(json.dumps({"text": text, "label": "refund"}) + "\n")
    done = tunewright("train", str(project), *SMALL[:3])
    assert done.returncode == EXIT_USER
    assert "D020 train: 1 rows are longer than the 64 tokens that the encoder reads" in done.stderr
    assert "the longest has at most 128" in done.stderr
    assert not list(project.glob("runs/train-*"))


def test_a_limit_of_the_spec_below_the_encoders_is_kept(tmp_path: Path) -> None:
    train = {"max_length": 50, "max_steps": 1}
    model = str(write_encoder("bert", tmp_path / "bert"))
    project = write_project(tmp_path / "project", model=model, train=train)
    with (project / "train.jsonl").open("a", encoding="utf-8") as stream:
        stream.write(json.dumps({"text": "refund ".ljust(49, "z"), "label": "refund"}) + "\n")
    done = tunewright("train", str(project))
    assert done.returncode == EXIT_USER
    assert "D020 train: 1 rows are longer than train.max_length = 50 tokens" in done.stderr


@pytest.mark.parametrize("command", ["run", "train"])
def test_a_task_that_writes_is_refused_before_anything_is_done(command: str, tmp_path: Path) -> None:
    model = write_encoder("bert", tmp_path / "bert")
    task = {"kind": "generate", "instruction": "Reply."}
    project = write_project(tmp_path / "project", model=str(model), task=task)
    done = tunewright(command, str(project))
    assert done.returncode == EXIT_USER
    assert "is an encoder, and this task is generate: an encoder chooses a label, and can't write." in done.stderr
    assert "Choose a model that writes: tunewright models ls" in done.stderr
    assert not (project / "runs").exists() or not list((project / "runs").iterdir())


def test_the_catalogues_encoder_is_refused_without_being_fetched(tmp_path: Path) -> None:
    task = {"kind": "generate", "instruction": "Reply."}
    project = write_project(tmp_path / "project", model="all-minilm", task=task)
    done = tunewright("run", str(project), TUNEWRIGHT_CACHE=str(tmp_path / "cache"))
    assert done.returncode == EXIT_USER
    assert "all-minilm is an encoder, and this task is generate" in done.stderr
    assert not (tmp_path / "cache").exists()


def test_a_killed_training_resumes_and_ends_as_if_never_killed(tmp_path: Path) -> None:
    """It drops out, and is killed in the middle of an epoch."""
    project = write_project(tmp_path / "project", model=str(write_encoder("bert", tmp_path / "bert", 128)))
    same = [
        "train.max_steps=100",
        "train.encoder.epochs=12",
        "train.num_checkpoints=24",
        "train.num_evaluations=3",
        "train.encoder.batch_size=8",
        "train.precision=float32",
    ]
    command = [str(Path(sys.executable).with_name("tunewright")), "train", str(project), *same]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_for_checkpoint(process, project, "runs/.train-*.partial/checkpoints/member-0/checkpoint-*")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list(project.glob("runs/train-*")), "a half-written output must not be taken for whole"
    resumed = tunewright("train", str(project), *same, "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert "resuming from member-0/checkpoint-" in resumed.stderr
    straight = tunewright("train", str(project), *same, "--runs", str(tmp_path / "straight"))
    assert straight.returncode == 0, straight.stderr
    first, second = next(project.glob("runs/train-*")), next(tmp_path.glob("straight/train-*"))
    assert (first / "curve.jsonl").read_bytes() == (second / "curve.jsonl").read_bytes()
    for file in ("model.safetensors", "head.safetensors"):
        assert (first / "encoder" / file).read_bytes() == (second / "encoder" / file).read_bytes()


def test_what_was_trained_is_served_by_onnx_runtime_too(latest: Path, tmp_path: Path) -> None:
    """The same project, exported for the other runtime: a batch and a single request give the same there."""
    from tunewright.serving.engine import Engine

    model = latest.parents[2] / "bert"
    project = Path(shutil.copytree(latest.parents[1], tmp_path / "tickets", symlinks=True))
    spec = tw.load_spec(project, [f"model={model}", *SMALL, "export.runtime=onnxruntime"])
    bundle = load_bundle(tw.export(spec) / "bundle")
    assert bundle.info.runtime == "onnxruntime-encoder"
    engine = Engine.load(bundle, threads=1)
    texts = [row["text"] for row in read_jsonl(project / "data" / "test_unseen_phrasing.jsonl")[:60]]
    texts[3:5] = [text.ljust(70, ".")[:70] for text in texts[3:5]]
    assert engine.answers(texts) == [engine.answer(text) for text in texts]
