"""The step `train`: an adapter, its curve, and a record of what was adapted."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.artifacts import Output, write_json, write_jsonl
from tunewright.data import load_dataset
from tunewright.errors import UserError
from tunewright.models.chat import ChatTemplate
from tunewright.models.resolve import resolve
from tunewright.models.tokenizer import TextTokenizer
from tunewright.models.torch_model import load_torch_model, quiet_libraries
from tunewright.progress import Tracker, say, track
from tunewright.spec import Spec
from tunewright.tasks import task_of
from tunewright.train.encode import encode_examples
from tunewright.train.loss import answer_loss, collate

if TYPE_CHECKING:
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

CHECKPOINTS = "checkpoints"


def run_train(spec: Spec, inputs: Mapping[str, Path], output: Output) -> None:
    """Dataset -> `adapter/`, `curve.jsonl` and `chat_template.jinja`. Resumes from the last checkpoint."""
    quiet_libraries()
    from transformers import PrinterCallback

    base = resolve(spec.model, spec.folder)
    dataset = load_dataset(inputs["split"])
    task, tokenizer = task_of(spec.task), TextTokenizer(base.folder)
    rows = {
        name: encode_examples(examples, task, base.template, tokenizer, spec.train.max_length)
        for name, examples in (("train", dataset.train), ("validation", dataset.validation))
    }
    trainer = build_trainer(spec, base.folder, rows, output.path / CHECKPOINTS)
    trainer.remove_callback(PrinterCallback)
    adapted = adapted_modules(trainer.model)
    with track("train", trainer.planned_steps, "steps") as tracker:
        trainer.add_callback(_follower(tracker))
        resume = _last_checkpoint(output.path / CHECKPOINTS)
        if resume:
            say(f"  resuming from {resume.name}")
        outcome = trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    if not math.isfinite(outcome.training_loss):
        raise UserError(
            f"The training loss became {outcome.training_loss}.",
            why="The learning rate is too high for this model and precision.",
            fix=f"Type: tunewright run … train.lr={spec.train.lr / 4:g}",
        )
    _save(trainer, base.template, output.path)
    curve = _curve(trainer.state.log_history)
    write_jsonl(output.path / "curve.jsonl", curve)
    write_json(output.path / "adapted.json", adapted)
    output.result = {
        "steps": trainer.state.global_step,
        "first_loss": round(curve[0]["loss"], 4),
        "last_loss": round(curve[-1]["loss"], 4),
        "validation_loss": trainer.validation_loss(),
        "trained_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "tokens": sum(len(row["input_ids"]) for row in rows["train"]),
        "supervised_tokens": sum(label >= 0 for row in rows["train"] for label in row["labels"]),
        "template_sha256": base.template.sha256,
    }


def build_trainer(spec: Spec, folder: Path, rows: Mapping[str, list[dict[str, list[int]]]], checkpoints: Path) -> Any:
    """TRL's trainer on the encoded rows, not yet started."""
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, set_seed
    from trl import SFTTrainer

    settings = spec.train
    # The adapter's first values are drawn when it is attached, so the seed is set before that.
    set_seed(spec.seed)
    model = load_torch_model(
        folder,
        dtype=settings.precision,
        nf4=settings.method == "qlora",
    )
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    lora = LoraConfig(
        r=settings.lora.r,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )

    class Trainer(SFTTrainer):  # type: ignore[misc, unused-ignore]
        planned_steps = _planned_steps(spec, len(rows["train"]))

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            loss, outputs = answer_loss(model, inputs, num_items_in_batch)
            return (loss, outputs) if return_outputs else loss

        def validation_loss(self) -> float | None:
            return round(float(self.evaluate()["eval_loss"]), 4) if rows["validation"] else None

    return Trainer(
        model=model,
        args=_arguments(spec, checkpoints, Trainer.planned_steps),
        train_dataset=Dataset.from_list(rows["train"]),
        eval_dataset=Dataset.from_list(rows["validation"]) if rows["validation"] else None,
        processing_class=tokenizer,
        data_collator=partial(collate, pad_token=tokenizer.pad_token_id or tokenizer.eos_token_id or 0),
        peft_config=lora,
    )


def _planned_steps(spec: Spec, rows: int) -> int:
    steps = math.ceil(math.ceil(rows / spec.train.batch_size) / spec.train.accumulation * spec.train.epochs)
    return min(steps, spec.train.max_steps or steps)


def _arguments(spec: Spec, checkpoints: Path, steps: int) -> SFTConfig:
    import torch
    from trl import SFTConfig

    settings = spec.train
    saves = settings.checkpoints
    return SFTConfig(
        output_dir=str(checkpoints),
        # what is learnt
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulation,
        train_sampling_strategy="random",
        learning_rate=settings.lr,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_length=None,
        # precision and memory
        bf16=settings.precision == "bfloat16",
        fp16=settings.precision == "float16",
        gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        # records
        prediction_loss_only=True,
        remove_unused_columns=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="steps" if saves else "no",
        save_steps=max(1, math.ceil(steps / (saves + 1))),
        save_total_limit=1,
        report_to="none",
        disable_tqdm=True,
        seed=spec.seed,
        data_seed=spec.seed,
    )


def adapted_modules(model: Any) -> list[str]:
    """The names of the linear layers that carry an adapter.

    Raises:
        UserError: a linear layer of the decoder carries none; fused projections (Phi-3) are often missed that way.
    """
    from peft.tuners.lora import LoraLayer
    from torch import nn

    head = model.get_base_model().get_output_embeddings()
    adapted = [name for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    missed = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
        and module is not head
        and not any(name.startswith(f"{parent}.") for parent in adapted)
    ]
    if missed or not adapted:
        raise UserError(
            f"{len(missed)} linear layers would not be adapted, {missed[0] if missed else 'all'} among them.",
            why="Their kind is not known to peft.",
        )
    return [name.removeprefix("base_model.model.") for name in adapted]


def _follower(tracker: Tracker) -> TrainerCallback:
    from transformers import TrainerCallback

    class Follower(TrainerCallback):  # type: ignore[misc, unused-ignore]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
            if logs and "loss" in logs:
                tracker.update(state.global_step, f"loss {float(logs['loss']):.3f}")

    return Follower()


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end: the trainer's state is the last file it writes."""
    whole = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def _save(trainer: SFTTrainer, template: ChatTemplate, folder: Path) -> None:
    trainer.model.save_pretrained(str(folder / "adapter"), safe_serialization=True)
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    (folder / "chat_template.jinja").write_text(template.source, "utf-8")
    shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)


def _curve(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = {"loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm"}
    return [
        {"step": entry["step"], **{short: float(entry[key]) for key, short in keys.items() if key in entry}}
        for entry in history
        if "loss" in entry
    ]
