"""From a dataset and a spec to what adapters are trained from: audited rows, and the part that measures them."""

from __future__ import annotations

import json
from pathlib import Path

from tunewright.data import load_dataset
from tunewright.errors import UserError
from tunewright.models.resolve import resolve
from tunewright.models.tokenizer import TextTokenizer
from tunewright.spec import Spec
from tunewright.tasks import task_of
from tunewright.train.encode import encode_examples
from tunewright.train.member import Members
from tunewright.train.validation import ValidationPart


def prepare(spec: Spec, split: Path, home: Path) -> Members:
    """Encode the dataset in `split`.

    Args:
        home: where the adapters are to be trained.

    Raises:
        UserError: an example is too long or would teach something else than its answer.
    """
    base, settings = resolve(spec.model, spec.folder), spec.train
    _check_window(base.folder, settings.max_length)
    dataset = load_dataset(split)
    tokenizer = TextTokenizer(base.folder)
    task = task_of(spec.task).fitted(tokenizer.encode_verbatim)
    train, validation = (
        encode_examples(examples, task, base.template, tokenizer, settings.max_length, settings.loss)
        for examples in (dataset.train, dataset.validation)
    )
    part = ValidationPart(dataset.validation, validation, task, base.template, tokenizer) if validation else None
    return Members(spec, base, train, part, home)


def _check_window(folder: Path, max_length: int) -> None:
    """Refuse examples that could be longer than a sliding window, because ONNX serving sees every token."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if window and window < max_length:
        raise UserError(
            f"train.max_length = {max_length} is longer than this model's attention window of {window} tokens.",
            where=folder,
            why="It would be served with another view of long requests than it was trained with.",
            fix=f"Type: tunewright run … train.max_length={window}",
        )
