"""Predicted against measured memory and time of trainings on this machine's CPU.

    python bench/plan.py [CASE ...]
    python bench/plan.py --speed      # the probes of this machine's speed, alone and beside others' work

Each case trains SmolLM2-135M for STEPS steps in a process of its own, on examples of random tokens that share a prefix,
as the step `train` would. Measured is the peak of the process's resident memory (ru_maxrss): all that a user sees,
libraries and the loading of the model included. The time of a step is the median of those after the first. Cases are
named method-batch-prefix-own, with -checkpointing or -float32 behind.
"""

from __future__ import annotations

import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from tunewright.config.schema import Spec
from tunewright.core.progress import quiet_libraries
from tunewright.core.threads import threads
from tunewright.economics.memory import TRAINER
from tunewright.inference.runtimes.torch_model import compute_type
from tunewright.models.catalogue import catalogue
from tunewright.models.resolve import resolve
from tunewright.training.planning.cpu import cpu_speed, held, stored_bytes
from tunewright.training.planning.footprint import footprint

STEPS = 3
CASES = [
    "lora-8-100-40",
    "lora-16-100-40",
    "lora-8-200-100",
    "lora-4-400-100",
    "lora-8-100-40-float32",
    "lora-8-0-128-checkpointing",
    "qlora-8-100-40",
    "qlora-16-100-40",
    "qlora-8-0-64-checkpointing",
]


def setting(case: str) -> tuple[Spec, list[dict[str, Any]]]:
    """A spec and the rows of STEPS batches."""
    method, batch, prefix, own, *rest = case.split("-")
    spec = Spec.model_validate(
        {
            "name": "plan",
            "task": {"kind": "classify", "instruction": "", "labels": ["a", "b"]},
            "data": {"train": "none"},
            "train": {
                "method": method,
                "batch_size": int(batch),
                "num_checkpoints": 0,
                "epochs": 1,
                "gradient_checkpointing": "checkpointing" in rest,
                "precision": "float32" if "float32" in rest else "auto",
            },
        }
    )
    draw = random.Random(0)
    shared = draw.choices(range(1000, 40000), k=int(prefix))
    rows = []
    for _ in range(int(batch) * STEPS):
        ids = shared + draw.choices(range(1000, 40000), k=int(own))
        rows.append({"input_ids": ids, "labels": [-100] * (len(ids) - 2) + ids[-2:]})
    return spec, rows


def measure(case: str) -> None:
    """Train a case in this process; print peak bytes and seconds a step as JSON."""
    from transformers import TrainerCallback

    from tunewright.training.loop.trainer import build_trainer

    quiet_libraries()
    spec, rows = setting(case)
    ends = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            ends.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(spec, resolve(spec.model, Path()).folder, rows, Path(folder), seed=0)
        trainer.add_callback(Clock())
        trainer.train()
    steps = [later - earlier for earlier, later in pairwise(ends)]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak": peak, "seconds": statistics.median(steps)}))


def speed() -> None:
    """What the probes find, with as many busy processes on each core as the line says."""
    for dtype in ("float32", "bfloat16"):
        alone = cpu_speed(dtype)
        for count in (0, 1, 3):
            busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count * threads())]
            began = time.perf_counter()
            found = cpu_speed(dtype)
            took = time.perf_counter() - began
            for process in busy:
                process.kill()
                process.wait()
            print(
                f"{dtype}, {count} busy: {found.flops / 1e9:.0f} GFLOP/s ({found.flops / alone.flops:.2f}), "
                f"{found.bytes / 1e9:.1f} GB/s ({found.bytes / alone.bytes:.2f}), spread {found.spread:.2f}, "
                f"{took:.1f} s",
                flush=True,
            )


def main() -> None:
    quiet_libraries()
    shape = catalogue()["smollm2-135m"].shape
    assert shape
    print(
        f"{'':30}{'counted':>9}{'predicted':>11}{'measured, MB':>14}{'':>7}{'predicted':>11}{'measured, s':>13}",
        flush=True,
    )
    for case in sys.argv[1:] or CASES:
        spec, rows = setting(case)
        dtype = compute_type(spec.train.precision)
        counted = footprint(shape.config(), spec.train, rows[: spec.train.batch_size], dtype, on_cpu=True)
        speed = cpu_speed(dtype)
        done = subprocess.run([sys.executable, __file__, "--measure", case], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        # Resident pages of the mapped file are those of the model that is made of it, while it is made.
        peak = max(held(counted), TRAINER + stored_bytes(spec.model, Path()) + counted.weights)
        took = speed.seconds(counted.work)
        far, late = peak / found["peak"] - 1, took / found["seconds"] - 1
        print(
            f"{case:30}{counted.peak / 1e6:9.0f}{peak / 1e6:11.0f}{found['peak'] / 1e6:14.0f}{far:+7.0%}"
            f"{took:11.2f}{found['seconds']:13.2f}{late:+7.0%}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(sys.argv[2])
    elif sys.argv[1:2] == ["--speed"]:
        speed()
    else:
        main()
