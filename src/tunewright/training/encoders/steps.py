"""The step `train` for an encoder."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from tunewright.config import Spec
from tunewright.core.artifacts import Output
from tunewright.core.errors import UserError
from tunewright.core.processes import process_count
from tunewright.core.progress import say
from tunewright.data import evenly, load_dataset
from tunewright.inference.runtimes.torch_model import compute_type
from tunewright.models.encoders import LocalEncoder
from tunewright.models.resolve import resolve_encoder
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, Task, task_of
from tunewright.training.diagnosis.history import ENCODER, TrainingFacts
from tunewright.training.encoders.beside import fit_beside
from tunewright.training.encoders.network import HEAD, Network
from tunewright.training.encoders.objectives import Objective, OneLabel, objective_of
from tunewright.training.encoders.refusals import refusal
from tunewright.training.encoders.rows import encoded, window_for
from tunewright.training.encoders.settings import for_encoder, reads_lines
from tunewright.training.encoders.trainer import build_encoder_trainer
from tunewright.training.loop.encode import IGNORED, Row
from tunewright.training.loop.soup_training import ADAPTER, Soup
from tunewright.training.loop.swapped import with_copies
from tunewright.training.loop.trainer import planned_steps
from tunewright.training.loop.validation import MOST, ValidationPart
from tunewright.training.steps import CHECKPOINTS, figures, last_kept, train_soup


def average_encoders(encoders: Sequence[Path], target: Path) -> None:
    """Write the mean of several tuned encoders as one encoder.

    Args:
        encoders: folders that `Network.save_pretrained` wrote, with the same base and labels; at least one.
    """
    shutil.copytree(encoders[0], target)
    if len(encoders) == 1:
        return
    from safetensors.torch import load_file, save_file

    for name in ("model.safetensors", HEAD):
        parts = [load_file(folder / name) for folder in encoders]
        mean = {key: sum(part[key] for part in parts) / len(parts) for key in parts[0]}
        save_file(mean, target / name, metadata={"format": "pt"})


_POOLED = {"mean": "the mean of its tokens'", "cls": "its first token's"}
_AUDITED = 2
"""Examples that the audit shows."""


def train_encoder(spec: Spec, split: Path, output: Output) -> None:
    """Train an encoder on a dataset: write `encoder/`, `curve.jsonl`, `diagnosis.json` and `audit.txt`.

    Raises:
        UserError: an encoder can't do what the spec asks for, a text is longer than it reads, or several processes run.
    """
    if process_count() > 1:
        raise UserError(
            f"{spec.model_name} is an encoder, which is trained by one process; this is one of {process_count()}.",
            why="Its steps are too small to divide.",
            fix="Type: tunewright train …  (without accelerate launch)",
        )
    training, objective = _prepared(spec, split, output.path / CHECKPOINTS)
    assert isinstance(training.base, LocalEncoder)
    audit = _audit(objective, training.rows, training.base)
    for line in audit:
        say(f"  {line}")
    trained = train_soup(training, output)
    if trained is None:
        return
    encoders, curve, diagnoses = trained
    average_encoders([encoder / ADAPTER for encoder in encoders], output.path / ENCODER)
    (output.path / "audit.txt").write_text("\n".join(audit) + "\n", "utf-8")
    measured, part = last_kept(curve, encoders), training.validation
    assert part is None or isinstance(part, EncoderPart)
    beside = None
    if part and (isinstance(objective, OneLabel) or not measured):
        network = Network.load(output.path / ENCODER)
        if isinstance(objective, OneLabel):
            tokenizer = TextTokenizer(output.path / ENCODER)
            beside = network.beside = fit_beside(network, tokenizer, training.rows, part.rows, part.examples)
        if beside:
            beside.save(output.path / ENCODER)
        if beside or not measured:
            score = part.score(network, None)
            measured = {"primary_metric": score.primary_metric, "validation_loss": score.loss}
    output.result = figures(curve, measured) | {
        "trained_parameters": _parameters(output.path / ENCODER),
        "precision": compute_type(spec.train.precision),
        "processes": 1,
        "left_out": {},
        "tokens": sum(len(row["input_ids"]) for row in training.rows),
        "diagnosis": [each.code for each in diagnoses],
        "longest_answer": 0,
        "linear_beside": bool(beside),
        "batch_size": training.spec.train.batch_size,
    }
    # Last, so that an error above does not cost the training.
    shutil.rmtree(training.home)


def prepare_encoder(spec: Spec, split: Path, home: Path) -> Soup:
    """Encode the dataset in `split`; as `tunewright.training.loop.prepare.prepare`."""
    return _prepared(spec, split, home)[0]


def _prepared(spec: Spec, split: Path, home: Path) -> tuple[Soup, Objective]:
    if error := refusal(spec):
        raise error
    base, task, dataset = resolve_encoder(spec.model, spec.folder), task_of(spec.task), load_dataset(split)
    spec = for_encoder(spec, len(dataset.train))
    base = replace(base, line_ends=reads_lines(spec, dataset.train))
    tokenizer, (window, key) = base.tokenizer(), window_for(spec, base.window)
    task = task.within(window - tokenizer.frame)
    objective = objective_of(task, spec.train.encoder, dataset.train, tokenizer)
    rows_read = with_copies(spec, dataset.train)
    train, validation = (
        objective.training_examples(rows_read),
        evenly(objective.training_examples(dataset.validation), MOST),
    )
    # A text teaches nothing if no value was found in it and no token is known to have none.
    rows = [row for row in encoded(train, objective, tokenizer, window, key) if set(row["labels"]) != {IGNORED}]
    if len(train) > len(rows_read):
        say(f"  texts longer than {window} tokens are split into windows: {len(train)} instead of {len(rows_read)}")
    if len(rows) < len(train):
        say(f"  {len(train) - len(rows)} texts teach nothing: they contain none of their values")
    validation_rows = encoded(validation, objective, tokenizer, window, key)
    part = EncoderPart(validation, validation_rows, task, objective, spec) if validation else None
    learnt = fmean(sum(label != IGNORED for label in row["labels"]) for row in rows)
    facts = TrainingFacts.of(
        task,
        [each.answer for each in train],
        [each.answer for each in validation],
        rows,
        learnt,
        part.groups if part else [],
    )

    def build(soup: Soup, checkpoints: Path, seed: int) -> Any:
        steps, own = planned_steps(soup.spec, len(rows)), copy(objective)
        own.smoothing = soup.spec.train.encoder.label_smoothing  # each trial of a sweep has another one
        return build_encoder_trainer(soup.spec, base, own, rows, validation_rows, checkpoints, seed, steps)

    return Soup(spec, base, rows, part, facts, home, build), objective


class EncoderPart(ValidationPart):
    """The examples that an encoder is measured on during training; arguments as for `ValidationPart`."""

    def __init__(self, examples: Sequence[Example], rows: Sequence[Row], task: Task, objective: Objective, spec: Spec):
        super().__init__(examples, rows, [], None, task, spec.train)
        self._objective, self.rows, self.examples = objective, rows, examples

    def _measured(self, model: Network, engine: Any, which: slice) -> tuple[list[str], list[float]]:  # noqa: ARG002 (the same in every part)
        return self._objective.answered(model, self.rows[which])


def _audit(objective: Objective, rows: Sequence[Row], base: LocalEncoder) -> list[str]:
    """The audit's lines: the first rows as the encoder reads them, the texts' lengths, the rarest target, and how a
    text becomes one vector if it does."""
    tokenizer = base.tokenizer()
    pooled = [] if objective.per_token else [f"a text's vector is {_POOLED[base.pooling]}"]
    lines = [f"{tokenizer.decode(row['input_ids'])} → {objective.describe(row)}" for row in rows[:_AUDITED]]
    lengths = sorted(len(row["input_ids"]) for row in rows)
    p95 = lengths[math.ceil(0.95 * len(lengths)) - 1]
    return [
        *lines,
        f"texts have up to {lengths[-1]} tokens, 95 % of them at most {p95}; {objective.rarest(rows)}",
        *pooled,
    ]


def _parameters(folder: Path) -> int:
    with (folder / "model.safetensors").open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sum(math.prod(each["shape"]) for name, each in header.items() if name != "__metadata__")
