"""The ticket example with labels of one token each, run in small."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.tiny.conftest import run_example
from tunewright.artifacts import read_jsonl
from tunewright.export.bundle import load_bundle
from tunewright.serve.server import running_server


@pytest.fixture(scope="module")
def run(make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    project, _ = run_example(
        "tickets", make_tiny_model("llama3")[1], tmp_path_factory.mktemp("codes"), "task.codes=true",
        "train.loss=labels",
    )  # fmt: skip
    return project / "runs" / "latest"


def test_every_arm_answers_in_labels(run: Path) -> None:
    labels = set(load_bundle(run / "bundle").task.answers)
    for file in (*(run / "evaluate" / "answers").glob("*.jsonl"), run / "parity" / "answers" / "served.jsonl"):
        assert {row["answer"] for row in read_jsonl(file)} <= labels, file.name


def test_the_tuned_model_writes_a_token_and_the_untuned_one_words(run: Path) -> None:
    tokens = {
        arm: [row["answer_tokens"] for row in read_jsonl(run / "evaluate" / "answers" / f"{arm}.jsonl")]
        for arm in ("adapter", "exported", "few_shot")
    }
    assert set(tokens["adapter"]) == set(tokens["exported"]) == {2}, "the code and the end of the turn"
    assert min(tokens["few_shot"]) > 2


def test_what_is_taught_is_what_the_bundle_knows(run: Path) -> None:
    bundle = load_bundle(run / "bundle")
    assert len(set(bundle.task.codes.values())) == len(bundle.task.answers)
    audit = (run / "train" / "audit.txt").read_text("utf-8")
    assert any(f"⟦{bundle.task.lead}{code}⟧" in audit for code in bundle.task.codes.values())


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
    assert json.loads((run / "bundle" / "bundle.json").read_text("utf-8"))["answer_codes"]
