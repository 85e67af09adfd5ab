"""A sweep's proposed settings and the specs made of them; no model is trained."""

from __future__ import annotations

import json
from pathlib import Path

from optuna.trial import FixedTrial

from tests.conftest import make_spec, spec_data
from tunewright.config import parse_spec
from tunewright.training.encoders.settings import for_encoder
from tunewright.training.loop import sweep


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


def test_an_adapters_trial_sets_its_keys() -> None:
    spec = make_spec()
    drawn = {"r": 32, "scale": 2.0, "lr": 1e-3, "epochs": 2.0}
    proposed = sweep._with_settings(spec, sweep._adapter_settings(FixedTrial(drawn), spec)).train
    assert (proposed.lora.r, proposed.lora.alpha, proposed.lr, proposed.epochs) == (32, 64, 1e-3, 4)
    assert proposed.encoder == spec.train.encoder
