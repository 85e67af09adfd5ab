"""Flip 5 % of BANKING77's training labels and look for them: precision and recall of `likely_mislabelled`.

    python bench/label_noise.py          # the data sets: bench/data_sets.py
    python bench/label_noise.py weak     # from how good a classifier on it is a judge

Each of three seeds flips other rows, each to another label drawn evenly. "At k" is the precision among the k first
suspects, k being the number of flipped rows; "mended" is the share of found ones whose old label is suggested. The data
have wrong labels of their own (Ying and Thomas 2022 say up to 14 %), and finding one of those counts against precision
here: "natural" is the share of false alarms that a run without flipped labels suspects too.

"weak" flips labels of samples of BANKING77, CLINC150, SNIPS and the shipped tickets, and judges by any classifier.
"Right" is its share of right answers, held out, over the share of labels that it finds not given by chance.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from unittest.mock import patch

from data_sets import DATA

from tunewright.data.checks import label_noise
from tunewright.data.checks.label_noise import Suspect, likely_mislabelled

REPOSITORY = Path(__file__).parents[1]
SAMPLES = {
    "banking77": DATA / "banking77" / "train.jsonl",
    "clinc150": DATA / "clinc150_oos" / "train.jsonl",
    "snips": DATA / "snips" / "train.jsonl",
    "tickets": REPOSITORY / "examples" / "tickets" / "data" / "train.jsonl",
}


def main() -> None:
    if sys.argv[1:] == ["weak"]:
        weak()
    else:
        flips()


def read(file: Path) -> tuple[list[str], list[str]]:
    rows = [json.loads(line) for line in file.open(encoding="utf-8")]
    return [row["text"] for row in rows], [row["label"] for row in rows]


def flip(labels: list[str], share: float, draw: random.Random) -> tuple[set[int], list[str]]:
    """The rows that were flipped, and the labels then."""
    names, flipped = sorted(set(labels)), set(draw.sample(range(len(labels)), round(share * len(labels))))
    noisy = [draw.choice([n for n in names if n != label]) if i in flipped else label for i, label in enumerate(labels)]
    return flipped, noisy


def suspects_of(texts: list[str], labels: list[str], seed: int = 0) -> tuple[list[Suspect], float]:
    """Suspects, however weak the classifier is, and how often it is right on labels not given by chance."""
    judged = []
    fit = label_noise._fitted

    def watched(scores: label_noise.Floats, given: label_noise.Indices) -> label_noise._Fitted:
        fitted = fit(scores, given)
        judged.append(float((scores.argmax(axis=1) == given).mean()) / (1 - fitted.chance))
        return fitted

    with patch.object(label_noise, "LEAST_RIGHT", 0.0), patch.object(label_noise, "_fitted", watched):
        return likely_mislabelled(texts, labels, seed=seed) or [], judged[0]


def weak() -> None:
    print("| data | rows | flipped % | right | suspected % | precision | recall |")
    print("|---|---|---|---|---|---|---|")
    for name, file in SAMPLES.items():
        whole = read(file)
        for rows in (600, 1500, 4000) if name != "tickets" else (len(whole[0]),):
            places = random.Random(1).sample(range(len(whole[0])), rows)
            texts, labels = ([column[place] for place in places] for column in whole)
            for share in (0.0, 0.05, 0.15):
                flipped, noisy = flip(labels, share, random.Random(0))
                suspects, right = suspects_of(texts, noisy)
                hits = sum(suspect.index in flipped for suspect in suspects)
                rates = f"{hits / max(len(suspects), 1):.2f} | {hits / len(flipped):.2f}" if flipped else "- | -"
                suspected = 100 * len(suspects) / rows
                print(f"| {name} | {rows} | {100 * share:.0f} | {right:.2f} | {suspected:.0f} | {rates} |", flush=True)


def flips() -> None:
    texts, labels = read(SAMPLES["banking77"])
    natural = {suspect.index for suspect in suspects_of(texts, labels)[0]}
    print(f"{len(texts)} rows, {len(set(labels))} labels; {len(natural)} suspects before any flip.\n")
    print("| seed | flipped | suspects | precision | recall | precision at k | mended | seconds | natural |")
    print("|---|---|---|---|---|---|---|---|---|")
    for seed in range(3):
        flipped, noisy = flip(labels, 0.05, random.Random(seed))
        started = time.perf_counter()
        suspects = likely_mislabelled(texts, noisy, seed=seed) or []
        seconds = time.perf_counter() - started
        hits = [s for s in suspects if s.index in flipped]
        at_k = sum(s.index in flipped for s in suspects[: len(flipped)]) / len(flipped)
        mended = sum(s.suggested == labels[s.index] for s in hits) / max(len(hits), 1)
        wrong = [s for s in suspects if s.index not in flipped]
        shared = sum(s.index in natural for s in wrong) / max(len(wrong), 1)
        print(
            f"| {seed} | {len(flipped)} | {len(suspects)} | {len(hits) / max(len(suspects), 1):.3f} "
            f"| {len(hits) / len(flipped):.3f} | {at_k:.3f} | {mended:.3f} | {seconds:.0f} | {shared:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
