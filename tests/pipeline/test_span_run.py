"""The invoice example on a tiny random encoder, from data to the running server: how well it reads is not the point."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest

import tunewright as tw
from tests.conftest import copied_example, tunewright, whole_run, write_project
from tests.fixtures.encoders import write_encoder
from tests.ladder.test_search import MET, Run, known, made_never
from tunewright.core.artifacts import read_jsonl
from tunewright.core.errors import EXIT_USER
from tunewright.inference.bundle import load_bundle
from tunewright.ladder.search import Steps, climb
from tunewright.serving.engine import Engine

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

SMALL = [
    "train.max_steps=3",
    "train.num_evaluations=1",
    "train.num_checkpoints=0",
    "evaluate.max_examples=4",
    "export.max_disagreement=0.9",
    "export.max_accuracy_drop=0.9",
    "train.encoder.batch_size=8",
    "data.validation_fraction=0.1",
]
READS = 256
"""Tokens that the encoder of the run reads: a byte is one, so most invoices are read in windows."""
FIELDS = {"vendor", "invoice_number", "date", "due_date", "currency", "total"}


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """(the folder `runs/latest` of a whole run, its report)."""
    folder = tmp_path_factory.mktemp("spans")
    model = write_encoder("bert", folder / "bert", READS)
    return whole_run(copied_example("invoices", folder), f"model={model}", *SMALL)


def texts_of(latest: Path, count: int) -> list[str]:
    return [row["text"] for row in read_jsonl(latest.parents[1] / "data" / "test_unseen_layout.jsonl")[:count]]


def test_the_candidates_are_those_of_an_encoder_and_measured_by_fields(done: tuple[Path, dict[str, Any]]) -> None:
    candidates = done[1]["comparison"]["candidates"]
    assert {"nearest", "patterns", "encoder", "exported", "served"} == set(candidates)
    assert done[1]["comparison"]["primary_metric"] == "field F1"
    assert set(candidates["served"]["scores"]["seen"]["others"]) == {"records", "word F1", "invented"}


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
    assert len(shared) == 8
    for key in shared:
        for part in ("answer", "measures"):
            assert served[key][part] == exported[key][part]
        assert served[key]["confidence"] == pytest.approx(exported[key]["confidence"], abs=1e-6)


def test_the_bundle_says_what_its_outputs_stand_for(latest: Path) -> None:
    bundle = load_bundle(latest / "bundle")
    assert bundle.is_classifier
    assert {"O", "B spelt vendor", "I spelt vendor", "B dmy date", "B comma total", "= currency EUR"} <= set(
        bundle.info.outputs
    )
    assert {"gmbh": "GmbH", "s.r.l.": "S.r.l."}.items() <= bundle.info.habits.spellings["vendor"].items()


def test_the_audit_tells_what_is_taught_and_that_names_in_capitals_stand_in_the_texts(latest: Path) -> None:
    audit = (latest / "train" / "audit.txt").read_text("utf-8")
    assert "vendor: " in audit
    assert "currency: " in audit
    assert "all fields' values stand in the texts" in audit


def test_the_server_and_a_batch_extract_alike_whatever_the_length(server: str, latest: Path, tmp_path: Path) -> None:
    texts = texts_of(latest, 12)
    texts[3] = texts[3] * 6
    lines = (json.dumps({"id": n, "text": text}) for n, text in enumerate(texts))
    (tmp_path / "in.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    done = tunewright("batch", str(latest / "bundle"), str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert done.returncode == 0, done.stderr
    found = read_jsonl(tmp_path / "out.jsonl")
    task = load_bundle(latest / "bundle").task
    for row, text in zip(found, texts, strict=True):
        plain = httpx.post(f"{server}/v1/extract", json={"text": text}, timeout=60).json()
        assert (row["record"], row["confidence"], row["fields"]) == (
            plain["record"],
            plain["confidence"],
            plain["fields"],
        )
        assert set(plain["fields"]) == set(plain["record"]) <= FIELDS
        if set(plain["record"]) == FIELDS:
            task.canonical(json.dumps(plain["record"]))
        else:
            assert plain["confidence"] == 0, "a field that must be there was not found"
    chat = httpx.post(
        f"{server}/v1/chat/completions",
        json={"model": "invoices", "messages": [{"role": "user", "content": texts[0]}]},
        timeout=60,
    ).json()
    assert set(json.loads(chat["choices"][0]["message"]["content"])) <= FIELDS


def test_what_was_trained_is_served_by_onnx_runtime_too(latest: Path, tmp_path: Path) -> None:
    model = latest.parents[2] / "bert"
    project = Path(shutil.copytree(latest.parents[1], tmp_path / "invoices", symlinks=True))
    spec = tw.load_spec(project, [f"model={model}", *SMALL, "export.runtime=onnxruntime"])
    bundle = load_bundle(tw.export(spec) / "bundle")
    assert bundle.info.runtime == "onnxruntime-encoder"
    engine, texts = Engine.load(bundle, threads=1), texts_of(latest, 12)
    assert engine.answers(texts) == [engine.answer(text) for text in texts]


def test_a_field_that_is_not_in_the_texts_ends_the_training_with_its_share(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    project = write_project(
        tmp_path / "project",
        model=str(write_encoder("bert", tmp_path / "bert")),
        task={"kind": "extract", "instruction": "Read.", "schema": schema},
        train={"max_steps": 1},
    )
    for part in project.glob("*.jsonl"):
        rows = [{"text": row["text"], "label": {"label": "nowhere"}} for row in read_jsonl(part)]
        part.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    done = tunewright("train", str(project))
    assert done.returncode == EXIT_USER
    assert "Too few values of these fields stand in the texts: label (0 of" in done.stderr


def test_a_ladder_leaves_an_encoder_out_that_the_data_has_nothing_for(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"label": {"type": "string"}}}
    project = write_project(tmp_path / "project", task={"kind": "extract", "instruction": "Read.", "schema": schema})
    rows = [{"text": row["text"], "label": {"label": "nowhere"}} for row in read_jsonl(project / "train.jsonl")]
    (project / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    encoder = str(write_encoder("bert", tmp_path / "bert"))
    spec = tw.load_spec(project).model_copy(update={"candidates": (encoder, "smollm2-135m")})
    asked = []

    def run(each: tw.Spec) -> Run:
        asked.append(each.model)
        return Run(each.model, MET)

    _, found = climb(spec, Steps(run, made_never, forecast=known()))
    assert asked == ["smollm2-135m"]
    assert found.left_out["bert"].startswith("Too few values of these fields stand in the texts: label (0 of")
