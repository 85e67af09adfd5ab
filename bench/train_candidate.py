"""One candidate of bench/train.py: `python bench/train_candidate.py CANDIDATE FOLDER` trains and writes
FOLDER/CANDIDATE/result.json.

Needs nothing of Tunewright for the candidates of others, so that it runs in their environments too.
"""

from __future__ import annotations

import json
import logging
import resource
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback


class Clock(TrainerCallback):
    """The seconds of each optimizer step, data loading included."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        self._last = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now


def train_with_trl(candidate: str, folder: Path, out: Path, job: dict[str, Any], clock: Clock) -> None:
    import torch
    from datasets import Dataset
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import SFTConfig, SFTTrainer

    held = torch.bfloat16 if candidate == "trl-bf16" else torch.float32
    base = AutoModelForCausalLM.from_pretrained(job["base"], dtype=held)
    model = PeftModel.from_pretrained(base, str(folder / "first"), is_trainable=True)
    rows = json.loads((folder / "rows.json").read_text())
    data = [
        {"input_ids": row["input_ids"], "completion_mask": [int(label >= 0) for label in row["labels"]]} for row in rows
    ]
    arguments = SFTConfig(
        output_dir=str(out / "out"),
        max_steps=job["steps"],
        per_device_train_batch_size=job["batch"],
        train_sampling_strategy="sequential",
        learning_rate=5e-4,
        lr_scheduler_type="constant",
        max_length=None,
        completion_only_loss=True,
        # as it comes: bfloat16 autocast, gradient checkpointing off as everywhere here
        bf16=candidate == "trl",
        gradient_checkpointing=False,
        use_cpu=True,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    tokenizer = AutoTokenizer.from_pretrained(job["base"])
    trainer = SFTTrainer(model, arguments, train_dataset=Dataset.from_list(data), processing_class=tokenizer)
    trainer.add_callback(clock)
    trainer.train()
    trainer.model.save_pretrained(str(out / "adapter"))


def train_with_llama_factory(folder: Path, out: Path, job: dict[str, Any], clock: Clock) -> None:
    import types

    try:
        import torchaudio  # noqa: F401
    except OSError:
        # It asks for torchaudio, which beside a CPU build of torch can't be loaded. There is no sound here.
        sys.modules["torchaudio"] = types.ModuleType("torchaudio")
    from llamafactory.data.formatter import StringFormatter
    from llamafactory.data.template import TEMPLATES, register_template
    from llamafactory.train.tuner import run_exp

    chatml = TEMPLATES["chatml"]
    # Its own ChatML learns the line break behind an answer too; the other candidates don't.
    register_template(
        "chatml_without_break",
        format_user=chatml.format_user,
        format_system=chatml.format_system,
        format_assistant=StringFormatter(slots=["{{content}}<|im_end|>"]),
    )
    columns = {"prompt": "instruction", "response": "output", "system": "system"}
    info = {"job": {"file_name": str(folder / "texts.json"), "columns": columns}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    arguments = {
        "stage": "sft",
        "do_train": True,
        "model_name_or_path": job["base"],
        "adapter_name_or_path": str(folder / "first"),
        "create_new_adapter": False,
        "finetuning_type": "lora",
        "lora_rank": 16,
        "lora_alpha": 32,
        "lora_target": "all",
        "template": "chatml_without_break",
        "dataset": "job",
        "dataset_dir": str(folder),
        "cutoff_len": 2048,
        "overwrite_cache": True,
        "output_dir": str(out / "adapter"),
        "max_steps": job["steps"],
        "per_device_train_batch_size": job["batch"],
        "disable_shuffling": True,
        "learning_rate": 5e-4,
        "lr_scheduler_type": "constant",
        "bf16": True,
        "disable_gradient_checkpointing": True,
        "use_cpu": True,
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
    }
    seen: list[list[int]] = []
    from llamafactory.train.sft import workflow

    original = workflow.get_dataset

    def noting(*args: Any, **kwargs: Any) -> Any:
        data = original(*args, **kwargs)
        seen.extend(data["train_dataset"]["input_ids"])
        return data

    workflow.get_dataset = noting
    run_exp(arguments, callbacks=[clock])
    rows = json.loads((folder / "rows.json").read_text())
    assert seen == [row["input_ids"] for row in rows], "it was given other tokens"


def train_with_tunewright(candidate: str, folder: Path, out: Path, job: dict[str, Any], clock: Clock) -> None:
    from peft.utils import set_peft_model_state_dict
    from safetensors.torch import load_file

    from tunewright import load_spec
    from tunewright.training.engine.fast_paths import RequestedPaths
    from tunewright.training.loop.trainer import build_trainer

    technique, _, precision = candidate.partition("-")
    requested = RequestedPaths(
        technique in ("prefix", "all"), technique in ("head", "all"), technique in ("layers", "all")
    )
    spec = load_spec(folder, [f"train.precision={'float32' if precision else 'bfloat16'}"])
    rows = json.loads((folder / "rows.json").read_text())
    trainer = build_trainer(spec, Path(job["base"]), rows, out / "out", seed=0, requested=requested)
    set_peft_model_state_dict(trainer.model, load_file(folder / "first" / "adapter_model.safetensors"))
    trainer.args.train_sampling_strategy = "sequential"
    trainer.args.save_strategy = "no"
    trainer.add_callback(clock)
    trainer.train()
    trainer.model.save_pretrained(str(out / "adapter"))


def main(candidate: str, folder: Path) -> None:
    logging.disable(logging.WARNING)
    out = folder / candidate
    # Some would go on from the checkpoint of an earlier call.
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    job = json.loads((folder / "job.json").read_text())
    clock = Clock()
    if candidate.startswith("trl"):
        train_with_trl(candidate, folder, out, job, clock)
    elif candidate == "llama-factory":
        train_with_llama_factory(folder, out, job, clock)
    else:
        train_with_tunewright(candidate, folder, out, job, clock)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    (out / "result.json").write_text(json.dumps({"seconds": clock.seconds, "peak_mb": peak}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).resolve())
