"""Each cause provoked on the real SmolLM2-135M with the shipped tickets, few steps long, and a clean training.

bench/diagnosis.py does the same at length, on more data and seeds.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest

from tests.conftest import REPOSITORY
from tunewright.config import parse_spec
from tunewright.core.artifacts import Output, read_jsonl
from tunewright.core.errors import UserError
from tunewright.data.dataset import Dataset, save_dataset
from tunewright.tasks import Example, Meta
from tunewright.training.run import run_train

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

Train = Callable[..., list[str]]
LABELS = ["cancel", "defect", "privacy"]
"""Three of the eight, so that a few steps are enough to learn them."""
HELD = 64
"""Validation examples; of fewer the rules say that they show nothing."""
SETTINGS = {
    "loss": "labels",
    "batch_size": 4,
    "epochs": 1,
    "max_steps": 24,
    "lr": 1e-3,
    "num_evaluations": 2,
    "num_checkpoints": 0,
    "precision": "float32",
}


@pytest.fixture(scope="module")
def tickets() -> list[dict[str, Any]]:
    """Short ones of one matter, which a few steps are enough to learn, in a fixed order."""
    rows = read_jsonl(REPOSITORY / "examples" / "tickets" / "data" / "train.jsonl")
    rows = [row for row in rows if row["label"] in LABELS and len(row["text"]) < 130 and '"' not in row["text"]]
    random.Random(0).shuffle(rows)
    return rows


@pytest.fixture
def train(tickets: list[dict[str, Any]], tmp_path: Path) -> Train:
    """Run the step `train` and return the codes of its diagnosis."""

    def run(
        count: int = 96, model: str = "smollm2-135m", labels: list[str] | None = None, **settings: Any
    ) -> list[str]:
        made = [
            Example.of(row["text"], labels[n] if labels else row["label"], Meta(id=str(n)))
            for n, row in enumerate(tickets)
        ]
        save_dataset(tmp_path, Dataset(made[:count], made[-HELD:], {"test": []}))
        task = {"kind": "classify", "instruction": "Which team answers this?", "labels": LABELS}
        spec = {"name": "tickets", "task": task, "data": {"train": "none"}, "model": model}
        spec = parse_spec(json.dumps(spec | {"train": SETTINGS | settings}), tmp_path / "tunewright.yaml")
        out = tmp_path / "out"
        out.mkdir()
        run_train(spec, {"split": tmp_path}, Output(out))
        written = json.loads((out / "diagnosis.json").read_text("utf-8"))
        return [found["code"] for found in written["diagnoses"]]

    return run


@pytest.mark.nightly
def test_a_clean_training_is_left_alone_and_recorded_in_mlflow(
    train: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.set_tracking_uri(None)
    assert train(count=96, epochs=2, max_steps=None) == []
    assert "diagnosis: nothing found in the curve" in capsys.readouterr().err
    (run,) = mlflow.search_runs(output_format="list", search_all_experiments=True)
    losses = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [metric.step for metric in losses] == list(range(1, 49))
    assert run.data.tags["tunewright.diagnosis"] == "nothing found"


def test_a_learning_rate_that_is_too_high_is_said_while_it_trains(
    train: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(lr=0.1, max_steps=10, num_evaluations=1) == ["T001"]
    said = capsys.readouterr().err
    assert said.index("T001 learning rate too high") < said.index("step 10: validation accuracy"), "live"
    assert said.count("T001 learning rate too high") == 2, "and once more at the end"
    assert "train.lr=0.0005" in said


@pytest.mark.nightly
def test_shuffled_labels_carry_no_signal(train: Train, tickets: list[dict[str, Any]]) -> None:
    labels = [row["label"] for row in tickets]
    random.Random(1).shuffle(labels)
    assert train(count=112, labels=labels, batch_size=16, epochs=3, max_steps=None) == ["T004"]


@pytest.mark.nightly
def test_a_few_examples_many_times_over_are_learnt_by_heart(train: Train, tickets: list[dict[str, Any]]) -> None:
    labels = [row["label"] for row in tickets]
    for wrong in range(0, 16, 4):
        labels[wrong] = LABELS[LABELS.index(labels[wrong]) - 1]  # can only be learnt by heart
    # Three batches of four, a quarter of them wrong, may have a loss that looks like too high a rate.
    assert train(count=16, labels=labels, batch_size=8, epochs=12, max_steps=None, num_evaluations=4) == ["T005"]


def test_activations_beyond_float16_are_told_from_a_learning_rate(
    train: Train, make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path
) -> None:
    """A tiny model, because CPUs compute float16 slowly; what one layer is multiplied by, the next is divided by."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "model"
    shutil.copytree(make_tiny_model("llama3")[1], folder)
    weights = load_file(folder / "model.safetensors")
    for name in weights:
        weights[name] *= 2.0**20 if "layers.1.mlp.up_proj" in name else 1
        weights[name] /= 2.0**20 if "layers.1.mlp.down_proj" in name else 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"can't be computed in float16.*GPU with bfloat16"):
        train(model=str(folder), precision="float16", num_evaluations=0)
