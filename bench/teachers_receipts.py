"""What labels of teachers are worth where answers are records: receipts with company, date and total.

    python bench/teachers_receipts.py [QUALITY …]    # all-minilm as the student; by default 0.8 and 0.9

Four trainings for each quality and three others, some five minutes each on two cores; what is done stays.

The truth is known, and teachers are played as in bench/teachers.py. A teacher has a chance of its own to be wrong about
each receipt (`hard`: most receipts are easy and some are hard), the same each time that it is asked; each field is
wrong or right by itself. A wrong value is what a reader may confuse with the right one: another of the first lines for
the company, day and month changed, another amount. The `real` teacher is all-minilm, tuned on 125 other receipts.

A student learns 275 receipts with the package's defaults and is tested once: on receipts of vendors that may be in the
training part, and on those of vendors that are not.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from data_sets import DATA
from scoreboard_sets import find_set, parts_of, spec_of, write_project

import tunewright as tw
from tunewright.config import parse_spec
from tunewright.core.artifacts import read_jsonl, write_jsonl
from tunewright.labelling.people import PeoplesAnswer
from tunewright.labelling.requests import Unlabelled
from tunewright.labelling.settling import settle
from tunewright.labelling.votes import Vote
from tunewright.serving.batch import answer_file
from tunewright.tasks import Task, task_of

RUNS = Path(__file__).parent / "runs" / "teachers_receipts"
PEOPLE, TAUGHT = 100, 275
FIRST_LINES = 8
LIKELIEST = 0.8
"""The share of wrong values that are the first that may be confused with the right one."""

Row = dict[str, object]
Answers = Callable[[int], list[str | None]]


class Receipts:
    """The set, with the rows that people answer, that are taught and that the real teacher learns."""

    def __init__(self) -> None:
        one = find_set("sroie")
        self.parts = parts_of(one, DATA)
        train = [self.parts["train"][n] for n in np.random.default_rng(0).permutation(len(self.parts["train"]))]
        self.spec = spec_of(one, "all-minilm", 0, train)
        used, self.own = train[: PEOPLE + TAUGHT], train[PEOPLE + TAUGHT :]
        self.rows = [Unlabelled(str(number), row["text"]) for number, row in enumerate(used)]
        self.records = [row["label"] for row in used]

    @cached_property
    def task(self) -> Task:
        return task_of(parse_spec(json.dumps(self.spec), RUNS / "tunewright.yaml").task)

    @cached_property
    def truth(self) -> list[str]:
        return [self.task.canonical(json.dumps(record)) for record in self.records]

    def trained(self, name: str, rows: Sequence[Row]) -> tw.Report:
        """The run of a model that learnt these rows; a run that is done is not repeated."""
        folder = RUNS / name
        write_project(self.spec, self.parts | {"train": list(rows)}, folder)
        return tw.run(tw.load_spec(folder))


class Played:
    """A teacher of known quality; see this file's head."""

    def __init__(self, receipts: Receipts, quality: float, seed: int):
        random, self._receipts, self._seed = np.random.default_rng(seed), receipts, seed
        wrong = 1 - quality
        self._chance = random.beta(wrong / 2, (1 - wrong) / 2, len(receipts.rows))
        self._wrong = [
            {name: _confused(name, value, row.text, random) for name, value in record.items()}
            for row, record in zip(receipts.rows, receipts.records, strict=True)
        ]

    def answers(self, sample: int = 0) -> list[str | None]:
        random = np.random.default_rng((self._seed, sample))
        found: list[str | None] = []
        for record, wrong, chance in zip(self._receipts.records, self._wrong, self._chance, strict=True):
            given = {name: wrong[name] if random.random() < chance else value for name, value in record.items()}
            found.append(
                self._receipts.task.canonical(json.dumps({name: each for name, each in given.items() if each}))
            )
        return found


def _confused(name: str, value: str, text: str, random: np.random.Generator) -> str | None:
    """A value of the text that a reader may take for the right one; None: there is none."""
    if name == "company":
        others = [line.strip() for line in text.split("\n")[:FIRST_LINES]]
    elif name == "date":
        others = [re.sub(r"^(\d\d)(\D)(\d\d)", r"\3\2\1", value), *re.findall(r"\d+[/.-]\d+[/.-]\d+", text)]
    else:
        others = re.findall(r"\d+\.\d\d", text)[::-1]
    others = list(dict.fromkeys(each for each in others if each and each != value))
    if not others:
        return None
    return others[0] if random.random() < LIKELIEST else str(random.choice(others))


def real_teacher(receipts: Receipts) -> list[str | None]:
    report = receipts.trained("real-teacher", receipts.own)
    asked, answered = RUNS / "asked.jsonl", RUNS / "answered.jsonl"
    write_jsonl(asked, ({"text": row.text} for row in receipts.rows))
    answered.unlink(missing_ok=True)
    answer_file(report.bundle, asked, answered)
    return [receipts.task.canonical(json.dumps(row["record"])) for row in read_jsonl(answered)]


def student(
    receipts: Receipts, name: str, teachers: Sequence[Answers], samples: int = 1, people: int = 0
) -> tuple[float, list[str]]:
    """(field F1 of the records that are taught, the student's on each test with its interval)."""
    said = [(f"teacher {n}", answers(sample)) for n, answers in enumerate(teachers) for sample in range(samples)]
    votes = {row.id: [Vote(who, given[n]) for who, given in said] for n, row in enumerate(receipts.rows)}
    answered = {
        row.id: PeoplesAnswer(answer, (answer,), is_settled=False)
        for row, answer in zip(receipts.rows[:people], receipts.truth[:people], strict=True)
    }
    sample = [row.id for row in receipts.rows[:PEOPLE]]
    settled = settle(receipts.task, receipts.rows, votes, answered, sample)
    taught = [settled.labels[row.id] for row in receipts.rows[PEOPLE:]]
    weighted = samples * len(teachers) > 1
    rows = [
        {"text": each.row.text, "label": json.loads(each.answer)} | ({"weight": each.weight} if weighted else {})
        for each in taught
    ]
    found = receipts.trained(name, rows).data["comparison"]["candidates"]["served"]["scores"]
    shown = [found[part]["primary_metric"] for part in ("held_out", "new_vendor")]
    right = [
        receipts.task.measures(each.row.text, truth, each.answer)[receipts.task.primary_metric].score
        for each, truth in zip(taught, receipts.truth[PEOPLE:], strict=True)
    ]
    return float(np.mean(right)), [
        f"{100 * e['value']:.1f} ({100 * e['low']:.1f}–{100 * e['high']:.1f})" for e in shown
    ]


def main(qualities: Sequence[float]) -> None:
    receipts = Receipts()

    def line(teacher: str, how: str, teachers: Sequence[Answers], samples: int = 1, people: int = 0) -> None:
        name = re.sub(r"\W+", "-", f"{teacher} {how}").strip("-")
        right, reached = student(receipts, name, teachers, samples, people)
        print(f"| {teacher} | {how} | {100 * right:.1f} | {' | '.join(reached)} |", flush=True)

    print("| teacher | labels | their F1 | student, held out | new vendors |\n|---|---|---|---|---|")
    line("the truth", "", [lambda _sample: list(receipts.truth)])
    for quality in qualities:
        three = [Played(receipts, quality, seed).answers for seed in range(3)]
        name = f"hard, {100 * quality:.0f} %"
        line(name, "plain", three[:1])
        line(name, "its 3 answers", three[:1], samples=3)
        line(name, "three such teachers", three)
        line(name, f"three, people's {PEOPLE}", three, people=PEOPLE)
    real = real_teacher(receipts)
    line("real", "plain", [lambda _sample: real])


if __name__ == "__main__":
    main([float(each) for each in sys.argv[1:]] or (0.8, 0.9))
