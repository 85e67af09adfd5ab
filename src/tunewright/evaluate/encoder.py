"""The candidates that an encoder is before it is served: as it was trained, in torch, and exported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tunewright.evaluate.calibration import load_calibration
from tunewright.evaluate.comparison import ENCODER, EXPORTED
from tunewright.evaluate.evidence import collect
from tunewright.evaluate.predictors import LabelClassifier
from tunewright.models.encoder_model import EncoderModel
from tunewright.models.resolve import resolve_encoder
from tunewright.models.runtime import FOLDERS, runtime_in
from tunewright.models.tokenizer import TextTokenizer
from tunewright.spec import Spec
from tunewright.tasks import Example, task_of
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
        asked = LabelClassifier(lambda texts: logits_of(network, texts).numpy(), task, tokenizer, calibration)
        collect(ENCODER, asked, task, tests, answers, together=asked)
    model = EncoderModel(bundle / FOLDERS[runtime_in(bundle)], context=base.window)
    collect(EXPORTED, LabelClassifier(model.logits, task, tokenizer, calibration), task, tests, answers)
