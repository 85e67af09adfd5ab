"""Drift on real, undrifted data: false alarms a month, and the days until planted drifts are found.

    python bench/drift.py                             # BANKING77, twice, and Bitext, 100 months each
    python bench/drift.py --quick                     # 10 months each
    python bench/drift.py --choose                    # those on which settings were chosen: SNIPS and CLINC150
    python bench/drift.py --evidently PYTHON          # beside Evidently, installed for that interpreter
    python bench/drift.py --speed                     # seconds for a check of 10,000 captures
    python bench/drift.py --novelty                   # how well novelty alone tells a new intent

A stream is a data set, cut at random into what is taught, a reference and thirty days of traffic, none of which share a
row. TF-IDF under a linear support vector machine gives answers and confidences. In the undrifted months nothing else
happens; a false alarm is a month with any. Planted drifts begin on the eighth day. A tenth of the intents is held out
of all of it and comes in as the new intent. bench/data_sets.py says where the data lie; it takes three
minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from data_sets import DATA

from tunewright.core.artifacts import read_jsonl
from tunewright.drift.comparison import FEWEST, compare
from tunewright.drift.known import KnownTexts
from tunewright.drift.reference import Reference
from tunewright.drift.traits import Traits, traits_of
from tunewright.drift.two_sample import DAYS, alpha_of_a_test
from tunewright.evaluation.statistics.intervals import wilson
from tunewright.tasks import ClassifyTask

ROOT = Path(__file__).parents[1]
CHOSEN_ON = {
    "SNIPS": (["snips/train", "snips/test"], 200, 1000),
    "CLINC150": (["clinc150_oos/train", "clinc150_oos/valid", "clinc150_oos/test"], 200, 1000),
}
REPORTED = {
    "BANKING77": (["banking77/train", "banking77/test"], 200, 1000),
    "BANKING77, larger reference": (["banking77/train", "banking77/test"], 195, 3000),
    "Bitext": (["bitext_support/train", "bitext_support/test"], 80, 600),
}
"""Files, requests a day, rows of the reference."""
LENGTH = 30
BEGINS = 7
TAUGHT = 0.25
SHARPNESS = 4
"""Of the classifier's confidences, which are a softmax of its margins."""
CUTS = 4
"""Models taught for each data set."""
PLANTED = (
    "new intent 5 %",
    "new intent 10 %",
    "season",
    "language 2 %",
    "language 5 %",
    "typos 10 %",
    "typos 30 %",
)


@dataclass(frozen=True)
class Pool:
    """Requests that are alike, with their traits.

    Args:
        labels: the right ones.
    """

    texts: list[str]
    labels: np.ndarray
    traits: Traits

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Material:
    """What streams of a data set are drawn from, for one model."""

    known: KnownTexts
    usual: Pool
    unknown: Pool
    foreign: Pool
    misspelt: Pool
    """The usual ones, row by row."""
    a_day: int
    rows: int


@dataclass(frozen=True)
class Month:
    """A reference and thirty days; rows of pools.

    Args:
        days: of each day what was asked.
    """

    reference: np.ndarray
    days: list[list[tuple[Pool, np.ndarray]]]


def material(files: list[str], a_day: int, rows: int, seed: int) -> Material:
    from scipy.special import softmax
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    random = np.random.default_rng(seed)
    read = [row for file in files for row in read_jsonl(DATA / f"{file}.jsonl") if row["label"] != "oos"]
    read = [read[place] for place in random.permutation(len(read))]
    labels = sorted({row["label"] for row in read})
    held = set(random.choice(labels, max(1, len(labels) // 10), replace=False))
    new, old = ([row for row in read if (row["label"] in held) is wanted] for wanted in (True, False))
    cut = int(len(old) * TAUGHT)
    taught, pool = old[:cut], old[cut:]
    model = make_pipeline(TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True), LinearSVC(random_state=0))
    model.fit([row["text"] for row in taught], [row["label"] for row in taught])
    known = KnownTexts.of([row["text"] for row in taught])
    task = ClassifyTask("", dict.fromkeys(labels, ""))

    def pooled(texts: list[str], right: list[str]) -> Pool:
        sure = softmax(SHARPNESS * model.decision_function(texts), axis=1)
        answers = model.classes_[sure.argmax(axis=1)]
        return Pool(texts, np.array(right), traits_of(texts, answers, sure.max(axis=1).tolist(), task, known))

    sentences = json.loads((ROOT / "tests" / "data" / "foreign_sentences.json").read_text("utf-8"))
    foreign = [text for part in sentences.values() for language in ("de", "fr", "es", "it") for text in part[language]]
    return Material(
        known,
        pooled([row["text"] for row in pool], [row["label"] for row in pool]),
        pooled([row["text"] for row in new], [row["label"] for row in new]),
        pooled(foreign, ["?"] * len(foreign)),
        pooled([misspelt(row["text"], random) for row in pool], [row["label"] for row in pool]),
        a_day,
        rows,
    )


def misspelt(text: str, random: np.random.Generator) -> str:
    """A text with two slips of the finger: letters swapped, left out or wrong."""
    signs = list(text)
    for _ in range(2):
        place = int(random.integers(max(1, len(signs) - 1)))
        match random.integers(3):
            case 0:
                signs[place : place + 2] = reversed(signs[place : place + 2])
            case 1:
                del signs[place : place + 1]
            case _:
                signs[place : place + 1] = chr(ord("a") + int(random.integers(26)))
    return "".join(signs)


def month(of: Material, planted: str | None, seed: int) -> Month:
    """A stream of a data set; without replacement, so that traffic and reference are what chance made of one lot."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(of.usual))
    reference, rest = order[: of.rows], order[of.rows :]
    if planted == "season":  # a tenth of the intents is asked twice as often
        labels = np.unique(of.usual.labels)
        season = random.choice(labels, max(1, len(labels) // 10), replace=False)
        usual, often = rest[: BEGINS * of.a_day], rest[BEGINS * of.a_day :]
        weight = np.where(np.isin(of.usual.labels[often], season), 2.0, 1.0)
        drawn = min(len(often), (LENGTH - BEGINS) * of.a_day)
        # The gravest of them would run out of rows: what is drawn last is drawn again.
        rest = np.concatenate([usual, random.choice(often, drawn, replace=True, p=weight / weight.sum())])
    days = []
    for day in range(LENGTH):
        rows = rest[day * of.a_day : (day + 1) * of.a_day]
        days.append([(of.usual, rows)])
        if planted and planted != "season" and day >= BEGINS:
            kind, share = planted.split()[0], int(planted.split()[-2]) / 100
            count = random.binomial(len(rows), share)
            kept, changed = rows[count:], rows[:count]
            other = {"new": of.unknown, "language": of.foreign, "typos": of.misspelt}[kind]
            changed = changed if kind == "typos" else random.integers(len(other), size=count)
            days[-1] = [(of.usual, kept), (other, changed)]
    return Month(reference, days)


def joined(parts: list[tuple[Pool, np.ndarray]]) -> Traits:
    chosen = [pool.traits[rows] for pool, rows in parts]
    return Traits(
        {name: np.concatenate([part.kinds[name] for part in chosen]) for name in chosen[0].kinds},
        {name: np.concatenate([part.numbers[name] for part in chosen]) for name in chosen[0].numbers},
    )


def alarms(of: Material, stream: Month) -> Iterator[tuple[int, str]]:
    """The days on which something is found, and what."""
    reference = Reference.from_traits(of.known, of.usual.traits[stream.reference])
    for day in range(LENGTH):
        lengths = dict.fromkeys(min(length, day + 1) for length in DAYS)
        for length in lengths:
            window = joined([part for parts in stream.days[day + 1 - length : day + 1] for part in parts])
            if len(window) >= FEWEST:
                for finding in compare(reference, window, alpha_of_a_test()):
                    if finding.drifted:
                        yield day, f"{finding.trait}/{length}"


Watch = Callable[[Material, Month], Iterator[tuple[int, str]]]


def first(found: Iterator[tuple[int, str]]) -> tuple[int, str] | None:
    return next(found, None)


def measure(name: str, sources: tuple[list[str], int, int], months: int, drifts: int, evidently: str | None) -> int:
    """Print the figures of a data set. Returns the number of its months with a false alarm."""
    materials = [material(*sources, seed) for seed in range(CUTS)]
    of = materials[0]
    print(f"{name}: {of.a_day} requests a day, reference of {of.rows}, {CUTS} models, {len(of.usual)} usual requests")
    streams = [(materials[number % CUTS], month(materials[number % CUTS], None, number)) for number in range(months)]
    found = [first(alarms(*stream)) for stream in streams]
    false = sum(each is not None for each in found)
    print(f"  {in_months(false, months)}", *sorted({each[1] for each in found if each}), flush=True)
    for planted in PLANTED:
        seen, traits = [], []
        for number in range(drifts):
            of = materials[number % CUTS]
            after = alarms_after(of, month(of, planted, 10_000 + number))
            seen.append(after[0][0] - BEGINS + 1 if after else LENGTH)
            traits += [trait for day, trait in after if day == after[0][0]]
        told(planted, seen, of.a_day, ", ".join(sorted(set(traits), key=lambda each: -traits.count(each))[:3]))
    if evidently:
        beside(evidently, materials, months=max(4, months // 5), drifts=max(2, drifts // 4))
    return false


def in_months(false: int, months: int) -> str:
    share = wilson(false, months)
    return f"months with a false alarm: {false} of {months}, {share.value:.1%} ({share.low:.1%} to {share.high:.1%})"


def alarms_after(of: Material, stream: Month) -> list[tuple[int, str]]:
    """Those of the first day with any since the drift began."""
    found: list[tuple[int, str]] = []
    for day, trait in alarms(of, stream):
        if found and day > found[0][0]:
            break
        if day >= BEGINS:
            found.append((day, trait))
    return found


def told(planted: str, seen: list[int], a_day: int, by: str = "") -> None:
    in_time = sum(days < LENGTH for days in seen)
    middle = float(np.median(seen))
    days = f"{middle:.0f} days, {middle * a_day:,.0f} requests" if middle < LENGTH else "not in most"
    print(
        f"  {planted:16} found in {in_time} of {len(seen)} within {LENGTH - BEGINS} days; median {days}  {by}",
        flush=True,
    )


def beside(python: str, materials: list[Material], months: int, drifts: int) -> None:
    """The same streams through Evidently's preset (`drift_evidently.py`), in an interpreter that has it."""
    asked: dict[str, list[Month]] = {"": [month(materials[n % CUTS], None, n) for n in range(months)]}
    asked |= {each: [month(materials[n % CUTS], each, 10_000 + n) for n in range(drifts)] for each in PLANTED}
    with tempfile.TemporaryDirectory() as folder:
        for planted, streams in asked.items():
            file = Path(folder) / "streams.jsonl"
            with file.open("w", encoding="utf-8") as lines:
                for number, stream in enumerate(streams):
                    of = materials[number % CUTS]
                    parts = [table([(of.usual, stream.reference)]), *(table(day) for day in stream.days)]
                    lines.write(json.dumps(parts) + "\n")
            run = [
                python,
                str(Path(__file__).with_name("drift_evidently.py")),
                str(file),
                str(BEGINS if planted else 0),
            ]
            results = json.loads(subprocess.run(run, check=True, capture_output=True, text=True).stdout)
            for how in ("half of the columns", "any column"):
                days = [each[how] for each in results]
                if planted:
                    seen = [LENGTH if day is None else day - BEGINS + 1 for day in days]
                    told(f"Evidently, {how}: {planted}", seen, materials[0].a_day)
                else:
                    print(
                        f"  Evidently, {how}: {sum(day is not None for day in days)} of {months} undrifted months alarm"
                    )


def table(parts: list[tuple[Pool, np.ndarray]]) -> dict[str, list[object]]:
    """What Evidently is shown. Not the text itself: for that it trains a classifier, which takes 7 s a day."""
    traits = joined(parts)
    return {
        "answer": traits.kinds["answer"].tolist(),
        "language": traits.kinds["language"].tolist(),
        **{name: column.tolist() for name, column in traits.numbers.items()},
    }


def speed() -> None:
    """A check of 10,000 captures, texts and all."""
    of = material(*REPORTED["BANKING77"], 0)
    texts = (of.usual.texts * 2)[:10_000]
    answers, sure = (of.usual.traits.kinds["answer"].tolist() * 2)[:10_000], [0.9] * 10_000
    reference = Reference.from_traits(of.known, of.usual.traits[np.arange(of.rows)])
    task = ClassifyTask("", dict.fromkeys(answers, ""))
    started = time.perf_counter()
    window = traits_of(texts, answers, sure, task, of.known)
    made = time.perf_counter()
    compare(reference, window, alpha_of_a_test())
    print(f"10,000 captures: traits {made - started:.2f} s, tests {time.perf_counter() - made:.2f} s")


def novelty() -> None:
    """How well novelty tells requests of held-out intents from others."""
    from scipy.stats import rankdata

    for name, sources in (CHOSEN_ON | REPORTED).items():
        areas = []
        for seed in range(CUTS):
            of = material(*sources, seed)
            new, usual = of.unknown.traits.numbers["novelty"], of.usual.traits.numbers["novelty"]
            ranks = rankdata(np.concatenate([new, usual]))[: len(new)]
            areas.append((ranks.sum() / len(new) - (len(new) + 1) / 2) / len(usual))
        print(f"{name}: AUC of novelty {min(areas):.2f} to {max(areas):.2f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--novelty", action="store_true")
    parser.add_argument("--evidently", metavar="PYTHON")
    asked = parser.parse_args()
    if asked.speed or asked.novelty:
        speed() if asked.speed else novelty()
        sys.exit()
    chosen = CHOSEN_ON if asked.choose else REPORTED
    months, drifts = (10, 4) if asked.quick else (100, 20)
    false = sum(measure(name, sources, months, drifts, asked.evidently) for name, sources in chosen.items())
    print(f"together: {in_months(false, months * len(chosen))}")


if __name__ == "__main__":
    main()
