"""Several labels a ticket on a tiny random encoder, from data to the running server, the review and a retraining: how
well it does is not the point."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import LABELS, spec_data, tunewright, unalike, whole_run
from tests.fixtures.encoders import write_encoder
from tunewright.core.artifacts import read_jsonl
from tunewright.core.errors import EXIT_USER
from tunewright.inference.bundle import load_bundle
from tunewright.inference.calibration import load_calibration
from tunewright.serving.child import running_server

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

SMALL = [
    "train.max_steps=30",
    "train.num_evaluations=1",
    "train.num_checkpoints=0",
    "export.max_disagreement=0.9",
    "export.max_accuracy_drop=0.9",
    "train.encoder.lr=2e-3",
]
READS = 128
NAME = "tickets"


def rows() -> Iterator[dict[str, Any]]:
    """Texts that name what holds, of made-up words otherwise; two labels in a quarter of them, none in a quarter."""
    draw = random.Random(0)
    for number in range(400):
        held = draw.sample(LABELS, draw.choice((0, 1, 1, 2)))
        yield {"text": f"{' '.join(held)} {unalike(f'{number}')}", "label": held}


def write(folder: Path, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), "utf-8")
    task = {"kind": "multi_label", "instruction": "Which of these hold?\n{labels}", "labels": LABELS}
    data = {"train": "train.jsonl", "validation_fraction": 0.3}
    (folder / "tunewright.yaml").write_text(json.dumps(spec_data(task=task, data=data, **changes)), "utf-8")
    return folder


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """(the folder `runs/latest` of a whole run, its report)."""
    folder = tmp_path_factory.mktemp("multi-label")
    project = write(folder / NAME, model=str(write_encoder("bert", folder / "bert", READS)))
    return whole_run(project, *SMALL)


def test_every_arm_is_measured_by_micro_and_macro_f1_exact_match_and_label(done: tuple[Path, dict[str, Any]]) -> None:
    _, report = done
    candidates = report["comparison"]["candidates"]
    assert set(candidates) == {"usual", "svm", "encoder", "exported", "served"}
    assert report["comparison"]["primary_metric"] == "micro-F1"
    for candidate in candidates.values():
        score = candidate["scores"]["test"]
        assert list(score["others"]) == ["macro-F1", "exact match"]
        assert set(score["fields"]) <= set(LABELS)
    served = candidates["served"]["scores"]["test"]
    by_label = [each["value"] for each in served["fields"].values()]
    assert served["others"]["macro-F1"]["value"] == pytest.approx(sum(by_label) / len(by_label))
    assert candidates["svm"]["scores"]["test"]["primary_metric"]["value"] > 0.9, "the words say it"
    assert candidates["usual"]["scores"]["test"]["primary_metric"]["value"] < 0.6


def test_the_exported_and_the_served_model_answer_alike(done: tuple[Path, dict[str, Any]]) -> None:
    latest, report = done
    assert report["parity"]["passed"]
    exported, served = (
        {row["id"]: row for row in read_jsonl(latest / step / "answers" / f"{candidate}.jsonl")}
        for step, candidate in (("evaluate", "exported"), ("parity", "served"))
    )
    assert len(exported.keys() & served.keys()) > 50
    for key in exported.keys() & served.keys():
        assert served[key]["answer"] == exported[key]["answer"]
        assert served[key]["confidence"] == pytest.approx(exported[key]["confidence"], abs=1e-6)


def test_the_bundle_keeps_a_threshold_for_each_label(latest: Path) -> None:
    bundle = load_bundle(latest / "bundle")
    decisions = bundle.calibration.decisions
    assert decisions
    assert len(decisions.thresholds) == len(decisions.pooled) == len(LABELS)
    assert load_calibration(latest / "bundle") == bundle.calibration
    assert not bundle.info.guaranteed, "the thresholds of labels were chosen on the same part"


def test_the_reports_show_labels(latest: Path) -> None:
    report = (latest / "verdict" / "report.html").read_text("utf-8")
    assert "<th>label</th><th>F1 % (95 % interval)</th>" in report
    assert "micro-F1" in (latest / "verdict" / "report.md").read_text("utf-8")
    card = (latest / "verdict" / "model_card.md").read_text("utf-8")
    assert "text-classification" in card
    assert "micro-F1" in card


def test_a_client_of_openais_gets_a_json_list(server: str) -> None:
    said = {"model": NAME, "messages": [{"role": "user", "content": "billing refund please"}]}
    chat = httpx.post(f"{server}/v1/chat/completions", json=said, timeout=60).json()
    labels = json.loads(chat["choices"][0]["message"]["content"])
    assert labels == [label for label in LABELS if label in labels]
    assert 0 <= chat["confidence"] <= 1
    asked = said | {"logprobs": True, "top_logprobs": 2}
    more = httpx.post(f"{server}/v1/chat/completions", json=asked, timeout=60).json()
    assert more["choices"][0]["logprobs"]["content"] is None, "a list is put together, no token was written"


def test_the_plain_route_tells_labels_and_how_sure_of_each(server: str, latest: Path) -> None:
    text = "billing refund please"
    plain = httpx.post(f"{server}/v1/classify", json={"text": text}, timeout=60).json()
    assert list(plain["probabilities"]) == plain["labels"]
    everything = httpx.post(f"{server}/v1/classify", json={"text": text, "probabilities": True}, timeout=60).json()
    assert list(everything["probabilities"]) == LABELS
    assert everything["labels"] == plain["labels"]
    decisions = load_calibration(latest / "bundle").decisions
    assert decisions
    over = [everything["probabilities"][label] >= at for label, at in zip(LABELS, decisions.thresholds, strict=True)]
    assert over == [label in plain["labels"] for label in LABELS]
    assert {label: everything["probabilities"][label] for label in plain["labels"]} == plain["probabilities"]


def test_another_route_names_the_right_one(server: str) -> None:
    answer = httpx.post(f"{server}/v1/extract", json={"text": "x"}, timeout=60)
    assert answer.status_code == 404
    assert "POST to /v1/classify" in answer.json()["error"]["message"]


def test_a_batch_answers_as_the_server_does(server: str, latest: Path, tmp_path: Path) -> None:
    texts = [row["text"] for row in rows()][:30]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), "utf-8")
    found = tunewright("batch", str(latest / "bundle"), str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl"))
    assert found.returncode == 0, found.stderr
    for row, text in zip(read_jsonl(tmp_path / "out.jsonl"), texts, strict=True):
        told = httpx.post(f"{server}/v1/classify", json={"text": text}, timeout=60).json()
        assert (row["labels"], row["confidence"]) == (told["labels"], told["confidence"])
        assert row["probabilities"] == told["probabilities"]


def test_captures_and_feedback_keep_lists(latest: Path, tmp_path: Path) -> None:
    with running_server(latest / "bundle", "--captures", str(tmp_path / "captures")) as address:
        asked = httpx.post(f"{address}/v1/classify", json={"text": "billing"}, timeout=60).json()
        assert asked["captured"] is True
        said = {"id": asked["id"], "right": False, "answer": ["refund", "billing"]}
        assert httpx.post(f"{address}/v1/feedback", json=said, timeout=60).status_code == 200
        wrong = httpx.post(f"{address}/v1/feedback", json=said | {"answer": ["cancel"]}, timeout=60)
        assert wrong.status_code == 400
        assert "'cancel' is none of the labels" in wrong.json()["error"]["message"]
    kept = [row for file in sorted((tmp_path / "captures").rglob("*.jsonl")) for row in read_jsonl(file)]
    assert [json.loads(row["answer"]) for row in kept] == [asked["labels"], ["billing", "refund"]]


@pytest.mark.parametrize("command", ["run", "train", "plan"])
def test_a_model_that_writes_is_refused_before_anything_is_done(command: str, tmp_path: Path) -> None:
    project = write(tmp_path / NAME, model="smollm2-135m")
    found = tunewright(command, str(project), TUNEWRIGHT_CACHE=str(tmp_path / "cache"))
    assert found.returncode == EXIT_USER
    assert (
        "smollm2-135m is a model that writes, and this task is multi_label, which encoders and linear models do."
        in found.stderr
    )
    assert "model=all-minilm" in found.stderr
    assert not (tmp_path / "cache").exists()
    assert not (project / "runs").exists() or not list((project / "runs").iterdir())


@pytest.mark.parametrize("command", [("data", "curve"), ("assess", "fit")])
def test_forecasts_of_one_label_are_refused(command: tuple[str, str], done: tuple[Path, Any]) -> None:
    found = tunewright(*command, str(done[0].parents[1]))
    assert found.returncode == EXIT_USER
    assert "several labels a row" in found.stderr


def test_a_linear_model_is_a_candidate_that_is_served(tmp_path: Path) -> None:
    project = write(tmp_path / NAME, candidates=["linear"], model="linear")
    found = tunewright("run", str(project), "--json")
    assert found.returncode == 0, found.stderr
    report = json.loads(found.stdout)
    served = report["comparison"]["candidates"]["served"]["scores"]["test"]
    assert served["primary_metric"]["value"] > 0.9, "the words say it"
    assert report["parity"]["passed"]
    bundle = project / "runs" / "latest" / "bundle"
    assert load_calibration(bundle).decisions
    with running_server(bundle) as address:
        told = httpx.post(f"{address}/v1/classify", json={"text": "billing and refund"}, timeout=60).json()
    assert told["labels"] == ["billing", "refund"]
    assert list(told["probabilities"]) == ["billing", "refund"]
