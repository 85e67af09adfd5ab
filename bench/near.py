"""Near-duplicate search: speed, memory, recall of planted copies, and what BANKING77's test part shares with train.

    python bench/near.py 10000 100000             # sizes; the data sets: bench/data_sets.py
    python bench/near.py 10000 --with datasketch  # or rensa, where they are installed

A chat text is ten questions of BANKING77's training part in a row (about 600 bytes, seeded). One in fifty is then
repeated with one to six words replaced. Recall counts those found among the copies whose Jaccard similarity is 0.8 or
more by the shingles of `tunewright.data.dedup.near`; wrong pairs are below that. Each size runs in its own process.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time

from data_sets import DATA as PUBLIC

Pairs = list[tuple[int, int]]
DATA = PUBLIC / "banking77"


def questions(part: str) -> list[str]:
    return [json.loads(line)["text"] for line in (DATA / f"{part}.jsonl").open(encoding="utf-8")]


def chats(size: int) -> tuple[list[str], list[tuple[int, int]]]:
    """`size` texts, and the (original, copy) pairs planted among them."""
    draw, sentences = random.Random(1), questions("train")
    words = sorted({word for sentence in sentences for word in sentence.split()})
    originals = [" ".join(draw.choices(sentences, k=10)) for _ in range(size - size // 50)]
    copies = []
    for source in draw.sample(range(len(originals)), size // 50):
        parts = originals[source].split()
        for place in draw.sample(range(len(parts)), draw.randint(1, 6)):
            parts[place] = draw.choice(words)
        copies.append((source, " ".join(parts)))
    planted = [(source, len(originals) + number) for number, (source, _) in enumerate(copies)]
    return originals + [text for _, text in copies], planted


def word_shingles(text: str, words: int = 2) -> set[str]:
    parts = text.casefold().split()
    return {" ".join(parts[i : i + words]) for i in range(max(len(parts) - words + 1, 1))}


def by_tunewright(texts: list[str]) -> Pairs:
    from tunewright.data.dedup.near import near_duplicates

    return [(pair.first, pair.second) for pair in near_duplicates(texts, 0.8)]


def by_datasketch(texts: list[str]) -> Pairs:
    from datasketch import MinHash, MinHashLSH

    index, pairs = MinHashLSH(threshold=0.8, num_perm=128), []
    for number, text in enumerate(texts):
        signature = MinHash(num_perm=128)
        signature.update_batch([shingle.encode() for shingle in word_shingles(text)])
        pairs += [(other, number) for other in index.query(signature)]
        index.insert(number, signature)
    return pairs


def by_rensa(texts: list[str]) -> Pairs:
    from rensa import RMinHash, RMinHashLSH

    index, pairs = RMinHashLSH(threshold=0.8, num_perm=128, num_bands=16), []
    for number, text in enumerate(texts):
        signature = RMinHash(num_perm=128, seed=42)
        signature.update(list(word_shingles(text)))
        pairs += [(other, number) for other in index.query(signature)]
        index.insert(number, signature)
    return pairs


METHODS = {"tunewright": by_tunewright, "datasketch": by_datasketch, "rensa": by_rensa}


def measure(method: str, size: int) -> str:
    """One line of the table."""
    from tunewright.data.dedup.near import NearPair, near_groups, similarity

    texts, planted = chats(size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    pairs = METHODS[method](texts)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    groups = enumerate(near_groups(NearPair(first, second, 1.0) for first, second in pairs))
    group_of = {index: number for number, group in groups for index in group}
    near = [pair for pair in planted if similarity(texts[pair[0]], texts[pair[1]]) >= 0.8]
    recall = sum(group_of.get(source, -1) == group_of.get(copy, -2) for source, copy in near) / len(near)
    wrong = sum(similarity(texts[first], texts[second]) < 0.8 for first, second in pairs)
    return (
        f"| {method} | {size:,} | {sum(map(len, texts)) / size:.0f} | {seconds:.1f} | {size / seconds:,.0f} "
        f"| {before / 1024:,.0f} | {peak / 1024:,.0f} | {recall:.3f} of {len(near)} | {wrong} |"
    )


def leakage() -> str:
    from tunewright.data.dedup.near import near_copies

    train, test = questions("train"), questions("test")
    lines = ["", "| Jaccard at least | test items with a near copy in train |", "|---|---|"]
    for threshold in (0.9, 0.8, 0.7, 0.6):
        share = len(near_copies(train, test, threshold)) / len(test)
        lines.append(f"| {threshold} | {100 * share:.1f} % |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", nargs="*", type=int, default=[10_000])
    parser.add_argument("--with", dest="method", choices=METHODS, default="tunewright")
    parser.add_argument("--line", action="store_true", help="print one size's line only")
    arguments = parser.parse_args()
    if arguments.line:
        print(measure(arguments.method, arguments.sizes[0]))
        sys.exit()
    print("| method | texts | bytes each | seconds | texts/s | MiB before | MiB at the peak | recall | wrong pairs |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for size in arguments.sizes:
        line = [sys.executable, __file__, str(size), "--with", arguments.method, "--line"]
        print(subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip(), flush=True)
    if arguments.method == "tunewright":
        print(leakage())
