"""Trains the models of a soup, each to its end and through interruptions: from its last checkpoint, or not at all if it
is finished.

A model is an adapter or a whole encoder; either is saved as a folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunewright.config import Spec
from tunewright.core.artifacts import write_jsonl
from tunewright.core.processes import is_leader
from tunewright.core.progress import Tracker, say
from tunewright.inference.runtimes.torch_model import compute_type
from tunewright.models.encoders import LocalEncoder
from tunewright.models.resolve import LocalModel
from tunewright.training.diagnosis.diagnosis import CannotTrain
from tunewright.training.diagnosis.history import CURVE, History, TrainingFacts
from tunewright.training.diagnosis.rules import masked_targets
from tunewright.training.loop.distributed import agreed
from tunewright.training.loop.encode import Row
from tunewright.training.loop.trainer import build_trainer, planned_steps
from tunewright.training.loop.validation import ValidationPart

ADAPTER = "adapter"
_SEED_STRIDE = 1000
"""Difference between the seeds of a soup's adapters, so that trainings with neighbouring seeds share none."""
_LOGGED = {
    "loss": "loss",
    "learning_rate": "lr",
    "grad_norm": "grad_norm",
    "validation_loss": "validation_loss",
    "primary_metric": "primary_metric",
    "right": "right",
    "kept": "kept",
    "epoch": "epoch",
    "scores": "scores",
    "losses": "losses",
}
"""The trainer's name of each recorded figure, and the curve's."""


@dataclass(frozen=True)
class Soup:
    """What the adapters, or encoders, of one training are trained from.

    Args:
        validation: None if nothing is held out.
        home: a folder with a subfolder for each seed: checkpoints, best model, final model and curve.
        build: makes a trainer, not yet started, from the soup, a folder for its checkpoints and a seed; by default an
            adapter's.
    """

    spec: Spec
    base: LocalModel | LocalEncoder
    rows: Sequence[Row]
    validation: ValidationPart | None
    facts: TrainingFacts
    home: Path
    build: Callable[[Soup, Path, int], Any] = lambda soup, home, seed: build_trainer(
        soup.spec, soup.base.folder, soup.rows, home, seed
    )

    def train(self, number: int, tracker: Tracker, callbacks: Sequence[Any] = ()) -> Path:
        """Train the model of seed `number`; return its folder, which holds the model in `adapter/` and its
        `curve.jsonl`.

        Args:
            callbacks: further callbacks for the trainer.

        Raises:
            CannotTrain: an example teaches nothing, or the loss stopped being a number; the last checkpoint stays.
            KeyboardInterrupt: the machine is about to be taken away; a checkpoint was saved.
        """
        from tunewright.training.loop.callbacks import (
            KEPT,
            Diagnosing,
            Eviction,
            TimelyCheckpoints,
            TrainingFollower,
            Validation,
        )

        home = self.home / f"member-{number}"
        if agreed((home / ADAPTER).exists()):
            return home
        if 0 in self.facts.learnt and (masked := masked_targets(self.history([], ended=False))):
            raise CannotTrain(masked)
        settings = self.spec.train
        trainer = self.build(self, home, self.spec.seed + number * _SEED_STRIDE)
        if number == 0:
            _report_left_out(trainer.engine)
        trainer.add_callback(TrainingFollower(tracker, number * planned_steps(self.spec, len(self.rows))))
        eviction = Eviction()
        if self.validation and settings.num_evaluations:
            trainer.add_callback(Validation(trainer, self.validation, home, settings.num_evaluations, eviction))
        diagnosing = Diagnosing(lambda log: self.history(curve_of(log, number), ended=False))
        timely = [TimelyCheckpoints()] if settings.num_checkpoints else []
        for callback in (diagnosing, *timely, eviction, *callbacks):
            trainer.add_callback(callback)
        resume = agreed(_last_checkpoint(home))
        if resume:
            say(f"  resuming from {resume.relative_to(self.home)}")
        with eviction.expected():
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
            if not eviction.stopped:
                save_adapter(trainer, home / f".{ADAPTER}")
                if is_leader():
                    write_jsonl(home / CURVE, curve_of(trainer.state.log_history, number))
                    kept = home / (KEPT if (home / KEPT).exists() else f".{ADAPTER}")
                    # Renamed only when complete, so an adapter in this folder is always whole.
                    kept.rename(home / ADAPTER)
        return home

    def history(self, rows: Sequence[dict[str, Any]], *, ended: bool) -> History:
        """One model's curve with what the diagnosis needs to read it.

        Args:
            rows: rows of `curve.jsonl`.
            ended: whether the training is over.
        """
        planned = planned_steps(self.spec, len(self.rows))
        return History(
            self.spec.train,
            self.facts,
            compute_type(self.spec.train.precision),
            planned,
            ended,
            rows,
            encoder=isinstance(self.base, LocalEncoder),
        )


def save_adapter(trainer: Any, folder: Path) -> None:
    """Write the adapter as it stands; every process of a distributed training has to call this."""
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped) if trainer.is_fsdp_enabled else None
    if is_leader():
        shutil.rmtree(folder, ignore_errors=True)
        trainer.model.save_pretrained(str(folder), state_dict=state, safe_serialization=True)


def _report_left_out(engine: Any) -> None:
    for path, reason in engine.reasons.items():
        say(f"  without {path.replace('_', ' ')}: {reason}")


def has_begun(home: Path) -> bool:
    """Whether a soup's folder holds something that its training goes on from: a whole checkpoint or a finished
    model."""
    return any((folder / ADAPTER).exists() or _last_checkpoint(folder) for folder in home.glob("member-*"))


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint: the trainer writes its state as the last file."""
    newest_first = sorted(folder.glob("checkpoint-*"), key=lambda path: -int(path.name.split("-")[1]))
    return next(filter(_is_whole, newest_first), None)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return True


def curve_of(log: list[dict[str, Any]], seed_number: int) -> list[dict[str, Any]]:
    """A row for each optimizer step and each measurement, in order, from the trainer's log."""
    return [
        {
            "seed_number": seed_number,
            "step": entry["step"],
            **{short: entry[key] for key, short in _LOGGED.items() if key in entry},
        }
        for entry in log
        if "loss" in entry or "primary_metric" in entry
    ]


def average_adapters(adapters: Sequence[Path], target: Path, base: str) -> None:
    """Write the mean of several LoRA adapters with the same shapes as one adapter, exactly.

    The mean of K products B·A, each of rank r, is one product of rank K·r: the A matrices stacked, the B matrices side
    by side and divided by K. The scale alpha / r does not change.

    Args:
        adapters: peft's folders, which differ only in their values; at least one.
        base: the base model's name for the adapter's config, instead of its path on this machine.
    """
    import torch
    from safetensors.torch import load_file, save_file

    weights = [load_file(adapter / "adapter_model.safetensors") for adapter in adapters]
    count = len(weights)
    mean = {}
    for name in weights[0]:
        parts = [each[name] for each in weights]
        mean[name] = torch.cat(parts, 0) if ".lora_A." in name else torch.cat(parts, 1) / count
    config = json.loads((adapters[0] / "adapter_config.json").read_text("utf-8"))
    config |= {"r": config["r"] * count, "lora_alpha": config["lora_alpha"] * count}
    # peft writes sets in arbitrary order; the same training must give the same bytes.
    config |= {"base_model_name_or_path": base, "target_modules": sorted(config["target_modules"])}
    target.mkdir()
    save_file(mean, target / "adapter_model.safetensors", metadata={"format": "pt"})
    (target / "adapter_config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
