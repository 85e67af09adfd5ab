"""Training one adapter with TRL's SFTTrainer, and measuring its loss."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunewright.config import Spec
from tunewright.config.sections import LoraSpec, TrainSpec
from tunewright.core.errors import UserError
from tunewright.core.processes import process_count, share
from tunewright.inference.runtimes.torch_model import compute_type, load_torch_model
from tunewright.models.device import can_page
from tunewright.training.engine.fast_paths import (
    RequestedPaths,
    TrainingEngine,
    fit_engine,
    on_device_of,
    supervised_loss,
    token_losses,
)
from tunewright.training.engine.packing import in_packed_order
from tunewright.training.loop.encode import IGNORED, Row
from tunewright.training.loop.together import own_share, whole_batches

if TYPE_CHECKING:
    from trl import SFTConfig


def planned_steps(spec: Spec, rows: int) -> int:
    """Optimizer steps for one adapter, by all processes that train it together."""
    _, shares = share()
    batches = math.ceil(rows / (spec.train.batch_size * process_count() // shares))
    steps = math.ceil(spec.train.epochs * math.ceil(batches / spec.train.gradient_accumulation_steps))
    return min(steps, spec.train.max_steps or steps)


def build_trainer(
    spec: Spec, folder: Path, rows: Sequence[Row], checkpoints: Path, seed: int, wanted: RequestedPaths | None = None
) -> Any:
    """TRL's trainer on the encoded rows, not yet started. Its `engine` says which fast paths the model is on.

    Args:
        folder: the base model's.
        seed: of the adapter's first values and of the order of the rows.
        wanted: the fast paths to try; all by default.
    """
    from datasets import Dataset
    from transformers import AutoTokenizer, PrinterCallback, set_seed
    from trl import SFTTrainer

    class Trainer(SFTTrainer):  # type: ignore[misc, unused-ignore]
        engine: TrainingEngine

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            count = (inputs["labels"] != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
            loss = supervised_loss(model, inputs) / count
            if num_items_in_batch is not None and self.args.average_tokens_across_devices:
                # The count is that of all processes, and DDP takes the mean of their gradients.
                loss = loss * self.accelerator.num_processes
            return (loss, None) if return_outputs else loss

        def get_train_dataloader(self) -> Any:
            return whole_batches(self) if share()[1] > 1 else super().get_train_dataloader()

    # The adapter's first values are drawn when it is attached, so the seed is set before that.
    set_seed(seed)
    trainer = Trainer(
        model=_base_model(spec, folder),
        args=_arguments(spec, checkpoints, planned_steps(spec, len(rows)), seed),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=AutoTokenizer.from_pretrained(folder, local_files_only=True),
        data_collator=lambda _: {},
        peft_config=lora_config(spec.train.lora),
    )
    trainer.remove_callback(PrinterCallback)
    adapted_modules(trainer.model)
    # TRL makes those of a 4-bit model bfloat16, in which small updates are lost and which a T4 doesn't have.
    hold_adapter_in_float32(trainer.model)
    if spec.train.init_adapter:
        _begin_with(trainer.model, spec.path(spec.train.init_adapter))
    trainer.engine = fit_engine(trainer.model, rows, wanted)
    if reason := unpaged(spec.train):
        trainer.engine.reasons["paging"] = reason
    trainer.data_collator = lambda batch: trainer.engine.collate(own_share(batch))
    # Not before: all shares begin with the same adapter, and then each draws a dropout of its own.
    set_seed(seed + share()[0])
    if not trainer.engine.shared_prefix and share()[1] == 1:
        # Padded batches waste least when their examples are of one length; packed ones have no padding.
        trainer.args.train_sampling_strategy = "group_by_length"
    return trainer


def lora_config(settings: LoraSpec) -> Any:
    """peft's config of an adapter on every linear layer of the decoder."""
    from peft import LoraConfig

    return LoraConfig(
        r=settings.r,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def hold_adapter_in_float32(model: Any) -> None:
    import torch

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)


def _begin_with(model: Any, adapter: Path) -> None:
    """Give a model's adapter the values of another one.

    Raises:
        UserError: there is none, or it is not of the same kind.
    """
    from peft import PeftConfig, get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    weights = adapter / "adapter_model.safetensors"
    if not weights.is_file():
        raise UserError("There is no adapter to begin with.", where=adapter, fix="Look at train.init_adapter.")
    known, wanted = PeftConfig.from_pretrained(str(adapter)), model.peft_config["default"]
    found, asked = ((each.r, each.lora_alpha) for each in (known, wanted))
    if found != asked:
        raise UserError(
            f"The adapter to begin with has rank {found[0]} and alpha {found[1]}, this training {asked[0]} and "
            f"{asked[1]}.",
            where=adapter,
            fix=f"Set train.lora.r={found[0]} train.lora.alpha={found[1]} train.num_seeds=1, or leave "
            "train.init_adapter out.",
        )
    values = load_file(weights)
    shapes = {name: value.shape for name, value in values.items()}
    if shapes != {name: value.shape for name, value in get_peft_model_state_dict(model).items()}:
        raise UserError(
            "The adapter to begin with is of another base model.", where=adapter, fix="Leave train.init_adapter out."
        )
    set_peft_model_state_dict(model, values)


def _base_model(spec: Spec, folder: Path) -> Any:
    """The base model, in its training's type and place."""
    import torch

    # A trainer and its callbacks hold each other, so an earlier one keeps its model until it is looked for.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return load_torch_model(folder, dtype=compute_type(spec.train.precision), nf4=spec.train.method == "qlora")


def load_adapter(spec: Spec, folder: Path, adapter: Path) -> Any:
    """The base model with a trained adapter, in the type it was trained in, ready to answer."""
    from peft import PeftModel

    return PeftModel.from_pretrained(_base_model(spec, folder), str(adapter)).eval()


def row_losses(model: Any, engine: TrainingEngine, rows: Sequence[Row], at_once: int) -> list[float]:
    """For each row the summed cross-entropy of its labelled tokens.

    Args:
        model: prepared by `fit_engine`, which gave `engine`.
        at_once: rows in one pass.
    """
    import torch

    # Rows are given in the order that a packed batch has them in, so that its tokens are told apart by counting.
    order, losses = in_packed_order(rows), [0.0] * len(rows)
    with torch.no_grad():
        for start in range(0, len(rows), at_once):
            numbers = order[start : start + at_once]
            some = [rows[number] for number in numbers]
            found = token_losses(model, on_device_of(model, engine.collate(some))).double().cpu()
            counts = [sum(label != IGNORED for label in row["labels"]) for row in some]
            for number, part in zip(numbers, found.split(counts), strict=True):
                losses[number] = float(part.sum())
    return losses


def unpaged(settings: TrainSpec) -> str | None:
    """Why an optimizer that was asked to page does not; None where none was asked, or it does."""
    if not settings.optimizer.startswith("paged"):
        return None
    import torch

    if not torch.cuda.is_available():
        return "paging is between a GPU's memory and the machine's"
    return None if can_page() else "this GPU's driver has no managed memory, as on a vGPU"


def optimizer_name(settings: TrainSpec) -> str:
    """transformers' name of the optimizer.

    Nothing is paged unless it is asked for: the moments of an adapter are small beside its base (8 B, rank 16: 336 MB),
    and of most of its matrices bitsandbytes pages none (those below 100,000 numbers; optim/optimizer.py, read
    2026-11-27).
    """
    import torch

    paged = unpaged(settings) is None
    match settings.optimizer:
        case "paged_adamw" if paged:
            return "paged_adamw_32bit"
        case "paged_adamw_8bit" if torch.cuda.is_available():
            return "paged_adamw_8bit" if paged else "adamw_8bit"
    return "adamw_torch_fused"


def _arguments(spec: Spec, checkpoints: Path, steps: int, seed: int) -> SFTConfig:
    import torch
    from trl import SFTConfig

    settings = spec.train
    saves = settings.num_checkpoints
    precision = compute_type(settings.precision)
    arguments = SFTConfig(
        output_dir=str(checkpoints),
        # what is learnt
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.batch_size // share()[1],
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        train_sampling_strategy="random",
        learning_rate=settings.lr,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        max_length=None,
        # precision and memory
        # The base is held in its compute type and the adapter in float32, which peft keeps apart; only float16 needs
        # the loss scaled.
        bf16=False,
        fp16=precision == "float16",
        gradient_checkpointing=settings.gradient_checkpointing,
        optim=optimizer_name(settings),
        use_cpu=not torch.cuda.is_available(),
        ddp_backend="gloo" if process_count() > 1 and not torch.cuda.is_available() else None,
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,
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
    if process_count() == 1 and arguments.n_gpu > 1:
        # transformers would run a copy on each GPU in threads, and tear packed batches apart.
        arguments._n_gpu = 1
    return arguments


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
            f"{len(missed)} linear layers, {missed[0]} among them, would not be adapted."
            if missed
            else "No layer of this model would be adapted.",
            why="Their kind is not known to peft.",
            fix="Choose another model: tunewright models ls",
        )
    return [name.removeprefix("base_model.model.") for name in adapted]
