"""The ticket example with a linear model, from data to the running server: nothing of it is played."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import copied_example, tunewright, whole_run
from tunewright import api, load_spec
from tunewright.core.artifacts import read_jsonl
from tunewright.core.errors import EXIT_USER, UserError
from tunewright.inference.bundle import load_bundle

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """(the folder `runs/latest` of a whole run, its report)."""
    project = copied_example("tickets", tmp_path_factory.mktemp("linear"))
    return whole_run(project, "model=linear", "evaluate.max_examples=60")


def test_it_is_fitted_exported_and_served_as_one(done: tuple[Path, dict[str, Any]]) -> None:
    parity = done[1]["parity"]
    assert [link["candidate"] for link in parity["chain"]] == ["linear", "exported", "served"]
    assert {link["agreement"] for link in parity["chain"]} == {1.0}
    assert parity["passed"]


def test_it_knows_something(done: tuple[Path, dict[str, Any]]) -> None:
    scores = done[1]["comparison"]["candidates"]["served"]["scores"]
    assert scores["seen"]["primary_metric"]["value"] > 0.7


def test_the_sentence_names_it(done: tuple[Path, dict[str, Any]]) -> None:
    assert "the linear model is right on" in done[1]["verdict"]["sentence"]


def test_the_server_gives_a_label_and_the_probability_of_every_label(server: str, latest: Path) -> None:
    labels = load_bundle(latest / "bundle").task.answers
    asked = {"text": "Where is my parcel?", "probabilities": True}
    plain = httpx.post(f"{server}/v1/classify", json=asked, timeout=60).json()
    assert list(plain["probabilities"]) == labels
    assert sum(plain["probabilities"].values()) == pytest.approx(1)
    said = {"model": "tickets", "messages": [{"role": "user", "content": "Where is my parcel?"}]}
    chat = httpx.post(f"{server}/v1/chat/completions", json=said, timeout=60).json()
    assert chat["choices"][0]["message"]["content"] == plain["label"] == "delivery"


@pytest.mark.parametrize("text", ["", "🙂", "?!", "x" * 100_000])
def test_a_text_without_a_known_word_is_answered_too(server: str, latest: Path, text: str) -> None:
    found = httpx.post(f"{server}/v1/classify", json={"text": text}, timeout=60)
    if not text:
        assert found.status_code == 400
        return
    assert found.json()["label"] in load_bundle(latest / "bundle").task.answers


def test_a_batch_answers_as_the_server_does(server: str, latest: Path, tmp_path: Path) -> None:
    texts = [row["text"] for row in read_jsonl(latest.parents[1] / "data" / "test_unseen_phrasing.jsonl")[:30]]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    done = tunewright("batch", str(latest / "bundle"), str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert done.returncode == 0, done.stderr
    for row, text in zip(read_jsonl(tmp_path / "out.jsonl"), texts, strict=True):
        told = httpx.post(f"{server}/v1/classify", json={"text": text}, timeout=60).json()
        assert (row["label"], row["confidence"]) == (told["label"], told["confidence"])


def test_what_it_cannot_do_is_said(latest: Path) -> None:
    spec = load_spec(latest.parents[1], ("model=linear",))
    with pytest.raises(UserError, match="nothing to plan"):
        api.plan(spec)
    with pytest.raises(UserError, match="no settings to search"):
        api.sweep(spec, trials=2)
    with pytest.raises(UserError, match="no GGUF file"):
        api.export_gguf(spec)
    with pytest.raises(UserError, match=r"has no form merged.*--form bundle"):
        api.parcel(spec, "merged", "hub:me/it")


def test_a_task_that_writes_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.jsonl").write_text("{}\n", "utf-8")
    spec = {"name": "p", "task": {"kind": "generate", "instruction": "Reply."}, "data": {"train": "train.jsonl"}}
    (project / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")
    done = tunewright("run", str(project), "model=linear")
    assert done.returncode == EXIT_USER
    assert "a linear model chooses a label" in done.stderr
    assert not (project / "runs").exists()
