"""The ladder on the shipped tickets: half of SmolLM2-135M, the whole of it, and what Phi-3-mini would cost.

    python bench/ladder.py [seed]

Half a model is its first fifteen layers with the head of the whole, untrained: the tuning has to make it one. The goal
is 80 % on every test part, which the whole model reaches. Outputs stay in bench/runs.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from quality import RUNS

import tunewright as tw
from tunewright.core.progress import quiet_libraries
from tunewright.inference.runtimes.torch_model import load_torch_model
from tunewright.models.resolve import resolve

LAYERS = 15


def half(folder: Path) -> Path:
    if not folder.exists():
        base = resolve("smollm2-135m", Path()).folder
        model = load_torch_model(base)
        model.model.layers = model.model.layers[:LAYERS]
        model.config.num_hidden_layers, model.config.layer_types = LAYERS, None
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(base / name, folder / name)
    return folder


def main(seed: int) -> None:
    quiet_libraries()
    small = half(RUNS / "smollm2-half")
    goal = ["goal.accuracy=0.8", "goal.margin=0.15", f"seed={seed}"]
    spec = tw.load_spec(
        Path(__file__).parents[1] / "examples" / "tickets", [f"candidates=[{small}, smollm2-135m, phi-3-mini]", *goal]
    )
    report = tw.run(spec, runs=RUNS / "ladder")
    assert report.ladder
    print(*report.ladder.summary, f"{report.decision}: {report.ladder.sentence}", sep="\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
