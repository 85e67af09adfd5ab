"""Trains one encoder with transformers' Trainer, on batches of texts with about the same length."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Sampler
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

from tunewright.config import Spec
from tunewright.inference.runtimes.torch_model import compute_type
from tunewright.models.encoders import LocalEncoder
from tunewright.training.encoders.dropout import give_fast_dropout, give_fast_gradients
from tunewright.training.encoders.network import EncoderVocabulary, Network
from tunewright.training.encoders.objectives import Objective
from tunewright.training.encoders.passes import filled_up
from tunewright.training.loop.encode import Row, weights_of

_MIXED = 50
"""Batches among which texts are sorted by their length: with more there would be less padding, and less mixing."""
_SHORT = 256
"""Up to so many tokens attention is computed as plain matrix products: torch's fused kernel for CPUs took a quarter
of a step on texts of 14 tokens, and plain products take a twentieth. For longer texts they would need too much
memory."""

_LAYER = re.compile(r"\blayers?\.(\d+)\.")
"""A layer's number in the name of its weight, for any architecture."""


@dataclass
class EncoderEngine:
    """The batches that an encoder trains on; the counterpart of
    `tunewright.training.engine.fast_paths.TrainingEngine`."""

    padding: int
    objective: Objective
    reasons: dict[str, str] = field(default_factory=dict)

    def collate(self, rows: Sequence[Row]) -> dict[str, Any]:
        """A batch: `input_ids` and `attention_mask` [rows, tokens], the targets as `labels` [rows, …], and `weights`
        [rows] if rows have some."""
        batch = filled_up([row["input_ids"] for row in rows], self.padding) | {"labels": self.objective.gold(rows)}
        if (weights := weights_of(rows)) is not None:
            batch["weights"] = torch.tensor(weights)
        return batch


class Buckets(Sampler[list[int]]):  # type: ignore[misc, unused-ignore]
    """Samples batches of rows with about the same length, anew for each epoch.

    Args:
        lengths: length of each row, in tokens.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        self._lengths, self._size, self._seed, self._epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        return math.ceil(len(self._lengths) / self._size)

    def __iter__(self) -> Iterator[list[int]]:
        drawn = random.Random(f"{self._seed} {self._epoch}")
        order = drawn.sample(range(len(self._lengths)), len(self._lengths))
        mixed = self._size * _MIXED
        batches = []
        for start in range(0, len(order), mixed):
            part = sorted(order[start : start + mixed], key=self._lengths.__getitem__)
            batches += [part[at : at + self._size] for at in range(0, len(part), self._size)]
        drawn.shuffle(batches)
        return iter(batches)


class LengthBatches(DataLoader[Any]):  # type: ignore[misc, unused-ignore]
    def set_epoch(self, epoch: int) -> None:
        """transformers calls this when an epoch begins."""
        self.batch_sampler.set_epoch(epoch)


class EncoderTrainer(Trainer):  # type: ignore[misc, unused-ignore]
    """transformers' trainer for a `Network`.

    Args:
        head_lr: peak learning rate of the head.
        consistency: weight of the agreement between two forward passes over a text; 0: one pass.
    """

    engine: EncoderEngine

    def __init__(self, *args: Any, head_lr: float, consistency: float, **settings: Any):
        super().__init__(*args, **settings)
        self._head_lr, self._consistency = head_lr, consistency

    def compute_loss(
        self,
        model: Any,
        inputs: Any,
        return_outputs: bool = False,
        num_items_in_batch: Any = None,  # noqa: ARG002 (transformers' contract)
    ) -> Any:
        ids, mask, gold = (inputs[name] for name in ("input_ids", "attention_mask", "labels"))
        objective, weights = self.engine.objective, inputs.get("weights")
        apart = 0.0
        if not self._consistency:
            loss = objective.loss(model(ids, mask), gold, weights)
        else:
            logits = model(ids.repeat(2, 1), mask.repeat(2, 1))  # dropout differs between the halves
            twice = None if weights is None else weights.repeat(2)
            loss = objective.loss(logits, torch.cat([gold, gold]), twice)
            one, other = logits.chunk(2)
            apart = self._consistency * objective.disagreement(one, other, gold)
        by_weight = loss if weights is None else loss / weights.mean()
        loss = loss + apart
        self._to_log = (by_weight + apart).detach()
        return (loss, None) if return_outputs else loss

    def training_step(self, *arguments: Any) -> Any:
        """Train on a batch; return the loss to log. Of weighted rows that is the mean by weight, because the diagnosis
        takes a loss that heavy rows multiply for a divergence."""
        super().training_step(*arguments)
        return self._to_log

    def create_optimizer(self, *_: Any) -> Any:
        """AdamW: matrices decay. Lower layers learn more slowly if the objective says so, from layer to layer by the
        same factor (discriminative rates, Howard & Ruder 2018). The head has its own learning rate."""
        decay, lr, lowest = self.args.weight_decay, self.args.learning_rate, self.engine.objective.lowest
        embedding, layers = self.model.body.get_input_embeddings().weight, self.model.body.config.num_hidden_layers
        alike: dict[tuple[int, float], list[Any]] = {}
        for name, parameter in self.model.body.named_parameters():
            decays = parameter.ndim > 1 and parameter is not embedding
            alike.setdefault((_above(name, layers), decay if decays else 0.0), []).append(parameter)
        groups: list[dict[str, Any]] = [
            {"params": parameters, "weight_decay": decay, "lr": lr * lowest ** (above / layers)}
            for (above, decay), parameters in alike.items()
        ]
        groups.append({"params": list(self.model.head.parameters()), "weight_decay": 0.0, "lr": self._head_lr})
        self.optimizer = torch.optim.AdamW(groups, lr=lr, fused=True)
        return self.optimizer

    def get_train_dataloader(self) -> Any:
        rows, settings = self.train_dataset, self.args
        lengths = [len(row["input_ids"]) for row in rows]
        buckets = Buckets(lengths, settings.per_device_train_batch_size, settings.seed)
        return LengthBatches(rows, batch_sampler=buckets, collate_fn=self.data_collator)


def _above(name: str, layers: int) -> int:
    """Number of layers above a weight of an encoder; all layers are above the embeddings.

    Args:
        name: transformers' name of the weight.
        layers: number of the encoder's layers.
    """
    if number := _LAYER.search(name):
        return layers - 1 - int(number[1])
    return layers if "embed" in name else 0


def build_encoder_trainer(
    spec: Spec,
    base: LocalEncoder,
    objective: Objective,
    rows: Sequence[Row],
    validation_rows: Sequence[Row],
    checkpoints: Path,
    seed: int,
    steps: int,
) -> EncoderTrainer:
    """The trainer, not yet started; the objective has initialised its model's head.

    Args:
        spec: its `train` is as `tunewright.training.encoders.settings.for_encoder` gives it.
        validation_rows: the rows to measure on.
        steps: the training's optimizer steps.
    """
    set_seed(seed)
    precision = compute_type(spec.train.precision)
    network = Network.of(base, objective.outputs, half=precision == "bfloat16", per_token=objective.per_token)
    if torch.cuda.is_available():
        network.to("cuda")
    else:
        give_fast_dropout(network)
        give_fast_gradients(network.body)
        if max(len(row["input_ids"]) for row in (*rows, *validation_rows)) <= _SHORT:
            network.body.set_attn_implementation("eager")
    objective.begin(network, rows)
    network.narrow(EncoderVocabulary([row["input_ids"] for row in (*rows, *validation_rows)], network.padding))
    network.train()
    engine = EncoderEngine(network.padding, objective)
    trainer = EncoderTrainer(
        model=network,
        args=_arguments(spec, checkpoints, seed, steps, float16=precision == "float16"),
        train_dataset=[{**row, "input_ids": network.placed(row["input_ids"])} for row in rows],
        data_collator=engine.collate,
        head_lr=spec.train.encoder.head_lr,
        consistency=spec.train.encoder.consistency,
    )
    trainer.engine = engine
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(spec: Spec, checkpoints: Path, seed: int, steps: int, *, float16: bool) -> TrainingArguments:
    settings = spec.train
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        # transformers would train for more than the epochs if max_steps is larger.
        max_steps=steps if settings.max_steps else -1,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.lr,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        fp16=float16,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=False,
        prediction_loss_only=True,
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps" if settings.num_checkpoints else "no",
        save_steps=max(1, math.ceil(steps / (settings.num_checkpoints + 1))),
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
        data_seed=seed,
    )
    if arguments.n_gpu > 1:
        arguments._n_gpu = 1  # transformers would run a copy on each GPU in threads
    return arguments
