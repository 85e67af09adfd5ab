"""A sweep's proposed settings and the specs made of them; no model is trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.trial import FixedTrial

from tests.conftest import LABELS, make_spec, spec_data
from tests.fixtures.encoders import write_encoder
from tunewright.config import parse_spec
from tunewright.core.artifacts import write_jsonl
from tunewright.data import Dataset
from tunewright.data.dataset import save_dataset
from tunewright.tasks import Example, Meta
from tunewright.training.encoders.settings import for_encoder
from tunewright.training.loop import sweep
from tunewright.training.loop.validation import SCORES


def test_an_encoders_trial_has_its_own_settings_and_can_be_typed() -> None:
    spec = for_encoder(make_spec(train={"encoder": {"epochs": 4}, "num_seeds": 3}), 0)
    drawn = {"lr": 6.04e-4, "head_lr": 1e-2, "epochs": 0.5, "label_smoothing": 0.1}
    overrides = sweep._encoder_settings(FixedTrial(drawn), spec)
    assert sweep.written(overrides) == (
        "train.encoder.lr=0.0006 train.encoder.head_lr=0.01 train.encoder.epochs=2 train.encoder.label_smoothing=0.1"
    )
    proposed = sweep._with_settings(spec, overrides).train
    assert (proposed.lr, proposed.epochs, proposed.batch_size, proposed.num_seeds) == (6e-4, 2, 32, 1)
    typed = parse_spec(json.dumps(spec_data()), Path("/nowhere/tunewright.yaml"), sweep.written(overrides).split())
    assert proposed.encoder == for_encoder(typed, 0).train.encoder


@pytest.mark.model
def test_an_encoders_trial_is_trained_with_its_own_label_smoothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from tunewright.training.encoders import steps

    examples = [Example.of(f"{label} {n}", label, Meta(id=f"{label} {n}")) for label in LABELS for n in range(4)]
    save_dataset(tmp_path / "split", Dataset(examples, [], {"test": examples}))
    spec = make_spec(tmp_path, model=str(write_encoder("bert", tmp_path / "bert")))
    soup = steps.prepare_encoder(spec, tmp_path / "split", tmp_path)
    objectives: list[Any] = []
    monkeypatch.setattr(steps, "build_encoder_trainer", lambda *arguments: objectives.append(arguments[2]))
    drawn = {"lr": 6e-4, "head_lr": 1e-2, "epochs": 0.5}
    for smoothing in (0.0, 0.1):
        overrides = sweep._encoder_settings(FixedTrial(drawn | {"label_smoothing": smoothing}), soup.spec)
        trial = replace(soup, spec=sweep._with_settings(soup.spec, overrides))
        trial.build(trial, tmp_path, 0)
    logits, gold = torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([0])
    plain, smoothed = (float(each.loss(logits, gold)) for each in objectives)
    assert smoothed - plain == pytest.approx(0.1 * 6)


def test_an_adapters_trial_sets_its_keys() -> None:
    spec = make_spec()
    drawn = {"r": 32, "scale": 2.0, "lr": 1e-3, "epochs": 2.0}
    proposed = sweep._with_settings(spec, sweep._adapter_settings(FixedTrial(drawn), spec)).train
    assert (proposed.lora.r, proposed.lora.alpha, proposed.lr, proposed.epochs) == (32, 64, 1e-3, 4)
    assert proposed.encoder == spec.train.encoder


def test_a_trial_that_starts_from_an_adapter_keeps_its_shape() -> None:
    spec = make_spec(train={"init_adapter": "before/adapter", "lora": {"r": 8, "alpha": 24}, "num_seeds": 3})
    overrides = sweep._adapter_settings(FixedTrial({"lr": 1e-3, "epochs": 2.0}), spec)
    assert sweep.written(overrides) == "train.lr=0.001 train.epochs=4"
    proposed = sweep._with_settings(spec, overrides).train
    assert (proposed.lora, proposed.lr, proposed.epochs, proposed.num_seeds) == (spec.train.lora, 1e-3, 4, 1)


@pytest.mark.parametrize(("best", "groups"), [(1.0, 40), (0.9, 40), (0.9, 400), (0.9, 20)])
def test_trials_that_are_as_good_seldom_differ_by_more_than_the_noise(best: float, groups: int) -> None:
    """The examples of a group are right or wrong together, and the trials err independently of each other."""
    noise = sweep.Sweep([sweep.SweepTrial({}, "complete", best, 0.1)], "accuracy", 400, groups).noise
    of_each = np.random.default_rng(0).binomial(groups, best - noise / 2, (20_000, 2)) / groups
    assert np.mean(of_each[:, 0] - of_each[:, 1] > noise) < 0.05
    assert noise > 1 / groups


def test_a_trial_is_the_measurement_that_a_training_keeps(tmp_path: Path) -> None:
    """The last one lost a group of 25, which is chance."""
    scores = [[1.0] * 500, [0.0] * 25 + [1.0] * 475]
    rows = [
        {"step": step, "scores": of, "losses": [0.1] * 500, "tokens": 500} for step, of in enumerate(scores, start=1)
    ]
    (tmp_path / "member-0").mkdir()
    write_jsonl(tmp_path / "member-0" / SCORES, rows)
    assert sweep._score(tmp_path, [f"g{n // 25}" for n in range(500)]).primary_metric == 0.95
    assert sweep._score(tmp_path, [str(n) for n in range(500)]).primary_metric == 1.0
