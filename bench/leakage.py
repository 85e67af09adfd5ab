"""Near copies across a split: recall against a comparison of every test text with every training text.

    python bench/leakage.py     # BANKING77 and CLINC150, from bench/data_sets.py

Into the test part 300 copies of training texts are planted (seeds 0, 1, 2), each with one edit: a word swapped with its
neighbour, dropped, doubled or misspelt, or a word of another text put in. "In reach" are those whose Jaccard similarity
to some training text is 0.8 or more by exact comparison of the same shingles; recall counts those of them that
`near_copies` finds. `all` is the same over every test text, planted or not.
"""

from __future__ import annotations

import json
import random

import numpy as np
from data_sets import DATA
from scipy.sparse import csr_matrix

from tunewright.data.dedup.near import CHARACTERS, near_copies, similarity

PLANTED = 300
SETS = {"BANKING77": ("banking77", "train", "test"), "CLINC150": ("clinc150_oos", "train", "test")}


def texts(folder: str, part: str) -> list[str]:
    return [json.loads(line)["text"] for line in (DATA / folder / f"{part}.jsonl").open(encoding="utf-8")]


def edited(text: str, other: str, draw: random.Random) -> str:
    words = text.split()
    place = draw.randrange(len(words))
    edit = draw.choice(["swap", "drop", "double", "misspell", "insert"])
    if edit == "swap" and place:
        words[place - 1], words[place] = words[place], words[place - 1]
    elif edit == "drop" and len(words) > 2:
        del words[place]
    elif edit == "double":
        words.insert(place, words[place])
    elif edit == "insert":
        words.insert(place, draw.choice(other.split()))
    elif len(words[place]) > 2:
        letter = draw.randrange(len(words[place]) - 1)
        words[place] = (
            words[place][:letter] + words[place][letter + 1] + words[place][letter] + words[place][letter + 2 :]
        )
    return " ".join(words)


def nearest(train: list[str], test: list[str]) -> np.ndarray:
    """The highest Jaccard similarity of each test text's character shingles to a training text's, all compared."""
    from tunewright.data.dedup.near import comparable

    names: dict[str, int] = {}
    rows, columns = [], []
    for row, text in enumerate([*train, *test]):
        normal = comparable(text)
        for shingle in {normal[i : i + CHARACTERS] for i in range(max(len(normal) - CHARACTERS + 1, 1))}:
            rows.append(row)
            columns.append(names.setdefault(shingle, len(names)))
    matrix = csr_matrix((np.ones(len(rows), np.float32), (rows, columns)), (len(train) + len(test), len(names)))
    sizes = np.asarray(matrix.sum(axis=1)).ravel()
    left, best = matrix[: len(train)].T.tocsr(), []
    for start in range(len(train), len(train) + len(test), 200):
        block = slice(start, min(start + 200, len(train) + len(test)))
        both = (matrix[block] @ left).toarray()
        best.append((both / (sizes[block][:, None] + sizes[None, : len(train)] - both)).max(axis=1))
    return np.concatenate(best)


def main() -> None:
    print("| data | seed | planted, in reach | found | all in reach | found | wrong |")
    print("|---|---|---|---|---|---|---|")
    for name, (folder, train_part, test_part) in SETS.items():
        train, test = texts(folder, train_part), texts(folder, test_part)
        for seed in (0, 1, 2):
            draw = random.Random(seed)
            copies = [edited(text, draw.choice(train), draw) for text in draw.sample(train, PLANTED)]
            mixed = test + copies
            reach = nearest(train, mixed) >= 0.8
            pairs = near_copies(train, mixed, 0.8)
            found = np.zeros(len(mixed), bool)
            found[[pair.second for pair in pairs]] = True
            wrong = sum(similarity(train[pair.first], mixed[pair.second]) < 0.8 for pair in pairs)
            planted = np.arange(len(mixed)) >= len(test)
            hits, of = int((found & reach & planted).sum()), int((reach & planted).sum())
            all_hits, all_of = int((found & reach).sum()), int(reach.sum())
            print(
                f"| {name} | {seed} | {of} of {PLANTED} | {100 * hits / of:.1f} % | {all_of} of {len(mixed)} "
                f"| {100 * all_hits / all_of:.1f} % | {wrong} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
