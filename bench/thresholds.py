"""Thresholds of several labels: which way of choosing them does best on unseen examples of made-up models.

Twenty labels, from common to one text in two hundred. A model's logits are those of the truth, but for each label
stretched and shifted by chance: by nothing (its probabilities are exact), by half a unit or by one. Printed is the mean
micro-F1 on 4,000 unseen examples, of 20 models each, after so many validation examples.

    python bench/thresholds.py
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import numpy as np

from tunewright.inference.thresholds import Bools, Floats, choose_belief, choose_thresholds, sigmoid

LABELS, UNSEEN, MODELS = 20, 4000, 20
Way = Callable[[Floats, Bools], Floats]


def world(seed: int, count: int, wrong: float, clear: float) -> tuple[Floats, Bools]:
    """(probabilities, truth) of some examples, [count, LABELS].

    Args:
        wrong: standard deviation of a label's shift; of its stretching half as much, on a log scale.
        clear: standard deviation of the true log-odds: the larger, the surer the truth is.
    """
    draw = np.random.default_rng(seed)
    usual = np.exp(draw.uniform(np.log(0.005), np.log(0.3), LABELS))
    true = draw.normal(np.log(usual / (1 - usual)), clear, (count, LABELS))
    gold = draw.random(true.shape) < sigmoid(true)
    return sigmoid(true * draw.lognormal(0, wrong / 2, LABELS) + draw.normal(0, wrong, LABELS)), gold


def believing(belief: float) -> Way:
    return lambda found, gold: choose_thresholds(found, gold, np.ones(len(gold)), belief)[0]


def cross_validated(found: Floats, gold: Bools) -> Floats:
    folds, counts = np.arange(len(gold)) % 5, np.ones(len(gold))
    return choose_thresholds(found, gold, counts, choose_belief(found, gold, counts, folds))[0]


WAYS: dict[str, Way] = {
    "even odds": lambda found, _: np.full(found.shape[1], 0.5),
    "all together": believing(inf),
    "belief 50": believing(50.0),
    "belief 10": believing(10.0),
    "its own": believing(0.0),
    "cross-validated": cross_validated,
}


def main() -> None:
    print(f"{'clear':>5} {'wrong':>5} {'rows':>5}", *(f"{name:>15}" for name in WAYS))
    for clear in (2.0, 4.0):
        for wrong in (0.0, 0.5, 1.0):
            for rows in (200, 500, 2000):
                reached: dict[str, list[float]] = {name: [] for name in WAYS}
                for seed in range(MODELS):
                    found, gold = world(seed, rows + UNSEEN, wrong, clear)
                    for name, way in WAYS.items():
                        given = found[rows:] >= way(found[:rows], gold[:rows])
                        right = 2 * (given & gold[rows:]).sum() / (given.sum() + gold[rows:].sum())
                        reached[name].append(float(right))
                shown = (f"{100 * np.mean(each):>15.1f}" for each in reached.values())
                print(f"{clear:>5} {wrong:>5} {rows:>5}", *shown, flush=True)


if __name__ == "__main__":
    main()
