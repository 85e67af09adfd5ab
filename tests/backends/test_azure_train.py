"""Trainings on the emulated Azure: a low-priority node that goes, two nodes that go together, and MLflow's record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import write_project
from tunewright import api, load_spec
from tunewright.azure_emulator import AzureEmulator, emulated_azure
from tunewright.config import Spec
from tunewright.core.artifacts import read_jsonl, read_manifest

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]

WORKSPACE = ("00000000-0000-0000-0000-00000000feed", "group", "space")


@pytest.fixture(scope="module")
def azure() -> Iterator[AzureEmulator]:
    with emulated_azure(*WORKSPACE, "eastus", seasoned=True) as emulator:
        yield emulator


@pytest.fixture
def job(make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path) -> Callable[..., Spec]:
    """Settings of Azure and of the training -> a job with a tiny model."""

    def make(azure: dict[str, object], **settings: object) -> Spec:
        _, model = make_tiny_model("llama3")
        where = {"workspace": "/".join(WORKSPACE), "gpu": None, "cpu": "Standard_D4s_v3"} | azure
        train = {"lr": 0.01, "precision": "float32", "num_evaluations": 2} | settings
        name = tmp_path.name[-40:].replace("_", "-").lower()
        return load_spec(write_project(tmp_path / "p", name=name, model=str(model), train=train, azure=where))

    return make


def adapter(train: Path) -> dict[str, object]:
    from safetensors.torch import load_file

    return load_file(train / "adapter" / "adapter_model.safetensors")


def assert_same_weights(left: Path, right: Path) -> None:
    import torch

    one, two = adapter(left), adapter(right)
    assert one.keys() == two.keys()
    for name, value in one.items():
        assert torch.equal(value, two[name]), name


@pytest.mark.nightly
def test_a_training_whose_node_is_taken_away_ends_with_the_same_weights(
    azure: AzureEmulator, job: Callable[..., Spec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without notice, so that only what was carried away before counts; and MLflow's record is that of a local run."""
    import mlflow

    spec = job(
        {"low_priority": True}, batch_size=4, epochs=6, num_checkpoints=5, num_evaluations=3, lora={"dropout": 0.2}
    )
    api.split(spec)
    with monkeypatch.context() as local:
        local.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'local.db'}")
        local.chdir(tmp_path)
        here = api.train(spec, runs=tmp_path / "here")
        mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'local.db'}")
        (known,) = mlflow.search_runs(search_all_experiments=True, output_format="list")
    azure.runner.grace = 0.0
    azure.runner.evictions.append("step 68: validation")
    there = api.train(spec, on="azure")
    training = next(each for each in azure.runner.jobs.values() if "-train-" in each.name)
    assert training.attempts == 2 and training.status == "Completed"
    log = azure.storage._container.download_blob(azure.runner._log(training)).readall().decode()
    assert "resuming from member-0/checkpoint-" in log
    assert_same_weights(here, there)
    curves = [read_jsonl(folder / "curve.jsonl") for folder in (here, there)]
    assert curves[0] == curves[1]
    assert here.name == there.name
    assert azure.storage.names("tunewright/kept/") == []

    run = azure.tracking._client.get(
        "/api/2.0/mlflow/runs/get", params={"run_id": azure.tracking._run_ids[training.name]}
    )
    data = run.json()["run"]["data"]
    params = {each["key"]: each["value"] for each in data["params"]}
    assert params.keys() == known.data.params.keys()
    assert {key for key in params if params[key] != known.data.params[key]} <= {"model"}
    assert {each["key"] for each in data["metrics"]} == known.data.metrics.keys()
    (artifact,) = [
        name for name in azure.storage.names("") if name.endswith("diagnosis.json") and "ExperimentRun" in name
    ]
    assert "diagnoses" in json.loads(azure.storage._container.download_blob(artifact).readall())
    assert azure.proxy.refused == []


@pytest.mark.nightly
def test_two_nodes_train_one_adapter_and_both_are_taken_away(azure: AzureEmulator, job: Callable[..., Spec]) -> None:
    """Each in a folder of its own, as separate machines have; with notice, and at once."""
    spec = job({"nodes": 2}, batch_size=4, epochs=3, max_steps=24, num_checkpoints=6, num_evaluations=6)
    api.split(spec)
    azure.runner.grace = 15.0
    azure.runner.evictions.append("step 4: validation")
    train = api.train(spec, on="azure")
    training = next(
        each for each in azure.runner.jobs.values() if spec.name[:30] in each.name and "-train-" in each.name
    )
    assert training.attempts == 2 and training.status == "Completed"
    assert azure.runner.evictions == []
    log = azure.storage._container.download_blob(azure.runner._log(training)).readall().decode()
    assert "resuming from member-0/checkpoint-" in log
    manifest = read_manifest(train)
    assert manifest and manifest.result["processes"] == 2 and manifest.result["steps"] == 24
    assert manifest.result["last_loss"] < manifest.result["first_loss"]
    assert adapter(train)
