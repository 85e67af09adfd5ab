"""Training one adapter with TRL's SFTTrainer, and measuring its loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.errors import UserError
from tunewright.models.torch_model import compute_type, load_torch_model, weights_type
from tunewright.spec import Spec
from tunewright.train.encode import IGNORED, Row
from tunewright.train.loss import answer_loss, collate

if TYPE_CHECKING:
    from trl import SFTConfig


def planned_steps(spec: Spec, rows: int) -> int:
    """Optimizer steps for one adapter."""
    steps = math.ceil(math.ceil(rows / spec.train.batch_size) / spec.train.accumulation * spec.train.epochs)
    return min(steps, spec.train.max_steps or steps)


def build_trainer(spec: Spec, folder: Path, rows: Sequence[Row], checkpoints: Path, seed: int) -> Any:
    """TRL's trainer on the encoded rows, not yet started.

    Args:
        folder: the base model's.
        seed: of the adapter's first values and of the order of the rows.
    """
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoTokenizer, PrinterCallback, set_seed
    from trl import SFTTrainer

    class Trainer(SFTTrainer):  # type: ignore[misc, unused-ignore]
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            loss, outputs = answer_loss(model, inputs, num_items_in_batch)
            return (loss, outputs) if return_outputs else loss

    # The adapter's first values are drawn when it is attached, so the seed is set before that.
    set_seed(seed)
    lora = spec.train.lora
    trainer = Trainer(
        model=_base_model(spec, folder),
        args=_arguments(spec, checkpoints, planned_steps(spec, len(rows)), seed),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=AutoTokenizer.from_pretrained(folder, local_files_only=True),
        data_collator=collate,
        peft_config=LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    trainer.remove_callback(PrinterCallback)
    adapted_modules(trainer.model)
    return trainer


def _base_model(spec: Spec, folder: Path) -> Any:
    return load_torch_model(folder, dtype=weights_type(spec.train.precision), nf4=spec.train.method == "qlora")


def load_adapter(spec: Spec, folder: Path, adapter: Path) -> Any:
    """The base model with a trained adapter, ready to answer."""
    from peft import PeftModel

    return PeftModel.from_pretrained(_base_model(spec, folder), str(adapter)).eval()


def mean_loss(spec: Spec, model: Any, rows: Sequence[Row]) -> float:
    """Mean cross-entropy of the rows' supervised tokens."""
    import torch

    size = spec.train.batch_size
    total = tokens = 0.0
    with torch.inference_mode():
        for start in range(0, len(rows), size):
            batch = {name: value.to(model.device) for name, value in collate(rows[start : start + size]).items()}
            total += float(answer_loss(model, batch, token_count=1)[0])
            tokens += int((batch["labels"] != IGNORED).sum())
    return round(total / tokens, 4)


def _arguments(spec: Spec, checkpoints: Path, steps: int, seed: int) -> SFTConfig:
    import torch
    from trl import SFTConfig

    settings = spec.train
    saves = settings.checkpoints
    precision = compute_type(settings.precision)
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
        bf16=precision == "bfloat16",
        fp16=precision == "float16",
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
        seed=seed,
        data_seed=seed,
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
