"""The step `train`, of an encoder."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch.nn import functional as F

from tunewright.artifacts import Output
from tunewright.data import Dataset, evenly, load_dataset
from tunewright.errors import UserError
from tunewright.models.encoders import LocalEncoder, require_labels
from tunewright.models.resolve import resolve_encoder
from tunewright.models.tokenizer import TextTokenizer
from tunewright.models.torch_model import compute_type
from tunewright.progress import say
from tunewright.spec import Spec
from tunewright.tasks import Example, Task, task_of
from tunewright.train.encode import Row
from tunewright.train.encoders.network import Network
from tunewright.train.encoders.soup import average_encoders
from tunewright.train.encoders.trainer import build_encoder_trainer, logits_of
from tunewright.train.history import ENCODER, Facts
from tunewright.train.member import ADAPTER, Members
from tunewright.train.steps import CHECKPOINTS, last_kept, train_members
from tunewright.train.trainer import planned_steps
from tunewright.train.validation import MOST, ValidationPart

_AUDITED = 2
"""Examples that are shown as the encoder reads them."""


def train_encoder(spec: Spec, split: Path, output: Output) -> None:
    """Dataset -> `encoder/`, `curve.jsonl`, `diagnosis.json` and `audit.txt`.

    Raises:
        UserError: the task is none that an encoder does, or a text is longer than it reads.
    """
    spec = spec.model_copy(update={"train": spec.train.for_encoder()})
    base, task = resolve_encoder(spec.model, spec.folder), task_of(spec.task)
    require_labels(base.name, task.kind)
    dataset, tokenizer = load_dataset(split), TextTokenizer(base.folder)
    training = _prepared(spec, base, task, dataset, tokenizer, output.path / CHECKPOINTS)
    audit = _audit(dataset.train, training.rows, tokenizer)
    for line in audit:
        say(f"  {line}")
    made = train_members(training, output)
    if made is None:
        return
    members, curve, found = made
    average_encoders([member / ADAPTER for member in members], output.path / ENCODER)
    (output.path / "audit.txt").write_text("\n".join(audit) + "\n", "utf-8")
    measured, losses = last_kept(curve, members), [row["loss"] for row in curve if "loss" in row]
    if training.validation and not measured:
        network = Network.load(output.path / ENCODER)
        score = training.validation.score(network, None)
        measured = {"headline": score.headline, "validation_loss": score.loss}
    output.result = {
        "steps": len(losses),
        "first_loss": round(losses[0], 4),
        "last_loss": round(losses[-1], 4),
        "validation_headline": measured["headline"] if measured else None,
        "validation_loss": measured["validation_loss"] if measured else None,
        "trained_parameters": _parameters(output.path / ENCODER),
        "precision": compute_type(spec.train.precision),
        "processes": 1,
        "left_out": {},
        "tokens": sum(len(row["input_ids"]) for row in training.rows),
        "diagnosis": [each.code for each in found],
        "longest_answer": 0,
    }
    # Last, so that whatever goes wrong before loses no training.
    shutil.rmtree(training.home)


def encoded(examples: Sequence[Example], task: Task, tokenizer: TextTokenizer, most: int, key: str) -> list[Row]:
    """A row for each example: what the encoder reads, and the number of its label.

    Args:
        most: tokens that a text may have.
        key: what limits them, for the error.

    Raises:
        UserError: a text is longer.
    """
    numbers = {label: number for number, label in enumerate(task.answers)}
    rows: list[Row] = [
        {"input_ids": tokenizer.encode_framed(example.request), "labels": [numbers[example.answer]]}
        for example in examples
    ]
    lengths = [len(row["input_ids"]) for row in rows]
    if too_long := [length for length in lengths if length > most]:
        longest = examples[lengths.index(max(lengths))]
        raise UserError(
            f"{len(too_long)} of {len(examples)} texts are longer than {key} = {most} tokens.",
            where=longest.meta.source,
            why=f"The longest has {max(lengths)}. What is cut off may be what decides, so nothing is cut.",
            fix="Shorten these texts, or choose an encoder that reads more: tunewright models ls",
        )
    return rows


def _prepared(spec: Spec, base: LocalEncoder, task: Task, dataset: Dataset, tokenizer: TextTokenizer,
              home: Path) -> Members:  # fmt: skip
    window = min(base.window, spec.train.max_length)
    key = "train.max_length" if window < base.window else f"the window of {base.name}"
    rows = encoded(dataset.train, task, tokenizer, window, key)
    some = evenly(dataset.validation, MOST)
    held = encoded(some, task, tokenizer, window, key)
    part = EncoderPart(some, held, task, spec) if some else None
    facts = Facts.of(task, [each.answer for each in dataset.train], [each.answer for each in some], rows, 1,
                     part.groups if part else [])  # fmt: skip

    def build(members: Members, checkpoints: Path, seed: int) -> Any:
        steps = planned_steps(members.spec, len(rows))
        return build_encoder_trainer(members.spec, base, task.answers, rows, held, checkpoints, seed, steps)

    return Members(spec, base, rows, part, facts, home, build)


class EncoderPart(ValidationPart):
    """The examples an encoder in training is measured on; arguments as of `ValidationPart`."""

    def __init__(self, examples: Sequence[Example], rows: Sequence[Row], task: Task, spec: Spec):
        super().__init__(examples, rows, [], None, task, spec.train)

    def _measured(self, model: Network, engine: Any, which: slice) -> tuple[list[str], list[float]]:  # noqa: ARG002 (as of every part)
        import torch

        rows = self._rows[which]
        logits = logits_of(model, [model.placed(row["input_ids"]) for row in rows])
        gold = torch.tensor([row["labels"][0] for row in rows])
        losses = F.cross_entropy(logits, gold, reduction="none").tolist()
        return [model.labels[number] for number in logits.argmax(1).tolist()], losses


def _audit(examples: Sequence[Example], rows: Sequence[Row], tokenizer: TextTokenizer) -> list[str]:
    """The first rows as the encoder reads them, and how many tokens are learnt from."""
    lines = [
        f"{tokenizer.decode(row['input_ids'])} → {example.answer}"
        for example, row in list(zip(examples, rows, strict=True))[:_AUDITED]
    ]
    lengths = sorted(len(row["input_ids"]) for row in rows)
    at = lengths[math.ceil(0.95 * len(lengths)) - 1]
    count = Counter(example.answer for example in examples)
    rarest = min(count, key=lambda label: count[label])
    return [
        *lines,
        f"texts have up to {lengths[-1]} tokens, 95 % of them at most {at}; the rarest label, {rarest}, has "
        f"{count[rarest]}",
    ]


def _parameters(folder: Path) -> int:
    with (folder / "model.safetensors").open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sum(math.prod(each["shape"]) for name, each in header.items() if name != "__metadata__")
