"""The candidates that an encoder or a linear model is before it is served: as it was trained, and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tunewright.evaluate.calibration import load_calibration
from tunewright.evaluate.comparison import ENCODER, EXPORTED, FITTED
from tunewright.evaluate.evidence import collect
from tunewright.evaluate.predictors.encoder import encoder_predictor
from tunewright.models.encoder_model import EncoderModel
from tunewright.models.linear_model import LINEAR, LinearModel
from tunewright.models.resolve import resolve_encoder
from tunewright.models.runtime import FOLDERS, runtime_in
from tunewright.models.tokenizer import TextTokenizer
from tunewright.spec import Spec
from tunewright.tasks import Example, Task, task_of
from tunewright.train import history


def ask_encoder(spec: Spec, inputs: Mapping[str, Path], tests: Mapping[str, Sequence[Example]],
                answers: Path) -> None:  # fmt: skip
    """Write the answers of each that are not there yet; a text is read whole, whatever its length."""
    base, bundle, task = resolve_encoder(spec.model, spec.folder), inputs["export"] / "bundle", task_of(spec.task)
    tuned = inputs["train"] / history.ENCODER
    tokenizer, calibration = TextTokenizer(tuned), load_calibration(bundle)
    if not (answers / f"{ENCODER}.jsonl").exists():
        from tunewright.models.torch_model import quiet_libraries
        from tunewright.train.encoders.network import Network
        from tunewright.train.encoders.passes import logits_of

        quiet_libraries()
        network = Network.load(tuned)
        asked = encoder_predictor(lambda texts: logits_of(network, texts).numpy(), task, tokenizer, calibration)
        collect(ENCODER, asked, task, tests, answers, together=asked)
    model = EncoderModel(bundle / FOLDERS[runtime_in(bundle)], context=base.window)
    collect(EXPORTED, encoder_predictor(model.logits, task, tokenizer, calibration), task, tests, answers)


def ask_linear(inputs: Mapping[str, Path], task: Task, tests: Mapping[str, Sequence[Example]], answers: Path) -> None:
    """As `ask_encoder`, of a linear model."""
    bundle = inputs["export"] / "bundle"
    for key, folder in ((FITTED, inputs["train"] / LINEAR), (EXPORTED, bundle / FOLDERS[LINEAR])):
        model = LinearModel.load(folder)
        asked = encoder_predictor(model.logits, task, model.ngrams, load_calibration(bundle))
        collect(key, asked, task, tests, answers)
