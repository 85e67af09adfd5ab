"""The ticket example with labels of one token each, run in small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

import tunewright as tw
from tests.conftest import tunewright
from tests.fixtures.tiny import TINY, run_example
from tunewright.core.artifacts import read_jsonl
from tunewright.data import evenly, load_dataset
from tunewright.evaluation.candidates import in_torch
from tunewright.inference.bundle import load_bundle
from tunewright.serving.child import running_server

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]


@pytest.fixture(scope="module")
def run(make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    project, _ = run_example(
        "tickets",
        make_tiny_model("llama3")[1],
        tmp_path_factory.mktemp("codes"),
        "task.single_token_labels=true",
        "train.loss=labels",
    )
    return project / "runs" / "latest"


def test_every_arm_answers_in_labels(run: Path) -> None:
    labels = set(load_bundle(run / "bundle").task.answers)
    for file in (*(run / "evaluate" / "answers").glob("*.jsonl"), run / "parity" / "answers" / "served.jsonl"):
        assert {row["answer"] for row in read_jsonl(file)} <= labels, file.name


def test_the_tuned_model_writes_a_token_and_the_untuned_one_words(run: Path) -> None:
    tokens = {
        candidate: [row["answer_tokens"] for row in read_jsonl(run / "evaluate" / "answers" / f"{candidate}.jsonl")]
        for candidate in ("adapter", "exported", "few_shot")
    }
    assert set(tokens["adapter"]) == set(tokens["exported"]) == {2}, "the code and the end of the turn"
    assert min(tokens["few_shot"]) > 2


def test_what_is_taught_is_what_the_bundle_knows(run: Path) -> None:
    bundle = load_bundle(run / "bundle")
    assert len(set(bundle.task.label_tokens.values())) == len(bundle.task.answers)
    audit = (run / "train" / "audit.txt").read_text("utf-8")
    assert any(f"⟦{bundle.task.lead}{code}⟧" in audit for code in bundle.task.label_tokens.values())


def test_a_client_sees_labels_alone(run: Path) -> None:
    labels = list(load_bundle(run / "bundle").task.answers)
    with running_server(run / "bundle") as address:
        plain = httpx.post(f"{address}/v1/classify", json={"text": "hi", "probabilities": True}, timeout=60).json()
        said = {"model": "tickets", "messages": [{"role": "user", "content": "hi"}]}
        chat = httpx.post(f"{address}/v1/chat/completions", json=said, timeout=60).json()
    assert plain["label"] == chat["choices"][0]["message"]["content"]
    assert list(plain["probabilities"]) == labels
    assert sum(plain["probabilities"].values()) == pytest.approx(1)
    assert plain["label"] == max(plain["probabilities"], key=plain["probabilities"].__getitem__)
    assert chat["usage"]["completion_tokens"] == 2
    assert json.loads((run / "bundle" / "bundle.json").read_text("utf-8"))["label_tokens"]


def test_a_large_model_is_asked_in_processes_that_end_and_answers_the_same(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tw.load_spec(
        run.parents[1],
        [
            "task.single_token_labels=true",
            "train.loss=labels",
            "evaluate.few_shot=1",
            f"model={run.parents[2] / 'tiny'}",
        ],
    )
    inputs = {name: (run / name).resolve() for name in ("split", "train", "export")}
    tests = {name: evenly(examples, 3) for name, examples in load_dataset(inputs["split"]).test.items()}
    monkeypatch.setattr(in_torch, "LARGE", 1)
    in_torch.ask_in_torch(spec, inputs, tests, tmp_path / "answers")
    for name in ("few_shot", "adapter", "merged"):
        there = read_jsonl(run / "evaluate" / "answers" / f"{name}.jsonl")
        again = read_jsonl(tmp_path / "answers" / f"{name}.jsonl")
        assert [(row["id"], row["answer"]) for row in again] == [(row["id"], row["answer"]) for row in there]


def test_the_gate_judges_what_is_there_and_trains_nothing(run: Path, tmp_path: Path) -> None:
    project = run.parents[1]
    same = [
        str(project),
        f"model={project.parent / 'tiny'}",
        *TINY,
        "task.single_token_labels=true",
        "train.loss=labels",
    ]
    folders = sorted(path.name for path in run.parent.iterdir())

    def gate(*changes: str) -> tuple[int, dict[str, bool], str]:
        done = tunewright("gate", *same, *changes, "--json")
        found = json.loads(done.stdout)
        assert found["passed"] == (done.returncode == 0)
        targets = {target["name"]: target["met"] for target in found["targets"]}
        return done.returncode, targets, found["targets"][-1]["found"]

    code, targets, found = gate("goal.accuracy=0.9")
    assert (code, targets["up to date"], targets["accuracy on seen"]) == (1, True, False)
    code, targets, found = gate("train.lr=1e-3")
    assert (code, targets["up to date"]) == (1, False)
    assert "would run again: train, export" in found
    assert sorted(path.name for path in run.parent.iterdir()) == folders, "nothing was run"
    none = tunewright("gate", *same, "--runs", str(tmp_path / "none"))
    assert none.returncode == 2
    assert "There is no verdict to judge." in none.stderr
    assert "--update" in none.stderr
