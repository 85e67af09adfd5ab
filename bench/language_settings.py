"""What the constants of `tunewright.data.language` were chosen on.

    python bench/language_settings.py  # the data sets: bench/data_sets.py

BANKING77's train part and part A of tests/data/foreign_sentences.json, and nothing that bench/language.py reports on.
The first table cuts the questions and the sentences in Latin letters to their first words. The second plants a few
words of a foreign sentence in 3,000 questions of four to eight words (seeded), as names of songs and products stand in
texts; the last data are Presidio's synthetic sentences, which are full of foreign names and streets.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from language import OTHER_SCRIPTS, SENTENCES, texts

from tunewright.data import language


@contextmanager
def settings(**changes: Any) -> Iterator[None]:
    before = {name: getattr(language, name) for name in changes}
    for name, value in changes.items():
        setattr(language, name, value)
    yield
    for name, value in before.items():
        setattr(language, name, value)


def alarms(some: list[str]) -> int:
    return sum(language.language_of(text) not in ("en", None) for text in some)


def first_words(some: list[str], count: int) -> list[str]:
    return sorted({" ".join(text.split()[:count]) for text in some if len(text.split()) >= count})


def planted(english: list[str], foreign: list[list[str]], words: int) -> list[str]:
    draw, made = random.Random(0), []
    short = [text.split() for text in english if 4 <= len(text.split()) <= 8]
    for _ in range(3_000):
        question, sentence = draw.choice(short), draw.choice(foreign)
        place, start = draw.randint(0, len(question)), draw.randrange(max(1, len(sentence) - words + 1))
        made.append(" ".join(question[:place] + sentence[start : start + words] + question[place:]))
    return made


def main() -> None:
    english = texts(["banking77/train"])
    of_language = json.loads(SENTENCES.read_text(encoding="utf-8"))["A"]
    foreign = [(name, s) for name, some in of_language.items() if name not in OTHER_SCRIPTS for s in some]
    print(
        "| words | confidence | false alarms in 1,000 questions | foreign sentences told rightly |\n|---|---|---|---|"
    )
    for count in (3, 4, 5, 6):
        cut = first_words(english, count)
        for confidence in (0.3, 0.4, 0.5):
            with settings(WORDS=count, CONFIDENCE=confidence):
                there_are = [(name, first_words([s], count)[0]) for name, s in foreign if len(s.split()) >= count]
                right = sum(language.language_of(text) == name for name, text in there_are)
                print(f"| {count} | {confidence} | {alarms(cut) / len(cut) * 1000:.2f} | {right} of {len(there_are)} |")
    print("\n| data | texts | false alarms | when English words do not count | when names count too |")
    print("|---|---|---|---|---|")
    groups = {f"{n} words planted": planted(english, [s.split() for _, s in foreign], n) for n in (2, 3, 4)}
    groups["Presidio's sentences"] = texts(["presidio_pii/train"])
    for label, some in groups.items():
        found = [alarms(some)]
        for changes in (
            {"_ENGLISH": frozenset[str]()},
            {"_is_told_without_names": lambda words, _: _no_english(words)},
        ):
            with settings(**changes):
                found.append(alarms(some))
        print(f"| {label} | {len(some)} | {' | '.join(map(str, found))} |")


def _no_english(words: list[str]) -> bool:
    return language._ENGLISH.isdisjoint(word.lower() for word in words)


if __name__ == "__main__":
    main()
