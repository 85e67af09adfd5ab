"""One candidate of bench/gpu.py: `python bench/gpu_candidate.py CANDIDATE FOLDER` trains FOLDER/job.json and writes
FOLDER/CANDIDATE.json.

Needs nothing of Tunewright for the candidates of others, so that it runs in their environments too.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

IGNORED = -100


class Clock:
    """The seconds of each step, the device's work included."""

    def __init__(self, device: str):
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self._device = device
        self._last = time.perf_counter()

    def begin(self) -> None:
        self._last = time.perf_counter()

    def step(self) -> None:
        import torch

        if self._device == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds.append(now - self._last)
        self._last = now

    def callback(self) -> Any:
        """For transformers' Trainer."""
        from transformers import TrainerCallback

        clock = self

        class Told(TrainerCallback):
            def on_train_begin(self, *_: Any, **__: Any) -> None:
                clock.begin()

            def on_step_end(self, *_: Any, **__: Any) -> None:
                clock.step()

            def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
                if logs and "loss" in logs:
                    clock.losses.append(float(logs["loss"]))

        return Told()


def sft_config(job: dict[str, Any], out: str) -> Any:
    """TRL's settings, as they come but for what the job says."""
    from trl import SFTConfig

    return SFTConfig(
        output_dir=out,
        max_steps=job["steps"],
        per_device_train_batch_size=job["batch"],
        learning_rate=job["lr"],
        lr_scheduler_type="constant",
        max_length=None,
        completion_only_loss=True,
        bf16=job["dtype"] == "bfloat16",
        fp16=job["dtype"] == "float16",
        gradient_checkpointing=job["checkpointing"],
        use_cpu=job["device"] == "cpu",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        optim="adamw_torch_fused",
    )


def dataset_of(job: dict[str, Any]) -> Any:
    from datasets import Dataset

    return Dataset.from_list(
        [
            {"input_ids": row["input_ids"], "completion_mask": [int(label != IGNORED) for label in row["labels"]]}
            for row in job["rows"]
        ]
    )


def train_with_trl(job: dict[str, Any], out: str, clock: Clock) -> None:
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
    from trl import SFTTrainer

    dtype = getattr(torch, job["dtype"])
    quantization = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=dtype
    )
    held = {"quantization_config": quantization} if job["nf4"] else {}
    model = AutoModelForCausalLM.from_pretrained(job["base"], dtype=dtype, device_map={"": job["device"]}, **held)
    lora = LoraConfig(r=job["rank"], lora_alpha=job["alpha"], target_modules="all-linear", task_type="CAUSAL_LM")
    trainer = SFTTrainer(
        model,
        sft_config(job, out),
        train_dataset=dataset_of(job),
        peft_config=lora,
        processing_class=AutoTokenizer.from_pretrained(job["base"]),
    )
    trainer.add_callback(clock.callback())
    trainer.train()


def train_with_tunewright(job: dict[str, Any], out: str, clock: Clock) -> None:
    from recipes import spec_of

    from tunewright.training.loop.trainer import build_trainer

    spec = spec_of(job["recipe"])
    changed = {
        "precision": job["dtype"],
        "batch_size": job["batch"],
        "gradient_accumulation_steps": 1,
        "max_steps": job["steps"],
        "num_checkpoints": 0,
        "num_evaluations": 0,
        "schedule": "constant",
        "warmup_ratio": 0.0,
    }
    spec = spec.model_copy(update={"train": spec.train.model_copy(update=changed)})
    trainer = build_trainer(spec, Path(job["base"]), job["rows"], Path(out), seed=0)
    if trainer.engine.reasons:
        sys.exit(f"without {trainer.engine.reasons}")
    trainer.add_callback(clock.callback())
    trainer.train()


def train_with_unsloth(job: dict[str, Any], out: str, clock: Clock) -> None:
    """By its documentation (unsloth.ai/docs, read 2026-11-27); its kernels need a GPU, so nobody has run this here."""
    import torch
    from unsloth import FastLanguageModel
    from trl import SFTTrainer  # isort: skip (Unsloth patches it, so it must come first)

    length = max(len(row["input_ids"]) for row in job["rows"])
    model, tokenizer = FastLanguageModel.from_pretrained(
        model_name=job["base"], max_seq_length=length, dtype=getattr(torch, job["dtype"]), load_in_4bit=job["nf4"]
    )
    model = FastLanguageModel.get_peft_model(
        model,
        r=job["rank"],
        lora_alpha=job["alpha"],
        lora_dropout=0,
        bias="none",
        random_state=0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        use_gradient_checkpointing="unsloth" if job["checkpointing"] else False,
    )
    trainer = SFTTrainer(
        model=model, args=sft_config(job, out), train_dataset=dataset_of(job), processing_class=tokenizer
    )
    trainer.add_callback(clock.callback())
    trainer.train()


def train_with_torchtune(job: dict[str, Any], out: str, clock: Clock) -> None:  # noqa: ARG001 (as the others)
    """Its model and layers in the plain loop of its single-device recipe: padded batches, the loss in chunks."""
    import torch
    from torchtune.models.llama3 import lora_llama3
    from torchtune.models.mistral import lora_mistral
    from torchtune.models.phi3 import lora_phi3
    from torchtune.modules.loss import CEWithChunkedOutputLoss
    from torchtune.modules.peft import get_adapter_params, set_trainable_params
    from torchtune.training import set_activation_checkpointing, set_default_dtype
    from torchtune.modules import TransformerSelfAttentionLayer  # isort: skip

    made = {"llama": lora_llama3, "mistral": lora_mistral, "phi3": lora_phi3}
    shape, kind = job["config"], job["config"]["model_type"]
    if kind not in made:
        sys.exit(f"no builder for {kind}")
    with set_default_dtype(getattr(torch, job["dtype"])), torch.device(job["device"]):
        torch.manual_seed(0)
        model = made[kind](
            lora_attn_modules=["q_proj", "k_proj", "v_proj", "output_proj"],
            apply_lora_to_mlp=True,
            apply_lora_to_output=False,
            vocab_size=shape["vocab_size"],
            num_layers=shape["num_hidden_layers"],
            num_heads=shape["num_attention_heads"],
            num_kv_heads=shape["num_key_value_heads"],
            embed_dim=shape["hidden_size"],
            intermediate_dim=shape["intermediate_size"],
            max_seq_len=2048,
            lora_rank=job["rank"],
            lora_alpha=job["alpha"],
            quantize_base=job["nf4"],
        )
    set_trainable_params(model, get_adapter_params(model))
    if job["checkpointing"]:
        set_activation_checkpointing(model, {TransformerSelfAttentionLayer})
    loss_of = CEWithChunkedOutputLoss()
    model.set_num_output_chunks(loss_of.num_output_chunks)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], job["lr"], fused=True)
    clock.begin()
    for start in range(0, job["steps"] * job["batch"], job["batch"]):
        rows = job["rows"][start : start + job["batch"]]
        length = max(len(row["input_ids"]) for row in rows)
        ids, wanted = (
            torch.tensor([row[name] + [fill] * (length - len(row[name])) for row in rows], device=job["device"])
            for name, fill in (("input_ids", 0), ("labels", IGNORED))
        )
        wanted = torch.cat([wanted[:, 1:], torch.full_like(wanted[:, :1], IGNORED)], 1)
        loss = loss_of(model(ids), wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        clock.losses.append(float(loss.detach()))
        clock.step()


def main(candidate: str, folder: Path) -> None:
    logging.disable(logging.WARNING)
    job = json.loads((folder / "job.json").read_text("utf-8"))
    train = globals()[f"train_with_{candidate}"]
    clock = Clock(job["device"])
    with tempfile.TemporaryDirectory() as out:
        train(job, out, clock)
    import torch

    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    on_gpu = job["device"] == "cuda"
    (folder / f"{candidate}.json").write_text(
        json.dumps(
            {
                "seconds": clock.seconds,
                "losses": clock.losses,
                "peak": torch.cuda.max_memory_allocated() if on_gpu else resident,
                "reserved": torch.cuda.max_memory_reserved() if on_gpu else resident,
            }
        ),
        "utf-8",
    )


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main(sys.argv[1], Path(sys.argv[2]).resolve())
