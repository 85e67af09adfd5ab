"""Training speed against TRL's SFTTrainer and LLaMA-Factory: the same base, tokens, order, first values and steps.

    python bench/train.py                      # all candidates, both prompts; about 25 minutes on 2 quiet cores
    python bench/train.py short trl all        # one prompt, two candidates

SmolLM2-135M learns BANKING77 (bench/data_sets.py) with LoRA r 16 on all linear layers, 16 examples a step, answers and
their end token learnt. Every candidate is a process of its own (bench/train_candidate.py); its first step warms up,
untimed. "loss" is what the trained adapter leaves on the examples it was trained on, measured for all candidates by the
same plain float32 forward pass. LLaMA-Factory lives in a virtual environment of its own, made on first use.
"""

from __future__ import annotations

import functools
import json
import random
import statistics
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

from data_sets import DATA as PUBLIC

import tunewright as tw
from tunewright.core.artifacts import read_jsonl, write_json
from tunewright.core.progress import quiet_libraries
from tunewright.inference.runtimes.prefix import common_prefix
from tunewright.inference.runtimes.torch_model import load_torch_model
from tunewright.models.fetch import cache_folder
from tunewright.models.tokenizer import TextTokenizer
from tunewright.tasks import Example, Meta, task_of
from tunewright.training.engine.fast_paths import supervised_loss
from tunewright.training.engine.head import add_supervision
from tunewright.training.engine.packing import pad
from tunewright.training.loop.prepare import Encoder
from tunewright.training.loop.trainer import lora_config

HERE = Path(__file__).parent
DATA = PUBLIC / "banking77" / "train.jsonl"
RUNS = HERE / "runs" / "train"
PROMPTS = {
    "short": "Name the intent of this question to a bank, in the words of our list of intents.",
    "long": "Name the intent of this question to a bank. The intents: {all}.",
}
BATCH, STEPS, WARM = 16, 5, 1
CANDIDATES = {
    "trl": "TRL SFTTrainer, as it comes (bfloat16 autocast)",
    "trl-bf16": "TRL SFTTrainer, bfloat16 weights",
    "llama-factory": "LLaMA-Factory, bf16: true",
    "plain": "Tunewright, bfloat16, no technique",
    "head": "Tunewright, bfloat16, logits where learnt",
    "layers": "Tunewright, bfloat16, fused LoRA layers",
    "prefix": "Tunewright, bfloat16, packed with shared prompt",
    "all": "Tunewright, bfloat16, all three",
    "all-fp32": "Tunewright, float32, all three",
}


def prepare(prompt: str) -> tuple[Path, list[Any]]:
    """Write what the candidates train on: the base's place, rows as tokens and as text, and the adapter's first
    values."""
    from peft import get_peft_model
    from transformers import set_seed

    folder = RUNS / prompt
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(read_jsonl(DATA))
    labels = {row["label"]: row["label"].replace("_", " ") for row in rows}
    spec = tw.Spec.model_validate(
        {
            "name": "speed",
            "task": {
                "kind": "classify",
                "instruction": PROMPTS[prompt].format(all=", ".join(labels.values())),
                "labels": list(labels.values()),
            },
            "data": {"train": str(DATA)},
            "train": {"batch_size": BATCH, "max_steps": STEPS, "lr": 5e-4, "schedule": "constant", "warmup_ratio": 0},
        }
    )
    chosen = random.Random(0).sample(rows, BATCH * STEPS)
    examples = [Example.of(row["text"], labels[row["label"]], Meta(id=str(at))) for at, row in enumerate(chosen)]
    encoder = Encoder(spec)
    encoded = encoder.rows(examples)
    task = task_of(spec.task).fitted(TextTokenizer(encoder.base.folder).encode_verbatim)
    texts = [
        {"system": task.system, "instruction": example.request, "output": task.written(example.answer).content}
        for example in examples
    ]
    set_seed(0)
    model = get_peft_model(load_torch_model(encoder.base.folder), lora_config(spec.train.lora))
    model.save_pretrained(str(folder / "first"))
    spec.save(folder)
    write_json(folder / "rows.json", encoded)
    write_json(folder / "texts.json", texts)
    write_json(folder / "job.json", {"base": str(encoder.base.folder), "batch": BATCH, "steps": STEPS})
    return folder, encoded


def run_candidate(candidate: str, folder: Path) -> dict[str, Any]:
    python = llama_factory() if candidate == "llama-factory" else sys.executable
    done = subprocess.run(
        [python, str(HERE / "train_candidate.py"), candidate, str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"{candidate} failed:\n{done.stderr[-3000:]}")
    return json.loads((folder / candidate / "result.json").read_text())


def llama_factory() -> str:
    """Its Python, in a virtual environment beside the cache."""
    home = cache_folder() / "bench" / "llama-factory"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        venv.create(home, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "llamafactory==0.9.5"], check=True)
        (home / "ready").touch()
    return str(python)


def loss_left(adapter: Path, base: Path, rows: list[Any]) -> float:
    """Mean cross-entropy of the learnt tokens under a trained adapter, by the model's own forward pass in float32."""
    import torch
    from peft import PeftModel

    model = PeftModel.from_pretrained(load_torch_model(base), str(adapter)).eval()
    add_supervision(model.get_base_model())
    total = learnt = 0.0
    with torch.no_grad():
        for start in range(0, len(rows), BATCH):
            batch = pad(rows[start : start + BATCH])
            total += float(supervised_loss(model, batch))
            learnt += int((batch["labels"] >= 0).sum())
    return total / learnt


def main(prompts: list[str], candidates: list[str]) -> None:
    quiet_libraries()
    for prompt in prompts:
        folder, rows = prepare(prompt)
        job = json.loads((folder / "job.json").read_text())
        shared = len(functools.reduce(lambda a, b: a[: common_prefix(a, b)], [row["input_ids"] for row in rows]))
        own = statistics.mean(len(row["input_ids"]) - shared for row in rows)
        print(f"\n{prompt}: {shared} tokens shared, {own:.0f} of an example's own with its answer; {BATCH} examples")
        print(f"{'':50}{'s a step':>10}{'examples/s':>12}{'x TRL':>8}{'peak MB':>9}{'loss':>9}")
        first = None
        for candidate in candidates:
            result = run_candidate(candidate, folder)
            seconds = statistics.median(result["seconds"][WARM:])
            first = first or seconds
            loss = loss_left(folder / candidate / "adapter", Path(job["base"]), rows)
            print(
                f"{CANDIDATES[candidate]:50}{seconds:10.2f}{BATCH / seconds:12.2f}{first / seconds:8.2f}"
                f"{result['peak_mb']:9.0f}{loss:9.4f}",
                flush=True,
            )


if __name__ == "__main__":
    asked = sys.argv[1:]
    main([p for p in asked if p in PROMPTS] or list(PROMPTS), [a for a in asked if a in CANDIDATES] or list(CANDIDATES))
