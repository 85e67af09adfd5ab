"""Tokens a second and peak memory of the recipes on this machine's GPU, beside plain TRL, Unsloth and torchtune.

    python bench/gpu.py                         # the recipes of this card, all that is installed
    python bench/gpu.py phi-3-mini-t4 trl tunewright
    python bench/gpu.py --tiny                  # two small layers, on a CPU too: does it run?

The base has the recipe's true shape and random weights: what a step takes does not depend on what they say. Every
candidate is a process of its own (bench/gpu_candidate.py) that trains the same examples, of SHARED and OWN tokens, with
the recipe's batch, rank, base type and checkpointing; its first WARM steps are not timed. Tokens are those of the
examples as a user counts them, the prompt in each, whatever a candidate runs of them. a candidate that fails or is not
installed says so; Unsloth and torchtune may live elsewhere: UNSLOTH_PYTHON and TORCHTUNE_PYTHON name their Pythons. One
run for all, so that the candidates of a table met the same card. torchtune 0.6.1 needs torchao 0.14 or 0.15 beside
torch 2.13.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from recipes import OWN, SHARED, spec_of

from tunewright.config.recipes import recipe_names
from tunewright.core.artifacts import write_json
from tunewright.core.progress import quiet_libraries
from tunewright.doctor.report import machine
from tunewright.doctor.tiny import make_rows, make_tokenizer
from tunewright.models.catalogue import catalogue
from tunewright.models.device import has_bfloat16

HERE = Path(__file__).parent
RUNS = HERE / "runs" / "gpu"
STEPS, WARM = 8, 3
CANDIDATES = {"tunewright": "Tunewright", "trl": "TRL SFTTrainer", "unsloth": "Unsloth", "torchtune": "torchtune"}
CARDS = {"T4": "t4", "A10": "a10", "A100": "a100", "H100": "h100"}
TINY = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "vocab_size": 320,
}
_SHARD = 2**31
"""Bytes of a file of weights, about."""


def make_base(recipe: str, tiny: bool) -> Path:
    """The folder of a random base model in bfloat16; written tensor by tensor, once."""
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM

    entry = catalogue()[spec_of(recipe).model]
    assert entry.shape
    folder = RUNS / (f"tiny-{entry.shape.type}" if tiny else spec_of(recipe).model)
    if (folder / "model.safetensors.index.json").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    config = entry.shape.config()
    for name, value in (TINY if tiny else {}).items():
        setattr(config, name, value)
    if tiny and getattr(config, "head_dim", None):
        config.head_dim = 64
    tokenizer = make_tokenizer(entry.template, folder)
    config.pad_token_id = config.eos_token_id = tokenizer.eos_token_id
    config.bos_token_id = tokenizer.bos_token_id
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    config.architectures, config.dtype = [type(model).__name__], torch.bfloat16
    config.save_pretrained(folder)
    place: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    total = 0

    def write() -> None:
        nonlocal shard
        name = f"model-{len(set(place.values())):05d}.safetensors"
        save_file(shard, folder / name, {"format": "pt"})
        place.update(dict.fromkeys(shard, name))
        shard = {}

    for name, parameter in model.named_parameters():
        whole = torch.ones(parameter.shape) if parameter.dim() == 1 else torch.randn(parameter.shape) * 0.02
        shard[name] = whole.to(torch.bfloat16)
        total += shard[name].nbytes
        if sum(tensor.nbytes for tensor in shard.values()) > _SHARD:
            write()
    write()
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": place})
    return folder


def job_of(recipe: str, base: Path, device: str, tiny: bool) -> dict[str, Any]:
    """What every candidate is to do."""
    settings = spec_of(recipe).train
    batch = 4 if tiny else settings.batch_size
    rows = make_rows(250, SHARED, *([OWN] * batch * STEPS))
    config = json.loads((base / "config.json").read_text("utf-8"))
    dtype = "float32" if device == "cpu" else "bfloat16" if has_bfloat16() else "float16"
    return {
        "recipe": recipe,
        "base": str(base),
        "rows": rows,
        "batch": batch,
        "steps": STEPS,
        "device": device,
        "dtype": dtype,
        "nf4": settings.method == "qlora",
        "checkpointing": settings.gradient_checkpointing,
        "rank": settings.lora.r,
        "alpha": settings.lora.alpha,
        "lr": settings.lr,
        "config": config,
    }


def run_candidate(candidate: str, folder: Path) -> dict[str, Any] | str:
    """Its result, or why there is none."""
    python = os.environ.get(f"{candidate.upper()}_PYTHON", sys.executable)
    if (
        candidate in ("unsloth", "torchtune")
        and subprocess.run([python, "-c", _PROBE, candidate], check=False).returncode
    ):
        return "not installed"
    result = folder / f"{candidate}.json"
    result.unlink(missing_ok=True)
    done = subprocess.run(
        [python, str(HERE / "gpu_candidate.py"), candidate, str(folder)], capture_output=True, text=True
    )
    if done.returncode or not result.exists():
        said = [line for line in done.stderr.strip().splitlines() if line.strip()]
        return f"failed: {said[-1] if said else done.returncode}"[:200]
    found: dict[str, Any] = json.loads(result.read_text("utf-8"))
    return found


_PROBE = "import sys, importlib.util as u; sys.exit(u.find_spec(sys.argv[1]) is None)"


def measure(recipe: str, candidates: list[str], device: str, tiny: bool) -> None:
    """Print the table of a recipe."""
    base = make_base(recipe, tiny)
    job = job_of(recipe, base, device, tiny)
    folder = RUNS / recipe
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "job.json", job)
    print(
        f"\n{recipe}{', tiny' if tiny else ''}: {job['batch']} x {SHARED} + {OWN} tokens, "
        f"{'NF4' if job['nf4'] else '16-bit'} base, {job['dtype']}, "
        f"{'with' if job['checkpointing'] else 'without'} checkpointing\n"
    )
    print("| | tokens/s | s a step | peak GiB | reserved GiB | loss |\n|---|---|---|---|---|---|")
    for candidate in candidates:
        found = run_candidate(candidate, folder)
        if isinstance(found, str):
            print(f"| {CANDIDATES[candidate]} | {found} | | | | |", flush=True)
            continue
        step = statistics.median(found["seconds"][WARM:])
        rate, peak, reserved = job["batch"] * (SHARED + OWN) / step, found["peak"] / 2**30, found["reserved"] / 2**30
        print(
            f"| {CANDIDATES[candidate]} | {rate:,.0f} | {step:.3f} | {peak:.2f} | {reserved:.2f} | "
            f"{found['losses'][-1]:.3f} |",
            flush=True,
        )


def recipes_here() -> list[str]:
    """Those of this machine's card."""
    name = torch.cuda.get_device_name()
    card = next((short for part, short in CARDS.items() if part in name.replace("-", " ").split()), None)
    if card is None:
        sys.exit(f"There are no recipes for {name}; name some: {', '.join(recipe_names())}")
    return [recipe for recipe in recipe_names() if recipe.endswith(f"-{card}")]


def main() -> None:
    quiet_libraries()
    asked, tiny = sys.argv[1:], "--tiny" in sys.argv
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not tiny:
        sys.exit("There is no GPU here that torch can use; --tiny tries the bench on a CPU.")
    candidates = [candidate for candidate in asked if candidate in CANDIDATES] or list(CANDIDATES)
    named = [recipe for recipe in asked if recipe in recipe_names()]
    print(machine(device))
    for recipe in named or (["phi-3-mini-t4", "llama-3.1-8b-t4", "mistral-7b-t4"] if tiny else recipes_here()):
        measure(recipe, candidates, device, tiny)


if __name__ == "__main__":
    main()
