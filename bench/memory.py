"""Peak memory and seconds a step of trainings on this machine's CPU, each in a process of its own.

    python bench/memory.py [EXAMPLE …] [STEPS]        # examples/invoices and examples/tickets, 4 steps each

SmolLM2-135M learns an example project with its own settings, in one process, with all fast paths. The first step warms
up. Two minutes on 2 quiet cores.
"""

from __future__ import annotations

import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tunewright as tw
from tunewright.core.progress import quiet_libraries
from tunewright.data import load_dataset
from tunewright.training.loop.prepare import Encoder
from tunewright.training.loop.trainer import build_trainer

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = ("invoices", "tickets")


def measure(name: str, steps: int) -> dict[str, object]:
    """Train in this process. Returns peak MB, seconds a step, the passes of a batch, the losses."""
    from transformers import TrainerCallback

    seconds: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: object, **__: object) -> None:
            self._begun = time.perf_counter()

        def on_step_end(self, *_: object, **__: object) -> None:
            seconds.append(time.perf_counter() - self._begun)

    with tempfile.TemporaryDirectory() as folder:
        project = Path(folder) / name
        shutil.copytree(EXAMPLES / name, project, ignore=shutil.ignore_patterns("runs"))
        settings = ["model=smollm2-135m", f"train.max_steps={steps}", "train.num_checkpoints=0"]
        spec = tw.load_spec(project, settings)
        encoder = Encoder(spec)
        rows = encoder.rows(load_dataset(tw.split(spec)).train)
        trainer = build_trainer(spec, encoder.base.folder, rows, project / "checkpoints", spec.seed)
        trainer.add_callback(Clock())
        trainer.train()
    return {
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "seconds": statistics.median(seconds[1:]),
        "passes": trainer.args.gradient_accumulation_steps,
        "losses": [round(each["loss"], 4) for each in trainer.state.log_history if "loss" in each],
    }


def main(names: list[str], steps: int) -> None:
    for name in names:
        command = [sys.executable, __file__, "--measure", name, str(steps)]
        found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        print(
            f"{name:10} peak {found['peak_mb']:,} MB, {found['seconds']:.2f} s a step of {found['passes']} passes, "
            f"losses {found['losses']}",
            flush=True,
        )


if __name__ == "__main__":
    quiet_libraries()
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
    else:
        asked = sys.argv[1:]
        main([each for each in asked if each in NAMES] or list(NAMES), next(map(int, filter(str.isdigit, asked)), 4))
