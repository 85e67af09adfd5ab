"""How much a split flatters: near copies of test rows in train, and a linear SVM's accuracy, on BANKING77's train part.

    python bench/split.py                # the data sets: bench/data_sets.py

A fifth is held out in three ways, under three seeds each: at random; by the repeats of a text only (all that groups
can do for data without a column of groups); by the product's blocks, which join near copies. The SVM is the product's
baseline, trained on the rest. "With a copy" is the share of the held-out rows that have a near copy (Jaccard 0.8)
in the rest; it is searched for at 0.6, where the search misses fewer than one in a million of such pairs. "Right with"
and "right without" part the accuracy by that.
"""

from __future__ import annotations

import json
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence

from data_sets import DATA as PUBLIC

from tunewright.data.dedup.near import near_copies
from tunewright.data.splits.split import cut_stratified, hold_out
from tunewright.data.text import normal
from tunewright.evaluation.candidates.records import LinearSvm
from tunewright.tasks import Example, Meta

DATA = PUBLIC / "banking77" / "train.jsonl"
SHARE = 0.2
Halves = tuple[list[Example], list[Example]]


def at_random(rows: Sequence[Example], seed: int) -> Halves:
    shuffled = list(rows)
    random.Random(seed).shuffle(shuffled)
    count = round(SHARE * len(rows))
    return shuffled[count:], shuffled[:count]


def by_repeats(rows: Sequence[Example], seed: int) -> Halves:
    same: dict[str, list[Example]] = defaultdict(list)
    for row in rows:
        same[normal(row.request)].append(row)
    cut = cut_stratified(list(same.values()), SHARE, seed)
    return [e for block in cut.kept for e in block], [e for block in cut.held for e in block]


def by_blocks(rows: Sequence[Example], seed: int) -> Halves:
    return hold_out(rows, SHARE, seed)


WAYS: dict[str, Callable[[Sequence[Example], int], Halves]] = {
    "random": at_random,
    "repeats": by_repeats,
    "blocks": by_blocks,
}


def main() -> None:
    lines = [json.loads(line) for line in DATA.open(encoding="utf-8")]
    rows = [Example.of(line["text"], line["label"], Meta(id=str(n))) for n, line in enumerate(lines)]
    print("| split | seed | held out | with a copy | accuracy | right with | right without |\n" + "|---" * 7 + "|")
    for way, split in WAYS.items():
        figures = []
        for seed in range(3):
            train, test = split(rows, seed)
            pairs = near_copies([e.request for e in train], [e.request for e in test], 0.6)
            copied = {pair.second for pair in pairs if pair.jaccard >= 0.8}
            svm = LinearSvm(train)
            right = [svm.answer(example.request).text == example.answer for example in test]
            with_copy = [right[index] for index in copied]
            without = [hit for index, hit in enumerate(right) if index not in copied]
            figures.append((len(copied) / len(test), sum(right) / len(test)))
            shown = percent(with_copy) if with_copy else "-"
            print(
                f"| {way} | {seed} | {len(test)} | {len(copied)} ({100 * figures[-1][0]:.1f} %) | {percent(right)} "
                f"| {shown} | {percent(without)} |",
                flush=True,
            )
        copies, accuracy = (100 * statistics.mean(column) for column in zip(*figures, strict=True))
        print(f"| {way} | mean | | {copies:.1f} % | {accuracy:.1f} | | |")


def percent(hits: Sequence[bool]) -> str:
    return f"{100 * sum(hits) / len(hits):.1f}"


if __name__ == "__main__":
    main()
