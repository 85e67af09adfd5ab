"""A bundle with a model of three labels, made without fitting one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.conftest import LABELS, make_spec
from tunewright.exporters.bundle import write_linear_bundle
from tunewright.inference.calibration import UNCALIBRATED, save_calibration
from tunewright.models.linear_model import LINEAR, LinearModel, Ngrams


def linear_bundle(folder: Path) -> Path:
    known = Ngrams.of(["my parcel", "a refund"])
    weight = np.random.default_rng(0).normal(size=(len(known), len(LABELS))).astype(np.float32)
    model = LinearModel(
        known, np.ones(len(known), np.float32), weight, np.zeros(len(LABELS), np.float32), tuple(LABELS)
    )
    model.save(folder / LINEAR)
    write_linear_bundle(make_spec(model=LINEAR), folder)
    save_calibration(UNCALIBRATED, folder)
    return folder
