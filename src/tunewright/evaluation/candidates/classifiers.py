"""The candidates of an encoder or a linear model before it is served: as trained, and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tunewright.config import Spec
from tunewright.core.limits import MOST_NGRAMS
from tunewright.evaluation.evidence import collect
from tunewright.evaluation.verdict.comparison import ENCODER, EXPORTED, FITTED
from tunewright.inference.calibration import UNCALIBRATED, Calibration, load_calibration
from tunewright.inference.predictors import EncoderPredictor, encoder_predictor
from tunewright.inference.runtimes.base import FOLDERS, ClassifyingRuntime, load_runtime, runtime_in
from tunewright.models.linear_model import LINEAR, LinearModel
from tunewright.models.resolve import resolve_encoder
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, Task, task_of
from tunewright.training.diagnosis import history


def ask_encoder(spec: Spec, inputs: Mapping[str, Path], tests: Mapping[str, Sequence[Example]], answers: Path) -> None:
    """Write the answers of the trained and the exported encoder, where they are missing."""
    from tunewright.training.encoders.network import Network
    from tunewright.training.encoders.rows import window_for

    base, bundle, task = resolve_encoder(spec.model, spec.folder), inputs["export"] / "bundle", task_of(spec.task)
    tuned, calibration = inputs["train"] / history.ENCODER, load_calibration(bundle)
    window, _ = window_for(spec, base.window)
    if not (answers / f"{ENCODER}.jsonl").exists():
        trained = trained_encoder(tuned, task, window, calibration)
        collect(ENCODER, trained, task, tests, answers, together=trained)
    # The model reads the text of a label whole, whatever its length.
    tokenizer = TextTokenizer(tuned)
    model = load_runtime(runtime_in(bundle), bundle, context=base.window, tokenizer=tokenizer)
    assert isinstance(model, ClassifyingRuntime)
    labels, habits = Network.labels_in(tuned), Network.habits_in(tuned)
    exported = encoder_predictor(model.logits, task, tokenizer, labels, window, calibration, habits)
    collect(EXPORTED, exported, task, tests, answers)


def trained_encoder(tuned: Path, task: Task, context: int, calibration: Calibration = UNCALIBRATED) -> EncoderPredictor:
    """The predictor of a tuned encoder's folder, in torch.

    Args:
        context: tokens that it reads at once.
    """
    from tunewright.core.progress import quiet_libraries
    from tunewright.training.encoders.network import Network
    from tunewright.training.encoders.passes import rows_of

    quiet_libraries()
    network = Network.load(tuned)
    return encoder_predictor(
        lambda texts: [row.numpy() for row in rows_of(network, texts)],
        task,
        TextTokenizer(tuned),
        network.labels,
        context,
        calibration,
        network.habits,
    )


def ask_linear(inputs: Mapping[str, Path], task: Task, tests: Mapping[str, Sequence[Example]], answers: Path) -> None:
    """Write the answers of the fitted and the exported linear model, where they are missing."""
    bundle = inputs["export"] / "bundle"
    for key, folder in ((FITTED, inputs["train"] / LINEAR), (EXPORTED, bundle / FOLDERS[LINEAR])):
        model = LinearModel.load(folder)
        calibration = load_calibration(bundle)
        predictor = encoder_predictor(model.logits, task, model.ngrams, model.labels, MOST_NGRAMS, calibration)
        collect(key, predictor, task, tests, answers)
