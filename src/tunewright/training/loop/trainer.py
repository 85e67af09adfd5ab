"""Trains one adapter with TRL's SFTTrainer, and measures its loss."""

from __future__ import annotations

import gc
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from tunewright.config import Spec
from tunewright.config.sections import LoraSpec, TrainSpec
from tunewright.core.errors import UserError
from tunewright.core.processes import process_count, share
from tunewright.inference.runtimes.prefix import prefix_of_all
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
from tunewright.training.loop.distributed import own_share, whole_batches
from tunewright.training.loop.encode import IGNORED, Row
from tunewright.training.loop.passes import passes_of

if TYPE_CHECKING:
    from trl import SFTConfig


def planned_steps(spec: Spec, rows: int) -> int:
    """Optimizer steps of one adapter's training, counted over all processes."""
    _, shares = share()
    batches = math.ceil(rows / (spec.train.batch_size * process_count() // shares))
    steps = math.ceil(spec.train.epochs * math.ceil(batches / spec.train.gradient_accumulation_steps))
    return min(steps, spec.train.max_steps or steps)


def build_trainer(
    spec: Spec, folder: Path, rows: Sequence[Row], checkpoints: Path, seed: int, requested: RequestedPaths | None = None
) -> Any:
    """TRL's trainer for the encoded rows, not yet started. Its `engine` names the fast paths that the model takes.

    Args:
        folder: the base model's.
        seed: for the adapter's initial values and the order of the rows.
        requested: the fast paths to try; all by default.
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
                # The count is over all processes, and DDP averages their gradients.
                loss = loss * self.accelerator.num_processes
            return (loss, None) if return_outputs else loss

        def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
            """Train on a batch; return the loss to log. Of weighted rows that is the mean by weight, because the
            diagnosis takes a loss that heavy rows multiply for a divergence."""
            loss = super().training_step(model, inputs, num_items_in_batch)
            return loss / inputs["weights"].mean() if "weights" in inputs else loss

        def get_train_dataloader(self) -> Any:
            return whole_batches(self) if share()[1] > 1 else super().get_train_dataloader()

    # peft draws the adapter's initial values when it attaches the adapter, so the seed is set before.
    set_seed(seed)
    trainer = Trainer(
        model=_base_model(spec, folder),
        args=_arguments(spec, checkpoints, planned_steps(spec, len(rows)), seed, _passes(spec, rows)),
        train_dataset=Dataset.from_list(list(rows)),
        processing_class=AutoTokenizer.from_pretrained(folder, local_files_only=True),
        data_collator=lambda _: {},
        peft_config=lora_config(spec.train.lora),
    )
    trainer.remove_callback(PrinterCallback)
    adapted_modules(trainer.model)
    # TRL casts the adapter of a 4-bit model to bfloat16, which loses small updates and which a T4 lacks.
    hold_adapter_in_float32(trainer.model)
    if spec.train.init_adapter:
        _load_initial_adapter(trainer.model, spec.path(spec.train.init_adapter))
    trainer.engine = fit_engine(trainer.model, rows, requested)
    if reason := unpaged(spec.train):
        trainer.engine.reasons["paging"] = reason
    trainer.data_collator = lambda batch: trainer.engine.collate(own_share(batch))
    # Only now: all processes start with the same adapter, then each draws its own dropout.
    set_seed(seed + share()[0])
    if not trainer.engine.shared_prefix and share()[1] == 1:
        # Padded batches waste least if their examples have the same length; packed ones have no padding.
        trainer.args.train_sampling_strategy = "group_by_length"
    return trainer


def _passes(spec: Spec, rows: Sequence[Row]) -> int:
    """Passes for this process's share of a batch. A GPU and checkpointed layers take it in one."""
    import torch

    if torch.cuda.is_available() or spec.train.gradient_checkpointing:
        return 1
    ids = [row["input_ids"] for row in rows]
    shared = prefix_of_all(ids)
    return passes_of(shared, fmean(map(len, ids)) - shared, spec.train.batch_size, share()[1], len(rows))


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


def _load_initial_adapter(model: Any, adapter: Path) -> None:
    """Load the initial values of a model's adapter from another adapter.

    Raises:
        UserError: there is no such adapter, or it has another shape.
    """
    from peft import PeftConfig, get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    weights = adapter / "adapter_model.safetensors"
    if not weights.is_file():
        raise UserError("There is no adapter to start from.", where=adapter, fix="Correct train.init_adapter.")
    initial, new = PeftConfig.from_pretrained(str(adapter)), model.peft_config["default"]
    rank, alpha = initial.r, initial.lora_alpha
    if (rank, alpha) != (new.r, new.lora_alpha):
        raise UserError(
            f"The initial adapter has rank {rank} and alpha {alpha}, this training {new.r} and {new.lora_alpha}.",
            where=adapter,
            fix=f"Set train.lora.r={rank} train.lora.alpha={alpha} train.num_seeds=1, or leave train.init_adapter out.",
        )
    values = load_file(weights)
    shapes = {name: value.shape for name, value in values.items()}
    if shapes != {name: value.shape for name, value in get_peft_model_state_dict(model).items()}:
        raise UserError(
            "The initial adapter belongs to another base model.", where=adapter, fix="Leave train.init_adapter out."
        )
    set_peft_model_state_dict(model, values)


def _base_model(spec: Spec, folder: Path) -> Any:
    """The base model, in the type and on the device of its training."""
    import torch

    # A trainer and its callbacks refer to each other, so an earlier model is freed only by the garbage collector.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return load_torch_model(folder, dtype=compute_type(spec.train.precision), nf4=spec.train.method == "qlora")


def load_adapter(spec: Spec, folder: Path, adapter: Path) -> Any:
    """The base model with a trained adapter, in the type that it was trained in, in evaluation mode."""
    from peft import PeftModel

    return PeftModel.from_pretrained(_base_model(spec, folder), str(adapter)).eval()


def row_losses(model: Any, engine: TrainingEngine, rows: Sequence[Row], at_once: int) -> list[float]:
    """The summed cross-entropy of each row's labelled tokens.

    Args:
        model: prepared by `fit_engine`, which gave `engine`.
        at_once: rows in one forward pass.
    """
    import torch

    # Rows are in the order of the packed batch, so that counting tells which tokens belong to which row.
    order, losses = in_packed_order(rows), [0.0] * len(rows)
    with torch.no_grad():
        for start in range(0, len(rows), at_once):
            numbers = order[start : start + at_once]
            some = [rows[number] for number in numbers]
            batch_losses = token_losses(model, on_device_of(model, engine.collate(some))).double().cpu()
            counts = [sum(label != IGNORED for label in row["labels"]) for row in some]
            for number, part in zip(numbers, batch_losses.split(counts), strict=True):
                losses[number] = float(part.sum())
    return losses


def unpaged(settings: TrainSpec) -> str | None:
    """Why a paged optimizer does not page; None if none was asked for, or it pages."""
    if not settings.optimizer.startswith("paged"):
        return None
    import torch

    if not torch.cuda.is_available():
        return "paging needs a GPU: it moves data between its memory and the machine's"
    return None if can_page() else "this GPU's driver has no managed memory, as on a vGPU"


def optimizer_name(settings: TrainSpec) -> str:
    """transformers' name of the optimizer.

    Only `train.optimizer` turns paging on: the moments of an adapter are small beside its base (8 B, rank 16: 336 MB),
    and bitsandbytes does not page most of its matrices (those below 100,000 numbers; optim/optimizer.py, read
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


def _arguments(spec: Spec, checkpoints: Path, steps: int, seed: int, passes: int) -> SFTConfig:
    import torch
    from trl import SFTConfig

    settings = spec.train
    saves = settings.num_checkpoints
    precision = compute_type(settings.precision)
    arguments = SFTConfig(
        output_dir=str(checkpoints),
        # learning
        num_train_epochs=settings.epochs,
        # transformers would train for more than the epochs if max_steps is larger.
        max_steps=steps if settings.max_steps else -1,
        per_device_train_batch_size=settings.batch_size // share()[1] // passes,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps * passes,
        train_sampling_strategy="random",
        learning_rate=settings.lr,
        lr_scheduler_type="constant_with_warmup" if settings.schedule == "constant" else settings.schedule,
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        max_length=None,
        # peft keeps the base in its compute type and the adapter in float32 apart; only float16 needs a loss scale.
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
        # transformers would run a copy on each GPU in threads, and split packed batches.
        arguments._n_gpu = 1
    return arguments


def adapted_modules(model: Any) -> list[str]:
    """The names of the linear layers that carry an adapter.

    Raises:
        UserError: a linear layer of the decoder carries none, as often happens with fused projections (Phi-3).
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
            f"{len(missed)} linear layers, {missed[0]} among them, would get no adapter."
            if missed
            else "No layer of this model would get an adapter.",
            why="peft does not know their type.",
            fix="Choose another model: tunewright models ls",
        )
    return [name.removeprefix("base_model.model.") for name in adapted]
