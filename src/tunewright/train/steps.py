"""The step `train`: an adapter, its curve, and a record of what was adapted."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunewright.artifacts import Output, read_jsonl, write_json, write_jsonl
from tunewright.data import load_dataset
from tunewright.errors import UserError
from tunewright.models.resolve import resolve
from tunewright.models.tokenizer import TextTokenizer
from tunewright.models.torch_model import compute_type, quiet_libraries
from tunewright.progress import Tracker, say, track
from tunewright.spec import Spec
from tunewright.tasks import task_of
from tunewright.train.answering import AT_ONCE
from tunewright.train.encode import Row, encode_examples
from tunewright.train.engine import fit_engine
from tunewright.train.soup import average_adapters
from tunewright.train.trainer import adapted_modules, build_trainer, load_adapter, mean_loss, planned_steps

CHECKPOINTS = "checkpoints"
ADAPTER = "adapter"
CURVE = "curve.jsonl"
_SEED_STRIDE = 1000
"""Between the seeds of one soup's members, so that runs with neighbouring seeds share none."""


def run_train(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Dataset -> `adapter/`, `curve.jsonl` and `chat_template.jinja`. Resumes from the last checkpoint."""
    quiet_libraries()
    base, settings = resolve(spec.model, spec.folder), spec.train
    _check_window(base.folder, settings.max_length)
    dataset = load_dataset(inputs["split"])
    tokenizer = TextTokenizer(base.folder)
    task = task_of(spec.task).fitted(tokenizer.encode_verbatim)
    train, validation = (
        encode_examples(examples, task, base.template, tokenizer, settings.max_length, settings.loss)
        for examples in (dataset.train, dataset.validation)
    )
    checkpoints = output.path / CHECKPOINTS
    with track("train", planned_steps(spec, len(train)) * settings.members, "steps") as tracker:
        members = [
            _train_member(spec, base.folder, train, checkpoints / f"member-{number}", number, tracker)
            for number in range(settings.members)
        ]
    average_adapters([member / ADAPTER for member in members], output.path / ADAPTER)
    (output.path / "chat_template.jinja").write_text(base.template.source, "utf-8")
    curve = [row for member in members for row in read_jsonl(member / CURVE)]
    write_jsonl(output.path / CURVE, curve)
    shutil.rmtree(checkpoints)
    tuned = load_adapter(spec, base.folder, output.path / ADAPTER)
    engine = fit_engine(tuned, train)
    write_json(output.path / "adapted.json", adapted_modules(tuned))
    output.result = {
        "steps": len(curve),
        "first_loss": round(curve[0]["loss"], 4),
        "last_loss": round(curve[-1]["loss"], 4),
        "validation_loss": mean_loss(tuned, engine, validation, AT_ONCE) if validation else None,
        "trained_parameters": sum(value.numel() for name, value in tuned.named_parameters() if "lora_" in name),
        "precision": compute_type(settings.precision),
        "tokens": sum(len(row["input_ids"]) for row in train),
        "supervised_tokens": sum(label >= 0 for row in train for label in row["labels"]),
        "template_sha256": base.template.sha256,
    }


def _check_window(folder: Path, max_length: int) -> None:
    """Refuse examples that could be longer than a sliding window: packed training and ONNX serving see every token."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    window = config.get("sliding_window") if config.get("use_sliding_window", True) else None
    if window and window < max_length:
        raise UserError(
            f"train.max_length = {max_length} is longer than this model's attention window of {window} tokens.",
            where=folder,
            why="It would be served with another view of long requests than it was trained with.",
            fix=f"Type: tunewright run … train.max_length={window}",
        )


def _train_member(spec: Spec, folder: Path, rows: Sequence[Row], home: Path, number: int,
                  tracker: Tracker) -> Path:  # fmt: skip
    """Train adapter `number` into `home`, or go on with it; one that is whole there is kept."""
    if (home / ADAPTER).exists():
        return home
    trainer = build_trainer(spec, folder, rows, home, seed=spec.seed + number * _SEED_STRIDE)
    before = number * planned_steps(spec, len(rows))
    trainer.add_callback(_follower(tracker, before))
    resume = _last_checkpoint(home)
    if resume:
        say(f"  resuming from {resume.relative_to(home.parent)}")
    outcome = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if not math.isfinite(outcome.training_loss):
        raise UserError(
            f"The training loss became {outcome.training_loss}.",
            why="The learning rate is too high for this model and precision.",
            fix=f"Type: tunewright run … train.lr={spec.train.lr / 4:g}",
        )
    write_jsonl(home / CURVE, _curve(trainer.state.log_history, number))
    # Renamed when it is all there, so that an adapter in this place is always a whole one.
    unnamed = home / f".{ADAPTER}"
    trainer.model.save_pretrained(str(unnamed), safe_serialization=True)
    unnamed.rename(home / ADAPTER)
    return home


def _follower(tracker: Tracker, before: int) -> Any:
    """A callback that moves the progress bar on; `before` steps were made by earlier members."""
    from transformers import TrainerCallback

    class Follower(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
            if logs and "loss" in logs:
                tracker.update(before + state.global_step, f"loss {float(logs['loss']):.3f}")

    return Follower()


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end: the trainer's state is the last file it writes."""
    whole = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def _curve(history: list[dict[str, Any]], member: int) -> list[dict[str, Any]]:
    keys = {"loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm"}
    return [
        {
            "member": member,
            "step": entry["step"],
            **{short: float(entry[key]) for key, short in keys.items() if key in entry},
        }
        for entry in history
        if "loss" in entry
    ]
