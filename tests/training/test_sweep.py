"""The sweep on a tiny model: what is tried, what is told, and that it goes on where it was interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tests.conftest import tunewright, write_project
from tunewright.core.errors import UserError
from tunewright.training.diagnosis.history import CURVE
from tunewright.training.loop import sweep
from tunewright.training.loop.soup_training import Soup
from tunewright.training.loop.validation import SCORES, ValidationPart

pytestmark = [pytest.mark.model, pytest.mark.usefixtures("forked_steps")]


@pytest.fixture
def project(make_tiny_model: Callable[[str], tuple[str, Path]], tmp_path: Path) -> Path:
    _, model = make_tiny_model("llama3")
    train = {"batch_size": 16, "epochs": 1, "lr": 0.003, "max_length": 512, "num_evaluations": 2, "num_checkpoints": 1}
    return write_project(tmp_path / "project", model=str(model), train=train)


def test_a_sweep_prints_its_trials_and_the_settings_to_type(project: Path) -> None:
    done = tunewright("train", str(project), "--sweep", "--trials", "2", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert len(told["trials"]) == 2
    assert told["trials"][0]["primary_metric"] >= told["trials"][1]["primary_metric"]
    (folder,) = project.glob("runs/sweep-*")
    assert json.loads((folder / "sweep.json").read_text("utf-8")) == told
    again = tunewright("train", str(project), "--sweep", "--trials", "2")
    assert again.returncode == 0, again.stderr
    assert "[1/2] train." not in again.stderr, "trials that were run are not run again"
    settings = " ".join(f"{key}={value:g}" for key, value in told["trials"][0]["overrides"].items())
    assert f"The best: tunewright train … {settings}" in again.stdout
    assert tw.load_spec(project, settings.split()).train.lr == told["trials"][0]["overrides"]["train.lr"]


def test_an_interrupted_trial_goes_on_with_the_same_settings(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measure, calls = ValidationPart.score, []

    def interrupted(self: ValidationPart, *arguments: Any, **named: Any) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return measure(self, *arguments, **named)

    monkeypatch.setattr(ValidationPart, "score", interrupted)
    spec = tw.load_spec(project)
    with pytest.raises(KeyboardInterrupt):
        tw.sweep(spec, trials=2)
    (started,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("[2/2] train.")]
    monkeypatch.undo()
    found = tw.sweep(spec, trials=2)
    told = capsys.readouterr().err.splitlines()
    assert started in told
    assert not any(line.startswith("[1/2] train.") for line in told)
    assert any("resuming from" in line for line in told)
    assert [trial.state for trial in found.trials] == ["complete"] * 2


def test_a_trial_stopped_at_its_first_measurement_is_shown_with_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import optuna

    monkeypatch.setattr(optuna.trial.Trial, "should_prune", lambda trial: trial.number == 1)
    found = tw.sweep(tw.load_spec(project), trials=2)
    assert [trial.state for trial in found.trials] == ["complete", "pruned"]
    assert found.trials[1].primary_metric is not None
    assert tw.sweep(tw.load_spec(project), trials=2) == found


def test_trials_of_several_calls_are_not_the_same_again(project: Path) -> None:
    spec = tw.load_spec(project, ["train.max_steps=2", "train.num_evaluations=1"])
    tw.sweep(spec, trials=1)
    first, second = tw.sweep(spec, trials=2).trials
    assert first.overrides != second.overrides


def test_of_a_trial_that_has_ended_only_its_figures_stay(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained, train = [], Soup.train

    def counted(self: Soup, *arguments: Any) -> Path:
        trained.append(self.home)
        return train(self, *arguments)

    monkeypatch.setattr(Soup, "train", counted)
    monkeypatch.setattr(sweep, "_adapter_settings", lambda *_: {"train.lr": 0.002, "train.epochs": 1.0})
    spec = tw.load_spec(project, ["train.max_steps=2", "train.num_evaluations=1"])
    first, second = tw.sweep(spec, trials=2).trials
    assert first == second
    assert len(trained) == 1, "a trial with the same settings takes the first one's result"
    (folder,) = project.glob("runs/sweep-*/trials/*/member-0")
    assert not [path for path in folder.iterdir() if path.is_dir()]
    assert {SCORES, CURVE} <= {path.name for path in folder.iterdir()}


def test_a_sweep_without_a_validation_part_is_refused(project: Path) -> None:
    with pytest.raises(UserError, match="validation part"):
        tw.sweep(tw.load_spec(project, ["data.validation_fraction=0"]), trials=1)


def test_a_trial_whose_loss_is_no_number_has_failed_and_is_not_run_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    spec = tw.load_spec(project)
    file = Path(spec.model) / "model.safetensors"
    sound = file.read_bytes()
    weights = load_file(file)
    weights["model.norm.weight"][0] = float("nan")
    save_file(weights, file, metadata={"format": "pt"})
    try:
        (trial,) = tw.sweep(spec, trials=1).trials
        told = capsys.readouterr().err
        assert (trial.state, trial.primary_metric, trial.loss) == ("failed", None, None)
        assert "failed: The training can't go on. T009" in told
        assert tw.sweep(spec, trials=1).trials == [trial]
        assert "[1/1]" not in capsys.readouterr().err
    finally:
        file.write_bytes(sound)  # other tests use the same model
