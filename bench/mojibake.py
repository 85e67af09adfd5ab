"""What `mojibake` repairs, what it misses, what it breaks, and its speed.

    python bench/mojibake.py           # the data sets: bench/data_sets.py
    python bench/mojibake.py --errors  # and the texts of the data sets that were repaired

`round trip` is the least one can do: write the text in Windows-1252 or Latin-1, read it as UTF-8. The foreign sentences
are those of tests/data/foreign_sentences.json that have another character than ASCII's, misread on purpose; the random
texts are five words of small letters with one accented letter or typographic sign within (seeded). Proper texts are
what the tests hold as such.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.data.test_mojibake import ACCENTED, PROPER, SENTENCES, SHARED, SIGNS, misread

from tunewright.data.mojibake import lost_characters, mojibake

Repair = Callable[[str], str | None]


def round_trip(text: str) -> str | None:
    for encoding in ("cp1252", "latin-1"):
        try:
            repaired = text.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
        return repaired if repaired != text else None
    return None


METHODS: dict[str, Repair] = {"tunewright": mojibake, "round trip": round_trip}


def random_texts(count: int) -> list[str]:
    draw, texts = random.Random(1), []
    for _ in range(count):
        words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 8))) for _ in range(5)]
        place, middle = draw.randrange(5), draw.randint(1, 7)
        words[place] = words[place][:middle] + draw.choice(ACCENTED + SIGNS) + words[place][middle:]
        texts.append(" ".join(words))
    return texts


def came_back(repair: Repair, texts: list[str], encoding: str) -> str:
    repaired = [(text, repair(misread(text, encoding))) for text in texts]
    right, wrong = sum(a == b for a, b in repaired), sum(b is not None and a != b for a, b in repaired)
    return f"{right / len(texts):.2%}, {wrong} wrongly"


def microseconds(repair: Repair, text: str) -> str:
    started = time.process_time()
    for _ in range(20_000):
        repair(text)
    return f"{(time.process_time() - started) / 20_000 * 1e6:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--errors", action="store_true")
    arguments = parser.parse_args()
    foreign, invented = [s for s in SENTENCES if not s.isascii()], random_texts(5_000)
    plain, accented = ("Where is my parcel? " * 10), ("où est déjà mon colis " * 10)[:200]
    rows: dict[str, Callable[[Repair], str]] = {
        f"proper texts changed, of {len(PROPER)}": lambda r: str(sum(r(t) is not None for t in PROPER)),
        f"foreign sentences changed, of {len(SENTENCES)}": lambda r: str(sum(r(t) is not None for t in SENTENCES)),
        f"{len(foreign)} foreign sentences, Latin-1, came back": lambda r: came_back(r, foreign, "latin-1"),
        f"{len(foreign)} foreign sentences, Windows-1252, came back": lambda r: came_back(r, foreign, "cp1252"),
        "5,000 random texts, Latin-1, came back": lambda r: came_back(r, invented, "latin-1"),
        "5,000 random texts, Windows-1252, came back": lambda r: came_back(r, invented, "cp1252"),
        "µs for 200 plain characters": lambda r: microseconds(r, plain),
        "µs for 200 characters with accents": lambda r: microseconds(r, accented),
    }
    print("| | " + " | ".join(METHODS) + " |\n|---|" + "---|" * len(METHODS))
    for label, cell in rows.items():
        print(f"| {label} | " + " | ".join(cell(repair) for repair in METHODS.values()) + " |")
    print("\n| data set | texts | repaired | with lost characters |\n|---|---|---|---|")
    for folder in ("banking77", "clinc150_oos", "snips", "bitext_support", "presidio_pii", "demo_tickets"):
        lines = [line for path in sorted((SHARED / folder).glob("*.jsonl")) for line in path.open(encoding="utf-8")]
        texts = [row[key] for row in map(json.loads, lines) for key in ("text", "answer") if key in row]
        repaired = [text for text in texts if mojibake(text) is not None]
        print(f"| {folder} | {len(texts)} | {len(repaired)} | {sum(map(lost_characters, texts))} |")
        if arguments.errors:
            print("\n".join(f"{text!r} -> {mojibake(text)!r}" for text in repaired))


if __name__ == "__main__":
    main()
