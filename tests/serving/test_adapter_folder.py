"""A folder of many models, with stand-ins for the weights: what it takes, what it serves, and under which names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from starlette.testclient import TestClient

from tests.conftest import TOKENIZER, make_spec
from tests.fuzz.linear import linear_bundle
from tunewright.auth.keys import KeyRing, add_key
from tunewright.core.artifacts import write_json
from tunewright.core.errors import UserError
from tunewright.core.processes import sole_writer
from tunewright.exporters.bundle import write_bundle
from tunewright.inference.bundle import load_bundle, read_info
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.inference.checksums import seal
from tunewright.inference.predictors import GenerationConfig
from tunewright.models.chat import ChatTemplate
from tunewright.models.resolve import LocalModel
from tunewright.models.tokenizer import TextTokenizer
from tunewright.serving import hosts
from tunewright.serving.adapters import AdapterStore, add_adapter
from tunewright.serving.app import build_app
from tunewright.serving.captures import CaptureRecord, RequestLog, read_captures
from tunewright.serving.engine import whole_answer
from tunewright.serving.hosts import ManyModels

TASKS: dict[str, dict[str, Any]] = {
    "extract": {
        "kind": "extract",
        "instruction": "Read.",
        "schema": {"type": "object", "properties": {"paid": {"type": "boolean"}}, "required": ["paid"]},
    },
    "tools": {
        "kind": "tools",
        "instruction": "Help.",
        "tools": [{"type": "function", "function": {"name": "now"}}],
    },
    "generate": {"kind": "generate", "instruction": "Answer.", "max_tokens": 20},
}
ANSWERS = {"extract": '{"paid":true}', "tools": '{"name":"now","arguments":{}}', "generate": "true"}


class Indifferent:
    """Weights that like all tokens alike, with any adapter."""

    at_once = 2
    ended = False

    def __init__(self, *_: object, **__: object):
        self._size = TextTokenizer(TOKENIZER).size

    def __call__(self, ids: Sequence[int]) -> npt.NDArray[np.float32]:  # noqa: ARG002 (the protocol)
        return np.zeros(self._size, np.float32)

    def of_tokens(self, queries: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[npt.NDArray[np.float32]]:
        return [self(ids)[tokens] for ids, tokens in queries]

    def with_adapter(self, adapter: object) -> Indifferent:  # noqa: ARG002 (the runtime's)
        return self


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "PagedNextToken", Indifferent)
    monkeypatch.setattr(hosts, "load_adapter", lambda _: SimpleNamespace(nbytes=1))


def adapter_bundle(folder: Path, name: str = "job", kind: str = "extract", tokenizer: Path = TOKENIZER) -> Path:
    """A bundle of an adapter and its base, whose weights are a few bytes."""
    for weights in ("openvino", "adapter"):
        (folder / weights).mkdir(parents=True)
        (folder / weights / "model.safetensors").write_text(weights, "utf-8")
    write_json(folder / "openvino" / "config.json", {"model_type": "llama", "max_position_embeddings": 2048})
    base = LocalModel("tiny", tokenizer, ChatTemplate.named("chatml"))
    write_bundle(make_spec(name=name, task=TASKS[kind]), base, folder, 12)
    save_calibration(UNCALIBRATED, folder)
    seal(folder)
    return folder


def other_tokenizer(folder: Path) -> Path:
    """A model's folder whose tokenizer has one control token more."""
    folder.mkdir()
    content = json.loads((TOKENIZER / "tokenizer.json").read_text("utf-8"))
    added = content["added_tokens"]
    added.append(added[-1] | {"id": max(each["id"] for each in added) + 1000, "content": "<|other|>"})
    write_json(folder / "tokenizer.json", content)
    write_json(folder / "config.json", {"model_type": "llama"})
    return folder


@pytest.mark.parametrize("kind", TASKS)
def test_an_adapter_of_any_task_answers(kind: str, tmp_path: Path) -> None:
    store = tmp_path / "store"
    add_adapter(store, adapter_bundle(tmp_path / "bundle", kind=kind))
    engine = ManyModels(AdapterStore(store)).engine("job")
    schema = {"type": "boolean"} if kind == "generate" else None
    answer = whole_answer(engine.stream("Is it paid?", GenerationConfig(schema=schema)))
    assert answer.text in (ANSWERS[kind], ANSWERS[kind].replace("true", "false"))


def test_a_grammar_is_of_the_tokenizer_that_is_loaded(tmp_path: Path) -> None:
    """The bundle at its path may be another one by now."""
    first = adapter_bundle(tmp_path / "bundle")
    loaded = load_bundle(first)
    (first / "tokenizer.json").unlink()
    model: Any = Indifferent()
    asked = loaded.language_model(model)
    assert asked.answer("Is it paid?").text in (ANSWERS["extract"], '{"paid":false}')


def test_an_adapter_with_another_tokenizer_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "store"
    add_adapter(store, adapter_bundle(tmp_path / "first"), "first")
    add_adapter(store, adapter_bundle(tmp_path / "same"), "same")
    with pytest.raises(UserError, match=r"differ in the tokenizer.*another folder"):
        add_adapter(store, adapter_bundle(tmp_path / "other", tokenizer=other_tokenizer(tmp_path / "model")), "other")
    assert AdapterStore(store).names() == ["first", "same"]


def test_a_base_reads_no_more_than_its_model_has_positions(tmp_path: Path) -> None:
    store = tmp_path / "store"
    add_adapter(store, adapter_bundle(tmp_path / "bundle"))
    assert read_info(store / "base").context == 2048


def test_a_rollback_does_not_go_to_a_version_that_was_rolled_back(tmp_path: Path) -> None:
    bundle, folder = linear_bundle(tmp_path / "bundle"), tmp_path / "store"
    seal(bundle)
    for number in (1, 2):
        assert add_adapter(folder, bundle, "shop").number == number
    store = AdapterStore(folder)
    assert store.roll_back("shop").number == 1
    assert add_adapter(folder, bundle, "shop").number == 3
    assert store.roll_back("shop").number == 1
    with pytest.raises(UserError, match="no version of 'shop' before 1"):
        store.roll_back("shop")
    assert store.versions("shop") == [1, 2, 3]
    with sole_writer(folder), pytest.raises(UserError, match="Another Tunewright process"):
        store.roll_back("shop")


def test_the_only_model_of_a_folder_keeps_its_name(tmp_path: Path) -> None:
    """In key rights, captures and figures, whether a request names it or not."""
    store, bundle, keys = tmp_path / "store", linear_bundle(tmp_path / "bundle"), tmp_path / "keys.json"
    seal(bundle)
    add_adapter(store, bundle, "shop")
    key = add_key(keys, "till", models=["shop"])
    app = build_app(ManyModels(AdapterStore(store)), KeyRing(keys), request_log=RequestLog(tmp_path / "kept"))
    with TestClient(app, headers={"Authorization": f"Bearer {key}"}) as client:
        answer = client.post("/v1/classify", json={"text": "my parcel"})
        assert answer.status_code == 200, answer.text
        feedback = client.post("/v1/feedback", json={"id": answer.json()["id"], "right": True})
        assert feedback.status_code == 200, feedback.text
        assert 'model="store"' not in client.get("/metrics").text
        add_adapter(store, bundle, "bank")
        assert client.post("/v1/classify", json={"text": "my parcel"}).status_code == 404
    assert [each.model for each in read_captures(tmp_path / "kept")] == ["shop", "shop"]
    assert isinstance(next(read_captures(tmp_path / "kept")), CaptureRecord)


def test_a_folder_with_only_its_base_answers_with_it(tmp_path: Path) -> None:
    store = tmp_path / "store"
    add_adapter(store, adapter_bundle(tmp_path / "bundle"))
    AdapterStore(store).remove("job")
    with TestClient(build_app(ManyModels(AdapterStore(store)))) as client:
        answer = client.post("/v1/generate", json={"text": "Is it paid?", "max_tokens": 2})
        name = client.get("/v1/models").json()["data"][0]["id"]
        empty = client.post("/v1/completions", json={"model": name, "prompt": [" "]})
    assert answer.status_code == 200, answer.text
    assert (empty.status_code, empty.json()["error"]["code"]) == (400, "invalid_value")
