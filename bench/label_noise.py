"""Flip 5 % of BANKING77's training labels and look for them: precision and recall of `likely_mislabelled`.

    python bench/label_noise.py          # the data lie at <repository>/../shared/data

Each of three seeds flips other rows, each to another label drawn evenly. "At k" is the precision among the k first
suspects, k being the number of flipped rows; "mended" is the share of found ones whose old label is suggested. The data
have wrong labels of their own (Ying and Thomas 2022 say up to 14 %), and finding one of those counts against precision
here: "natural" is the share of false alarms that a run without flipped labels suspects too.
"""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from tunewright.data.label_noise import likely_mislabelled

DATA = Path(__file__).parents[2] / "shared" / "data" / "banking77" / "train.jsonl"


def main() -> None:
    rows = [json.loads(line) for line in DATA.open(encoding="utf-8")]
    texts, labels = [row["text"] for row in rows], [row["label"] for row in rows]
    names = sorted(set(labels))
    natural = {suspect.index for suspect in likely_mislabelled(texts, labels)}
    print(f"{len(rows)} rows, {len(names)} labels; {len(natural)} suspects before any flip.\n")
    print("| seed | flipped | suspects | precision | recall | precision at k | mended | seconds | natural |")
    print("|---|---|---|---|---|---|---|---|---|")
    for seed in range(3):
        draw = random.Random(seed)
        flipped = set(draw.sample(range(len(rows)), len(rows) // 20))
        noisy = [
            draw.choice([n for n in names if n != label]) if i in flipped else label for i, label in enumerate(labels)
        ]
        started = time.perf_counter()
        suspects = likely_mislabelled(texts, noisy, seed=seed)
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
