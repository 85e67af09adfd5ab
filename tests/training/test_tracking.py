"""A training's record in a real MLflow store on disk: what is in it, what must never be, and that no training fails."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import mlflow
import pytest

from tests.conftest import make_spec, python
from tunewright.training.diagnosis.diagnosis import Diagnosis
from tunewright.training.loop.callbacks import CurveRecorder
from tunewright.training.loop.tracking import Tracking, tracked

pytestmark = pytest.mark.slow

FOUND = Diagnosis("T005", "overfitting", "By heart.", "It rose from 1.0 to 2.0.", "Type: train.epochs=1")
SECRETS = {"OPENAI_API_KEY": "sk-hidden-1", "MLFLOW_TRACKING_PASSWORD": "hidden-2", "HF_TOKEN": "hf_hidden-3"}


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of all tests here: to make one takes MLflow seconds."""
    return tmp_path_factory.mktemp("store") / "mlflow.db"


@pytest.fixture
def store(database: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a store with an empty experiment, which the environment names; artifacts go there too."""
    monkeypatch.chdir(database.parent)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    mlflow.set_tracking_uri(None)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", request.node.name)
    return database.parent


def record(tracking: Tracking) -> None:
    """What a training of two adapters, two steps each, sends."""
    for number in range(2):
        curve = CurveRecorder(tracking, 2 * number)
        for step in (1, 2):
            state = SimpleNamespace(global_step=step)
            curve.on_log(
                None, state, None, {"loss": 1.0 / step, "learning_rate": 1e-3, "grad_norm": math.inf, "epoch": 1}
            )
            curve.on_log(None, state, None, {"validation_loss": 2.0, "primary_metric": 0.5, "right": {"refund": 1}})
    tracking.diagnosis([FOUND])


def only_run() -> mlflow.entities.Run:
    (run,) = mlflow.search_runs(output_format="list")
    return run


def test_settings_curve_and_diagnosis_are_recorded(store: Path) -> None:
    with tracked(make_spec(train={"lr": 0.002})) as tracking:
        record(tracking)
    run = only_run()
    assert run.info.status == "FINISHED"
    assert run.data.params["train.lr"] == "0.002"
    assert run.data.params["train.lora.r"] == "16"
    losses = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    assert [(m.step, m.value) for m in losses] == [(1, 1.0), (2, 0.5), (3, 1.0), (4, 0.5)]
    assert run.data.metrics["accuracy"] == 0.5
    assert "grad_norm" not in run.data.metrics, "what is no number has no place in a curve"
    assert run.data.tags["tunewright.diagnosis"] == "T005"
    assert run.data.tags["tunewright.T005"] == "overfitting"
    (artifact,) = store.rglob("diagnosis.json")
    assert json.loads(artifact.read_text("utf-8")) == {"diagnoses": [vars(FOUND)]}


def test_a_training_that_fails_is_recorded_as_failed(store: Path) -> None:  # noqa: ARG001
    with pytest.raises(KeyboardInterrupt), tracked(make_spec()):
        raise KeyboardInterrupt
    assert only_run().info.status == "FAILED"


def test_a_run_that_is_open_is_used_and_left_open(store: Path) -> None:  # noqa: ARG001
    with mlflow.start_run() as theirs:
        with tracked(make_spec()) as tracking:
            record(tracking)
        assert mlflow.active_run() is not None
    assert only_run().info.run_id == theirs.info.run_id
    assert only_run().data.tags["tunewright.diagnosis"] == "T005"


def test_no_secret_of_the_environment_is_recorded(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    with tracked(make_spec()) as tracking:
        record(tracking)
    files = [path for path in store.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert not [value for value in SECRETS.values() if value.encode() in path.read_bytes()]


def test_a_server_that_is_away_costs_one_line_that_shows_no_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://someone:hidden-4@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(None)
    with tracked(make_spec()) as tracking:
        record(tracking)
    said = capsys.readouterr().err
    assert said.count("MLflow does not answer") == 1
    assert "hidden-4" not in said


def test_without_a_server_mlflow_is_not_even_imported() -> None:
    code = (
        "import sys; from tests.conftest import make_spec; from tunewright.training.loop.tracking import tracked\n"
        "with tracked(make_spec()) as tracking: tracking.diagnosis([])\n"
        "print('mlflow' in sys.modules)"
    )
    done = python("-c", code, MLFLOW_TRACKING_URI="")
    assert done.stdout == "False\n", done.stderr


def test_a_server_without_the_extra_is_refused_before_anything_is_paid_for() -> None:
    code = (
        "import sys; sys.modules['mlflow'] = None\n"
        "from tests.conftest import make_spec; from tunewright.training.loop.tracking import tracked\n"
        "with tracked(make_spec()): pass"
    )
    done = python("-c", code, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert "pip install 'tunewright[mlflow]'" in done.stderr
