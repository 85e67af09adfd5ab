"""A job whose data have fixed text around their inputs, with a linear model: from the files to every way of asking."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.conftest import LABELS, unalike
from tests.gateway.test_replies import signature
from tunewright import api, load_spec
from tunewright.core.artifacts import read_jsonl
from tunewright.data.splits.freezing import freeze
from tunewright.data.splits.frozen import read_frozen
from tunewright.gateway.takeover.models import Hosts, InProcess, OwnModelFailed
from tunewright.inference.bundle import load_bundle
from tunewright.serving.batch import answer_lines
from tunewright.serving.child import running_server
from tunewright.serving.engine import Engine

pytestmark = pytest.mark.slow

AROUND = "Here is a ticket of today.\n\nTicket: {text}\n\nWhich team is it for?"
SHORT = f"refund {unalike('a new one')}"
LONG = AROUND.replace("{text}", SHORT)
EMPTY = AROUND.replace("{text}", " ")


def inputs() -> list[tuple[str, str]]:
    return [(f"{label} {unalike(f'{label} {n}')}", label) for n in range(60) for label in LABELS]


def written(folder: Path, template: str | None) -> Path:
    """A project whose rows have the fixed text, but one in ten."""
    draw = random.Random(0)
    rows = [
        {"text": text if draw.random() < 0.1 else AROUND.replace("{text}", text), "label": label}
        for text, label in inputs()
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    task = {"kind": "classify", "instruction": "Route it.", "labels": LABELS, "input_template": template}
    spec = {"name": "tickets", "task": task, "data": {"train": "train.jsonl"}, "model": "linear"}
    (folder / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")
    return folder


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return api.export(load_spec(written(tmp_path_factory.mktemp("around"), AROUND)))


@pytest.fixture(scope="module")
def bundle(exported: Path) -> Path:
    return exported / "bundle"


@pytest.fixture(scope="module")
def client(bundle: Path) -> Iterator[httpx.Client]:
    with running_server(bundle) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def test_the_model_learns_the_inputs_alone(exported: Path) -> None:
    (split,) = exported.parent.glob("split-*")
    learnt = {row["messages"][0]["content"] for file in split.rglob("*.jsonl") for row in read_jsonl(file)}
    assert learnt == {text for text, _ in inputs()}


def test_the_long_message_and_the_input_alone_get_the_same_answer(client: httpx.Client) -> None:
    asked = [{"text": text, "probabilities": True} for text in (SHORT, LONG, f"\n{LONG}\n")]
    replies = [client.post("/v1/classify", json=body).raise_for_status().json() for body in asked]
    assert replies[0]["probabilities"] == replies[1]["probabilities"] == replies[2]["probabilities"]
    other = client.post("/v1/classify", json={"text": LONG.replace("today", "yesterday"), "probabilities": True})
    assert other.json()["probabilities"] != replies[0]["probabilities"]


def test_every_route_of_openai_takes_it_off(client: httpx.Client) -> None:
    bodies = {
        "chat/completions": lambda text: {"messages": [{"role": "user", "content": text}]},
        "responses": lambda text: {"input": text},
        "completions": lambda text: {"prompt": text},
    }
    for route, body in bodies.items():
        found = [
            client.post(f"/v1/{route}", json={"model": "tickets", **body(text)}).raise_for_status().json()
            for text in (SHORT, LONG)
        ]
        assert found[0]["usage"] == found[1]["usage"], route
        refused = client.post(f"/v1/{route}", json={"model": "tickets", **body(EMPTY)})
        assert (refused.status_code, "between the fixed texts" in refused.text) == (400, True)
    refused = client.post("/v1/classify", json={"text": EMPTY})
    assert (refused.status_code, "between the fixed texts" in refused.text) == (400, True)


def test_a_batch_takes_it_off(bundle: Path) -> None:
    chats = [{"custom_id": "c", "body": {"messages": [{"role": "user", "content": text}]}} for text in (LONG, EMPTY)]
    lines = [json.dumps(row).encode() for row in ({"text": SHORT}, {"text": LONG}, {"text": EMPTY}, *chats)]
    short, long, empty, chat, empty_chat = answer_lines(Engine.load(load_bundle(bundle)), list(enumerate(lines, 1)))
    assert short["confidence"] == long["confidence"] == chat["confidence"]
    assert empty["error"]["code"] == empty_chat["error"]["code"] == "invalid_value"


def test_the_gateways_own_model_takes_it_off(bundle: Path) -> None:
    hosts = Hosts()
    try:
        model = InProcess(hosts, bundle, None, signature("label"))
        short, long = (asyncio.run(model.answer(text, 60, in_background=False)) for text in (SHORT, LONG))
        assert short == long
        with pytest.raises(OwnModelFailed):
            asyncio.run(model.answer(EMPTY, 60, in_background=False))
    finally:
        hosts.close()


def test_a_test_that_was_frozen_with_the_text_is_read_without_it(tmp_path: Path) -> None:
    """Its rows are found again in the data, or a model would be trained on what it is tested on."""
    spec = load_spec(written(tmp_path, None))
    freeze(spec, api.split(spec))
    frozen = {example.request for example in read_frozen(tmp_path / "frozen_test").examples}
    assert any(text.startswith("Here is") for text in frozen)
    split = api.split(load_spec(written(tmp_path, AROUND)))
    parts = {file.stem: {row["messages"][0]["content"] for row in read_jsonl(file)} for file in split.rglob("*.jsonl")}
    assert parts["test"] == {
        text.removeprefix("Here is a ticket of today.\n\nTicket: ").split("\n")[0] for text in frozen
    }
    assert parts["test"].isdisjoint(parts["train"] | parts["validation"])
