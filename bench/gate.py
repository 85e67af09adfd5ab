"""How often the gate lets a challenger pass that should not, and one that should: on made-up answers of a known truth.

    python bench/gate.py [RUNS]

Each run draws answers of both models to an old test and to a newer one, of three labels; the margin is 2 points.
"""

from __future__ import annotations

import sys

import numpy as np

from tunewright.evaluation.evidence import Record
from tunewright.monitoring.retraining.gate import decide
from tunewright.tasks import Example, Meta

LABELS = ("billing", "defect", "refund")
CASES = {
    "as good": [(0.05, 0.05)] * 3,
    "as good, six examples right or wrong together": [(0.05, 0.05)] * 3,
    "worse by 2 points": [(0.03, 0.05)] * 3,
    "better by 3 points, one label worse by 6": [(0.10, 0.025), (0.10, 0.025), (0.02, 0.08)],
    "better by 3 points": [(0.06, 0.03)] * 3,
    "better by 6 points": [(0.09, 0.03)] * 3,
}
"""Of each label: how often the challenger is right alone, and the champion."""
SIZES = ({"old": 600, "new": 90}, {"old": 2400, "new": 360})


def drawn(rng: np.random.Generator, sizes: dict[str, int], chances: list[tuple[float, float]], together: int):
    new, old, examples = [], [], {}
    for test, count in sizes.items():
        draws = np.repeat(rng.random(-(-count // together)), together)[:count]
        for number, draw in enumerate(draws):
            (alone, champion_alone), label = chances[number % 3], LABELS[number % 3]
            place, group = f"{test}:{number}", f"{test} {number // together}" if together > 1 else None
            examples[place] = Example.of("1 " * (number % 40 + 1), label, Meta(id=place, group=group))
            for found, right in ((new, not alone <= draw < alone + champion_alone), (old, draw >= alone)):
                answer = label if right else LABELS[(number + 1) % 3]
                found.append(Record(place, test, label, answer, 0.9, 20.0, 10, 2, group))
    return new, old, examples


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f"| {runs} trainings each | 690 test examples | 2,760 |\n|---|---|---|")
    for name, chances in CASES.items():
        shares = []
        for sizes in SIZES:
            rng = np.random.default_rng(0)
            passed = [
                decide(
                    *drawn(rng, sizes, chances, 6 if "together" in name else 1), margin=0.02, p95_ms=100, by_label=True
                )
                for _ in range(runs)
            ]
            shares.append(sum(each.passed for each in passed) / runs)
        print(f"| {name} | {shares[0]:.1%} | {shares[1]:.1%} |", flush=True)


if __name__ == "__main__":
    main()
