"""The step `train`: the kind of the base model decides which part of this package trains.

Each part is imported only when it is needed: a linear model needs no torch.

Each part is imported where it is needed, because a linear model needs no torch and is fitted before that is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import Output
from tunewright.models.resolve import kind_of


def run_train(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Train on a dataset: write an adapter (`adapter/`), a tuned encoder (`encoder/`) or a linear model (`linear/`),
    with `curve.jsonl`, `diagnosis.json` and `audit.txt`. The training resumes from its last checkpoint, if there is
    one.
    """
    match kind_of(spec.model, spec.folder):
        case "linear":
            from tunewright.training.linear import train_linear

            train_linear(spec, inputs["split"], output)
        case "encoder":
            from tunewright.core.progress import quiet_libraries

            quiet_libraries()
            from tunewright.training.encoders.steps import train_encoder

            train_encoder(spec, inputs["split"], output)
        case "decoder":
            from tunewright.training.steps import train_adapter

            train_adapter(spec, inputs["split"], output)
