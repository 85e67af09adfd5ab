"""The step `train`: what is trained, and by which part of this package, hangs on the kind of the base model.

Each part is imported where it is needed, because a linear model needs no torch and is fitted before that is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.artifacts import Output
from tunewright.models.resolve import kind_of


def run_train(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Dataset -> an adapter (`adapter/`), a tuned encoder (`encoder/`) or a linear model (`linear/`), and how it came
    about: `curve.jsonl`, `diagnosis.json` and `audit.txt`. It resumes from the last checkpoint, where there are any.
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
