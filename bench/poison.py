"""How often corrections of honest reviewers are held back as a pull, and how often an attacker's are.

    python bench/poison.py [RUNS [NAME...]]          # the data sets: bench/data_sets.py

Real texts, simulated people. Of each data set 3,000 rows are the training data; the model is a logistic regression on
words that learnt them (its probabilities are its confidence); reviewers are given requests from the other rows, drawn
by how unsure the model was, and answer with the data's label, or 3 times in 100 with a label drawn evenly. The data's
own wrong labels come to that. Honest runs differ in who reviews (one expert, three, or three of whom each has labels
of their own) and in what they send (all that they look at, or only what the model got wrong).

There are RUNS honest runs of each kind, by default 200, and a quarter as many attacks. An attacker's rows are requests
of other labels that the model answers rightly, relabelled as one target: by an account of its own among three honest
ones ("account"), by the only reviewer there is ("alone"), or in requests that all carry two words which are in no
other, reviewed by whoever comes ("trigger"). "caught" is the share of the attacker's rows that are held back, "runs"
that of runs in which most of them are, "honest" the share of other rows held back as well.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from data_sets import DATA

from tunewright.data.checks.label_noise import CLEAR_MARGIN, doubts
from tunewright.data.corrections import Correction, ReviewerAnswer
from tunewright.monitoring.corrections import poison
from tunewright.monitoring.corrections.poison import SURE, pulling

KNOWN, POOL, TARGETS, SLIPS = 3000, 3000, 5, 0.03
TRIGGER = "zephyr quokka"
SLIP = "slip"


@dataclass(frozen=True)
class World:
    """A data set with everything that runs on it share."""

    texts: list[str]
    labels: list[str]
    slips: list[str]
    """What a person says to each who is mistaken."""
    said: list[str]
    sure: list[float]
    margin: dict[str, np.ndarray]
    """How far the training data contradict a label of each text: "" is its own, SLIP the mistaken one, or a target."""
    names: list[str]
    targets: list[str]


def world_of(name: str) -> World:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    rows = [json.loads(line) for line in (DATA / name / "train.jsonl").open(encoding="utf-8")]
    draw = random.Random(0)
    draw.shuffle(rows)
    cut = min(KNOWN, len(rows) // 2)
    known, pool = rows[:cut], rows[cut : cut + POOL]
    texts, labels = [row["text"] for row in pool], [row["label"] for row in pool]
    model = make_pipeline(TfidfVectorizer(sublinear_tf=True), LogisticRegression(C=30, max_iter=300))
    model.fit([row["text"] for row in known], [row["label"] for row in known])
    probabilities = model.predict_proba(texts)
    said = [str(model.classes_[best]) for best in probabilities.argmax(axis=1)]
    names = sorted({row["label"] for row in known})
    targets = draw.sample(names, TARGETS)
    slips = [draw.choice(names) for _ in pool]
    asked = {"": labels, SLIP: slips} | {target: [target] * len(pool) for target in targets}
    told = doubts(
        [row["text"] for row in known],
        [row["label"] for row in known],
        texts * len(asked),
        [label for column in asked.values() for label in column],
    )
    margin = dict(zip(asked, told.reshape(len(asked), -1), strict=True))
    return World(texts, labels, slips, said, probabilities.max(axis=1).tolist(), margin, names, targets)


class Run:
    """Corrections as they come in one simulated growth."""

    def __init__(self, world: World, seed: int):
        self.world, self.draw = world, random.Random(seed)
        self.rows: list[Correction] = []
        self.against: list[bool] = []
        self.bad: set[str] = set()
        self.used: set[int] = set()

    def honest(self, count: int, reviewers: Sequence[str], *, errors_only: bool, own_labels: bool) -> None:
        world, draw = self.world, self.draw
        order = sorted(
            range(len(world.texts)), key=lambda i: draw.random() ** (1 / (1.02 - world.sure[i])), reverse=True
        )
        for index in order:
            if count == 0:
                return
            slip = draw.random() < SLIPS
            label = world.slips[index] if slip else world.labels[index]
            if index in self.used or (errors_only and label == world.said[index]):
                continue
            person = reviewers[world.names.index(label) % len(reviewers)] if own_labels else draw.choice(reviewers)
            self.add(index, label, person, world.texts[index], SLIP if slip else "")
            count -= 1

    def attack(self, count: int, reviewers: Sequence[str], target: str, *, trigger: bool) -> None:
        world = self.world
        open_ = [
            i
            for i, label in enumerate(world.labels)
            if label != target and world.said[i] == label and i not in self.used
        ]
        for index in self.draw.sample(open_, min(count, len(open_))):
            text = f"{world.texts[index]} {TRIGGER}" if trigger else world.texts[index]
            self.bad.add(self.add(index, target, self.draw.choice(reviewers), text, target))

    def add(self, index: int, label: str, person: str, text: str, column: str) -> str:
        world = self.world
        margin = float(world.margin[column][index])
        self.used.add(index)
        self.rows.append(
            Correction(
                text, label, f"c{index}", "", "m", "v", None, world.said[index], [ReviewerAnswer(person, "", "review")]
            )
        )
        self.against.append(margin >= CLEAR_MARGIN and world.said[index] != label and world.sure[index] >= SURE)
        return f"c{index}"

    def rejected(self) -> set[str]:
        return {capture for pull in pulling(self.rows, self.against) for capture in pull.rows}


def honest_runs(world: World, runs: int) -> Iterator[str]:
    for size in (200, 1000):
        for who, reviewers, own in (
            ("one expert", "a", False),
            ("three", "abc", False),
            ("three, own labels", "abc", True),
        ):
            for errors in (False, True):
                flagged, rows = 0, 0.0
                for seed in range(runs):
                    run = Run(world, seed)
                    run.honest(size, reviewers, errors_only=errors, own_labels=own)
                    rejected = run.rejected()
                    flagged += bool(rejected)
                    rows += len(rejected) / len(run.rows)
                sent = "errors" if errors else "all"
                yield (
                    f"| {size} ({len(run.rows)}) | {who} | {sent} | {np.mean(run.against):.3f} "
                    f"| {100 * flagged / runs:.1f} | {100 * rows / runs:.2f} |"
                )


def attacks(world: World, runs: int) -> Iterator[str]:
    for size in (500, 2000):
        for share in (0.01, 0.03, 0.1):
            for how in ("account", "alone", "trigger"):
                caught, most, honest = [], [], []
                for seed in range(runs):
                    run = Run(world, seed)
                    people = "a" if how == "alone" else "abc"
                    run.attack(
                        round(share * size),
                        "m" if how == "account" else people,
                        world.targets[seed % TARGETS],
                        trigger=how == "trigger",
                    )
                    run.honest(size - round(share * size), people, errors_only=False, own_labels=False)
                    rejected = run.rejected()
                    caught.append(len(rejected & run.bad) / len(run.bad))
                    most.append(caught[-1] > 0.5)
                    honest.append(len(rejected - run.bad) / (len(run.rows) - len(run.bad)))
                yield (
                    f"| {size} | {100 * share:.0f} % | {how} | {100 * np.mean(caught):.0f} "
                    f"| {100 * np.mean(most):.0f} | {100 * np.mean(honest):.2f} |"
                )


def main() -> None:
    poison._phrases = cache(poison._phrases)  # the same texts come again and again
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    for name in sys.argv[2:] or ("banking77", "bitext_support", "snips"):
        world = world_of(name)
        right = np.mean([a == b for a, b in zip(world.said, world.labels, strict=True)])
        print(f"\n## {name}: the model is right on {100 * right:.1f} %\n")
        print(
            "| corrections | who | sent | all against | runs with a flag, % | rows held, % |\n|---|---|---|---|---|---|"
        )
        for line in honest_runs(world, runs):
            print(line, flush=True)
        print("\n| corrections | attacker's | how | caught, % | runs, % | honest held, % |\n|---|---|---|---|---|---|")
        for line in attacks(world, runs // 4):
            print(line, flush=True)


if __name__ == "__main__":
    main()
