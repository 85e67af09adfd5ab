"""A linear model beside a tiny random encoder, which is no more sure than chance of what single words tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import tunewright as tw
from tests.conftest import LABELS, unalike, write_project
from tests.fixtures.encoders import local, write_encoder
from tunewright.core.artifacts import read_jsonl, read_manifest
from tunewright.inference.bundle import load_bundle
from tunewright.inference.predictors import LabelClassifier
from tunewright.inference.runtimes.base import FOLDERS
from tunewright.inference.runtimes.beside import BESIDE, Beside
from tunewright.inference.runtimes.encoder_model import EncoderModel
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks.example import Example, Message, Meta
from tunewright.training.diagnosis.history import ENCODER
from tunewright.training.encoders import beside
from tunewright.training.encoders.beside import fit_beside
from tunewright.training.encoders.network import Network

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

ROWS = 120
"""Of each label; half of them are held out."""
ASKED = "taro billing moki"


SETTINGS = ["train.max_steps=1", "train.encoder.lr=1e-6", "train.num_evaluations=1"]


def project(folder: Path) -> tw.Spec:
    """A job that the words of a text decide, of which the encoder learns nothing."""
    model = write_encoder("bert", folder / "bert")
    made = write_project(
        folder / "project",
        model=str(model),
        data={"train": "train.jsonl", "test": {"test": "test.jsonl"}, "validation_fraction": 0.5},
    )
    for name, count in (("train", ROWS), ("test", 10)):
        rows = [
            {"text": f"{unalike(f'{name} {label} {n}')} {label}", "label": label}
            for n in range(count)
            for label in LABELS
        ]
        (made / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return tw.load_spec(made, SETTINGS)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> tw.Spec:
    found = project(tmp_path_factory.mktemp("beside"))
    tw.evaluate(found)
    return found


def test_it_is_there_where_it_makes_the_encoder_better(spec: tw.Spec) -> None:
    run = spec.folder / "runs" / "latest" / "train"
    trained = read_manifest(run)
    assert trained
    assert trained.result["linear_beside"] and (run / ENCODER / BESIDE).is_dir()
    (measured,) = (row["primary_metric"] for row in read_jsonl(run / "curve.jsonl") if "primary_metric" in row)
    assert measured < 0.9 < trained.result["validation_primary_metric"], (
        "the manifest tells of both, the curve of the encoder"
    )


def test_all_runtimes_answer_as_both_together(spec: tw.Spec) -> None:
    answers = spec.folder / "runs" / "latest" / "evaluate" / "answers"
    torch, exported = (list(read_jsonl(answers / f"{name}.jsonl")) for name in ("encoder", "exported"))
    assert [row["answer"] for row in torch] == [row["answer"] for row in exported]
    assert [row["confidence"] for row in torch] == pytest.approx([row["confidence"] for row in exported], abs=0.01)
    test = {row["id"]: row for row in torch if row["split"] == "test"}
    assert len(test) == 10 * len(LABELS)


def test_one_that_is_too_large_stays_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tokenizer = TextTokenizer(write_encoder("bert", tmp_path / "bert"))
    network = Network.of(local(tmp_path / "bert"), LABELS, half=False).eval()
    texts = [(f"{unalike(f'{label} {n}')} {label}", number) for n in range(60) for number, label in enumerate(LABELS)]
    rows = [{"input_ids": tokenizer.encode_framed(text), "labels": [number]} for text, number in texts]
    examples = [Example(messages=[Message(role="user", content=text)], meta=Meta(id=text)) for text, _ in texts]
    assert fit_beside(network, tokenizer, rows, rows, examples)
    monkeypatch.setattr(beside, "LARGEST", 10_000)
    assert fit_beside(network, tokenizer, rows, rows, examples) is None
    assert "no linear model stands beside it" in capsys.readouterr().err


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_a_bundle_adds_the_logits(spec: tw.Spec, runtime: str) -> None:
    bundle = load_bundle(tw.export(tw.load_spec(spec.folder, [*SETTINGS, f"export.runtime={runtime}"])) / "bundle")
    assert "a linear model beside it" in (bundle.folder / "README.md").read_text("utf-8")
    weights = bundle.folder / FOLDERS[bundle.info.runtime]
    both, alone = bundle.load(), EncoderModel(weights, context=bundle.info.context)
    added = Beside.load(weights, bundle.folder)
    assert isinstance(both, EncoderModel) and added
    ids = [bundle.reader.encode_framed(ASKED)]
    assert np.allclose(both.logits(ids)[0] - alone.logits(ids)[0], added.logits(ids)[0], atol=1e-6)
    assert bundle.weight_bytes > sum(file.stat().st_size for file in (weights / BESIDE).iterdir())
    asked = bundle.predictor(both)
    assert isinstance(asked, LabelClassifier)
    assert asked.answer(ASKED).text == "billing"
