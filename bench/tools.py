"""Tool calls: SmolLM2-135M trained on a generated set of 25 tools (bench/tools_set.py), by the package's own run.

    python bench/tools.py [--rows 2000] [--test 400] [--epochs 2] [--seed 0] [OVERRIDE…]
    python bench/tools.py --rows 200 --test 60 --epochs 1      # to try it

Three tests: `values` has the phrasings of training with values that it lacks, `phrasings` has other phrasings with
values of training, `both` has neither. Intervals count phrasings, not rows. Run it again after a stop: what is done
stays. An override is one of the spec's: model=qwen3-0.6b.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from tools_set import rows, tools

import tunewright as tw
from tunewright.core.artifacts import write_jsonl

RUNS = Path(__file__).parent / "runs" / "tools"
TESTS = {"values": (False, True), "phrasings": (True, False), "both": (True, True)}
"""Name of the test: (new phrasings, new values)."""
CANDIDATES = {"nearest": "nearest example", "few_shot": "base, few-shot", "served": "served"}
LEAST = 3
"""Tools that the end of the output names."""


def project(count: int, tests: int, seed: int, epochs: float) -> Path:
    """The project of a setting, made anew from the seed; its outputs stay."""
    folder = RUNS / f"{count}-{tests}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tools.json").write_text(json.dumps(tools(), indent=2), "utf-8")
    write_jsonl(folder / "train.jsonl", rows(count, new_phrasings=False, new_values=False, seed=seed))
    for name, (phrasings, values) in TESTS.items():
        write_jsonl(folder / f"{name}.jsonl", rows(tests, new_phrasings=phrasings, new_values=values, seed=seed))
    spec = {
        "name": "tools",
        "model": "smollm2-135m",
        "seed": seed,
        "task": {
            "kind": "tools",
            "instruction": "Call the tool that does what is asked, or answer where none does.",
            "tools": "tools.json",
        },
        "data": {"train": "train.jsonl", "test": {name: f"{name}.jsonl" for name in TESTS}, "group": "template"},
        "train": {"epochs": epochs, "max_length": 256, "num_seeds": 1},
        "evaluate": {"max_examples": 60},
        "goal": {"accuracy": 0.9, "p95_ms": 3000},
    }
    (folder / "tunewright.yaml").write_text(json.dumps(spec, indent=2), "utf-8")
    return folder


def shown(value: dict[str, Any]) -> str:
    return f"{100 * value['value']:.1f} ({100 * value['low']:.1f} to {100 * value['high']:.1f})"


def report(comparison: dict[str, Any]) -> None:
    """A table of all tests, and the tools that the served model knows worst."""
    scores = {key: comparison["candidates"][key]["scores"] for key in CANDIDATES if key in comparison["candidates"]}
    names = [comparison["primary_metric"], *scores["served"]["both"]["others"]]
    print(f"| candidate | test | n | {' | '.join(names)} |\n|---|---|---:|{'---:|' * len(names)}")
    for key, splits in scores.items():
        for split in TESTS:
            score = splits[split]
            cells = " | ".join(shown(each) for each in (score["primary_metric"], *score["others"].values()))
            print(f"| {CANDIDATES[key]} | {split} | {score['count']} | {cells} |")
    single = scores["served"]["both"]["fields"]
    worst = sorted((name for name in single if "." not in name), key=lambda name: float(single[name]["value"]))[:LEAST]
    print("\nLowest F1 of `both`: " + ", ".join(f"{name} {shown(single[name])}" for name in worst))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--test", type=int, default=400)
    parser.add_argument("--epochs", type=float, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("overrides", nargs="*")
    given = parser.parse_args()
    folder = project(given.rows, given.test, given.seed, given.epochs)
    report(tw.run(tw.load_spec(folder, given.overrides)).data["comparison"])


if __name__ == "__main__":
    main()
