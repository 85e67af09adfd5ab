"""Trainings in one process with all cores, and in those that the step takes by itself: seconds a step, memory.

    python bench/processes.py [ROUNDS]

SmolLM2-135M learns BANKING77 with the settings of bench/quality.py. In each round both are trained for
FEW and for MANY steps; the difference tells the time of a step without what comes before and after. The median of three
rounds takes about 20 minutes on 2 quiet cores.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from quality import project

import tunewright as tw
from tunewright.core.artifacts import Manifest, read_manifest

FEW, MANY = 5, 45
CANDIDATES = {"one process": {"RANK": "0"}, "divided": {}}
"""Environment of each."""


def train(spec: Path, split: Path, steps: int, environment: dict[str, str]) -> Manifest:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "train"
        subprocess.run(
            [
                sys.executable,
                "-m",
                "tunewright.pipeline.step",
                "train",
                "--spec",
                str(spec),
                "--in",
                f"split={split}",
                "--out",
                str(out),
                f"train.max_steps={steps}",
                "train.num_seeds=1",
                "train.num_checkpoints=0",
            ],
            env=os.environ | environment,
            check=True,
            stderr=subprocess.DEVNULL,
        )
        manifest = read_manifest(out)
    assert manifest
    return manifest


def main(rounds: int) -> None:
    spec = project("banking77", final=True, twice=False)
    split = tw.split(tw.load_spec(spec))
    seconds: dict[str, list[float]] = {candidate: [] for candidate in CANDIDATES}
    for _ in range(rounds):
        for candidate, environment in CANDIDATES.items():
            few, many = (train(spec, split, steps, environment) for steps in (FEW, MANY))
            seconds[candidate].append((many.wall_seconds - few.wall_seconds) / (MANY - FEW))
            print(
                f"{candidate}, {many.result['processes']} of them: {seconds[candidate][-1]:.2f} s a step, "
                f"{many.peak_memory_mb:,.0f} MB",
                flush=True,
            )
    one, divided = (statistics.median(seconds[candidate]) for candidate in CANDIDATES)
    print(f"medians {one:.2f} and {divided:.2f} s a step: {one / divided:.2f} times as fast")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
