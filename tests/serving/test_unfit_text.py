"""A text that a chat template can't take is the client's fault: the server and the batch refuse it, and go on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.serving.test_adapter_folder import Indifferent, adapter_bundle
from tests.serving.test_batch import Counting
from tunewright.inference.bundle import load_bundle
from tunewright.inference.predictors import Answer
from tunewright.models.chat import UnfitText
from tunewright.serving.app import build_app
from tunewright.serving.batch import answer_lines
from tunewright.serving.engine import Engine
from tunewright.serving.hosts import OneModel

TEXT = "paid\ufdd2"


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    model: Any = Indifferent()
    return Engine(load_bundle(adapter_bundle(tmp_path / "bundle")), model)


def test_a_batch_answers_the_other_lines(engine: Engine) -> None:
    lines = [json.dumps({"text": text}).encode() for text in (TEXT, "paid")]
    refused, answered = answer_lines(engine, list(enumerate(lines, 1)))
    assert (refused["line"], refused["error"]["code"]) == (1, "invalid_value")
    assert "noncharacter" in refused["error"]["message"]
    assert answered["record"].keys() == {"paid"}


class Cascade(Counting):
    """Answers all texts together, but asks a language model after a text."""

    def answer(self, text: str, narrowed: None = None) -> Answer:
        if text == TEXT:
            raise UnfitText("A message holds a Unicode noncharacter.")
        return super().answer(text, narrowed)

    _answer = answer


def test_a_batch_of_a_cascade_answers_the_other_lines() -> None:
    lines = [json.dumps({"text": text}).encode() for text in (TEXT, "paid")]
    refused, answered = answer_lines(Cascade(together=True), list(enumerate(lines, 1)))
    assert (refused["error"]["code"], answered["label"]) == ("invalid_value", "paid")


@pytest.mark.parametrize("streamed", [False, True])
def test_the_server_refuses_it(engine: Engine, streamed: bool) -> None:
    messages = [{"role": "user", "content": TEXT}]
    with TestClient(build_app(OneModel(engine))) as client:
        plain = client.post("/v1/extract", json={"text": TEXT})
        chat = client.post("/v1/chat/completions", json={"model": "job", "messages": messages, "stream": streamed})
    for answer in (plain, chat):
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_value")
        assert "noncharacter" in answer.json()["error"]["message"]
