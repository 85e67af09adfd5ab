"""Spec keys of earlier versions and of other libraries, each with our key for the same setting.

A spec with such a key is refused, and the error names our key. No setting has two names.
"""

from __future__ import annotations

ALIASES = {
    # Tunewright 0.1
    "train.accumulation": "train.gradient_accumulation_steps",
    "train.warmup": "train.warmup_ratio",
    "train.evaluations": "train.num_evaluations",
    "train.checkpoints": "train.num_checkpoints",
    "train.members": "train.num_seeds",
    "train.start": "train.init_adapter",
    "task.codes": "task.single_token_labels",
    "api.answer_tokens": "api.completion_tokens",
    "apis.answer_tokens": "apis.completion_tokens",
    # transformers' TrainingArguments, TRL and PEFT
    "train.learning_rate": "train.lr",
    "train.num_train_epochs": "train.epochs",
    "train.num_epochs": "train.epochs",
    "train.per_device_train_batch_size": "train.batch_size",
    "train.gradient_accumulation": "train.gradient_accumulation_steps",
    "train.warmup_steps": "train.warmup_ratio",
    "train.lr_scheduler_type": "train.schedule",
    "train.optim": "train.optimizer",
    "train.max_seq_length": "train.max_length",
    "train.max_seq_len": "train.max_length",
    "train.resume_from_checkpoint": "train.init_adapter",
    "train.adapter": "train.init_adapter",
    "train.save_steps": "train.num_checkpoints",
    "train.eval_steps": "train.num_evaluations",
    "train.load_in_4bit": "train.method",
    "train.bf16": "train.precision",
    "train.fp16": "train.precision",
    "train.dtype": "train.precision",
    "train.torch_dtype": "train.precision",
    "train.seed": "seed",
    "train.lora_r": "train.lora.r",
    "train.lora_alpha": "train.lora.alpha",
    "train.lora_dropout": "train.lora.dropout",
    "train.lora.rank": "train.lora.r",
    "train.lora.lora_r": "train.lora.r",
    "train.lora.lora_alpha": "train.lora.alpha",
    "train.lora.lora_dropout": "train.lora.dropout",
    "train.encoder.learning_rate": "train.encoder.lr",
    "train.encoder.num_train_epochs": "train.encoder.epochs",
    "train.encoder.per_device_train_batch_size": "train.encoder.batch_size",
    "train.encoder.label_smoothing_factor": "train.encoder.label_smoothing",
    "lora": "train.lora",
    "base_model": "model",
    "model_name_or_path": "model",
    "model_id": "model",
    "task.type": "task.kind",
    "task.system_prompt": "task.instruction",
    "task.prompt": "task.instruction",
    "task.max_new_tokens": "task.max_tokens",
    "data.train_file": "data.train",
    "data.text_column": "data.text",
    "data.label_column": "data.label",
    # OpenAI's API and its client
    "api.base_url": "api.url",
    "api.api_key": "api.key",
    "api.max_tokens": "api.completion_tokens",
    "apis.base_url": "apis.url",
    "apis.api_key": "apis.key",
    "judge.base_url": "judge.url",
    "judge.api_key": "judge.key",
}
"""Our key by foreign key, without list indices."""


def our_key(key: str) -> str | None:
    """Our key for a foreign or outdated key; None if there is none."""
    return ALIASES.get(".".join(part for part in key.split(".") if not part.isdigit()))
