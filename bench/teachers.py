"""What labels of teachers are worth, where the truth is known: students' accuracy, the audit's interval, the choice.

    python bench/teachers.py students [SET …]   # students of played teachers, and of a real one: half an hour a set
    python bench/teachers.py audit              # how often the sample's interval holds the teacher's accuracy: seconds
    python bench/teachers.py choice             # labels that teach most first, against labels at random: ten minutes
    python bench/teachers.py prior              # the prior of teachers' tables: two minutes

The data sets: bench/data_sets.py. Teachers are played: on each text a teacher has a chance of its own to be wrong, the
same each time that it is asked. `random`: all texts are alike, and the wrong label is any. `hard`: most texts are easy
and some are hard, and four of five wrong labels are the likeliest other one of a linear model. `systematic`: some
labels are nearly always called by another name, the rest is right. The `real` teacher is all-minilm, tuned on 1,000
other rows.

A student is the package's linear model, fitted to 3,000 rows of the training part and tested once on the official
test. All students of a set leave out the same 500 rows, which people (the truth) answer where the table says so;
answers go through `tunewright.labelling.settling`, as those of `tunewright label` do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

import numpy as np
from data_sets import DATA

import tunewright as tw
from tunewright.config import parse_spec
from tunewright.core.artifacts import read_jsonl, write_jsonl
from tunewright.data.curve.classical import fit_linear
from tunewright.evaluation.statistics.intervals import wilson
from tunewright.labelling import dawid_skene as tables
from tunewright.labelling.choosing import Cover, doubts_about
from tunewright.labelling.people import PeoplesAnswer
from tunewright.labelling.requests import Unlabelled
from tunewright.labelling.settling import settle
from tunewright.labelling.votes import Vote
from tunewright.models.linear_model import LinearModel
from tunewright.serving.batch import answer_file
from tunewright.tasks import Task, task_of

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "bench" / "runs" / "teachers"
TAUGHT, PEOPLE, TEACHERS_OWN = 3_000, 500, 1_000
QUALITIES = (0.8, 0.9, 0.95)
KINDS = ("random", "hard", "systematic")
DRAWS = 500


@dataclass(frozen=True)
class Truth:
    """A set whose labels are known."""

    name: str
    task: Task
    rows: list[Unlabelled]
    """First those that people may answer, then those that are taught."""
    labels: list[str]
    """Of these rows."""
    own: list[dict[str, str]]
    """Rows of the real teacher."""
    test: list[dict[str, str]]

    def nearest(self) -> list[str]:
        """For each row the label that a linear model takes for the likeliest wrong one."""
        texts, found = [row.text for row in self.rows], []
        for fold in range(2):
            learnt = [n for n in range(len(texts)) if n % 2 != fold]
            model = fit_linear([texts[n] for n in learnt], [self.labels[n] for n in learnt], self.task.answers)
            for n in range(fold, len(texts), 2):
                order = np.argsort(-model.of_texts([texts[n]])[0])
                found.append(
                    (n, next(model.labels[int(each)] for each in order if model.labels[int(each)] != self.labels[n]))
                )
        return [label for _, label in sorted(found)]


def load(name: str) -> Truth:
    folder, field = {"banking77": ("banking77", None), "clinc150": ("clinc150_oos", "oos"), "snips": ("snips", None)}[
        name
    ]
    parts = {part: list(read_jsonl(DATA / folder / f"{part}.jsonl")) for part in ("train", "test")}
    train, test = ([row for row in rows if row["label"] != field] for rows in parts.values())
    train = [train[n] for n in np.random.default_rng(0).permutation(len(train))]
    labels = sorted({row["label"] for row in train})
    task = task_of(_spec(name, labels).task)
    used = train[: PEOPLE + TAUGHT]
    rows = [Unlabelled(str(number), row["text"]) for number, row in enumerate(used)]
    return Truth(name, task, rows, [row["label"] for row in used], train[PEOPLE + TAUGHT :][:TEACHERS_OWN], test)


def _spec(name: str, labels: Sequence[str]) -> tw.Spec:
    task = {"kind": "classify", "instruction": "Choose the intent.", "labels": list(labels)}
    data = {"train": "train.jsonl", "test_fraction": 0.1}
    spec = {"name": f"{name}-teacher", "task": task, "data": data, "model": "all-minilm", "evaluate": {"few_shot": 0}}
    return parse_spec(json.dumps(spec), RUNS / name / "tunewright.yaml")


class Played:
    """A teacher of known quality; see this file's head."""

    def __init__(self, truth: Truth, nearest: Sequence[str], kind: str, quality: float, seed: int):
        random, self._truth, self._seed = np.random.default_rng(seed), truth, seed
        count, labels = len(truth.rows), truth.task.answers
        wrong = 1 - quality
        if kind == "random":
            self._chance, near = np.full(count, wrong), 0.0
        elif kind == "hard":
            self._chance, near = random.beta(wrong / 2, (1 - wrong) / 2, count), 0.8
        else:
            often = dict.fromkeys(random.permutation(labels)[: round(wrong / 0.9 * len(labels))], 0.9)
            self._chance, near = np.array([often.get(label, 0.0) for label in truth.labels]), 1.0
        usual = dict(zip(truth.labels, nearest, strict=True))
        others = [
            usual[label] if kind == "systematic" else each for label, each in zip(truth.labels, nearest, strict=True)
        ]
        self._wrong = [
            each if random.random() < near else str(random.choice([one for one in labels if one != label]))
            for label, each in zip(truth.labels, others, strict=True)
        ]

    def answers(self, sample: int = 0) -> list[str]:
        drawn = np.random.default_rng((self._seed, sample)).random(len(self._chance))
        return [
            wrong if chance > draw else label
            for label, wrong, chance, draw in zip(self._truth.labels, self._wrong, self._chance, drawn, strict=True)
        ]


def real_teacher(truth: Truth) -> list[str]:
    """The answers of an encoder that was tuned on other rows."""
    folder = RUNS / truth.name
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "train.jsonl", truth.own)
    asked, answered = folder / "asked.jsonl", folder / "answered.jsonl"
    write_jsonl(asked, ({"text": row.text} for row in truth.rows))
    answered.unlink(missing_ok=True)
    report = tw.run(_spec(truth.name, truth.task.answers))
    answer_file(report.bundle, asked, answered)
    return [row["label"] for row in read_jsonl(answered)]


Answers = Callable[[int], list[str]]


def student(truth: Truth, teachers: Sequence[Answers], samples: int = 1, people: int = 0) -> tuple[float, float]:
    """(accuracy of the labels that are taught, accuracy of the student on the test).

    Args:
        teachers: each from the number of a sample to its answers.
        people: requests of the sample that people answer; 0: weights are the agreement.
    """
    said = [(f"teacher {n}", answers(sample)) for n, answers in enumerate(teachers) for sample in range(samples)]
    votes = {row.id: [Vote(name, given[number]) for name, given in said] for number, row in enumerate(truth.rows)}
    answered = {
        row.id: PeoplesAnswer(label, (label,), is_settled=False)
        for row, label in zip(truth.rows[:people], truth.labels[:people], strict=True)
    }
    settled = settle(truth.task, truth.rows, votes, answered, [row.id for row in truth.rows[:PEOPLE]])
    taught = [settled.labels[row.id] for row in truth.rows[PEOPLE:]]
    right = [each.answer == label for each, label in zip(taught, truth.labels[PEOPLE:], strict=True)]
    weights = [each.weight for each in taught] if samples * len(teachers) > 1 or people else None
    model = fit_linear(
        [each.row.text for each in taught], [each.answer for each in taught], truth.task.answers, weights
    )
    return float(np.mean(right)), tested(truth, model)


def tested(truth: Truth, model: LinearModel) -> float:
    given = [model.labels[int(each.argmax())] for each in model.of_texts([row["text"] for row in truth.test])]
    return float(np.mean([answer == row["label"] for answer, row in zip(given, truth.test, strict=True)]))


def students(names: Sequence[str]) -> None:
    columns = ["set", "teacher", "its accuracy", "plain", "3 answers", "3 answers, people 200", "plain, people 200"]
    columns += ["plain, people 500", "three such teachers", "three, people 200"]
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for name in names or ("banking77", "clinc150", "snips"):
        truth = load(name)
        nearest = truth.nearest()
        model = fit_linear([row.text for row in truth.rows[PEOPLE:]], truth.labels[PEOPLE:], truth.task.answers)
        print(f"| {name} | the truth | 100.0 | {100 * tested(truth, model):.1f} |  |  |  |  |  |  |", flush=True)
        kinds = KINDS if name == "banking77" else ("hard",)
        for kind, quality in [(kind, quality) for kind in kinds for quality in QUALITIES]:
            three = [Played(truth, nearest, kind, quality, seed).answers for seed in range(3)]
            _line(truth, f"{kind}, {100 * quality:.0f} %", three)
        _line(truth, "real", [partial(_always, real_teacher(truth))])


def _always(answers: list[str], _sample: int) -> list[str]:
    return answers


def _line(truth: Truth, named: str, teachers: Sequence[Answers]) -> None:
    one = teachers[:1]
    cells = [partial(student, truth, one)]
    if len(teachers) > 1:
        cells += [partial(student, truth, one, samples=3), partial(student, truth, one, samples=3, people=200)]
    cells += [partial(student, truth, one, people=200), partial(student, truth, one, people=500)]
    if len(teachers) > 1:
        cells += [partial(student, truth, teachers), partial(student, truth, teachers, people=200)]
    found = [cell() for cell in cells]
    shown = [f"{100 * reached:.1f}" for _, reached in found]
    if len(teachers) == 1:
        shown = [shown[0], "", "", *shown[1:], "", ""]
    print(f"| {truth.name} | {named} | {100 * found[0][0]:.1f} | {' | '.join(shown)} |", flush=True)


def audit() -> None:
    """Wilson's interval of a sample, 500 draws each. Samples are drawn with replacement from a teacher's answers to
    3,500 texts, as if these were all of its answers."""
    truth = load("banking77")
    nearest = truth.nearest()
    print(
        "| teacher | sample | its accuracy | intervals that hold it | half their width, points |\n|---|---|---|---|---|"
    )
    for kind, quality in [(kind, quality) for kind in KINDS for quality in QUALITIES]:
        given = Played(truth, nearest, kind, quality, 0).answers()
        right = np.array([answer == label for answer, label in zip(given, truth.labels, strict=True)])
        for size in (200, 500):
            random = np.random.default_rng(1)
            found = [wilson(int(random.choice(right, size).sum()), size) for _ in range(DRAWS)]
            held = np.mean([each.low <= right.mean() <= each.high for each in found])
            half = np.mean([(each.high - each.low) / 2 for each in found])
            shown = f"{100 * right.mean():.1f} | {100 * held:.1f} % | {100 * half:.1f}"
            print(f"| {kind}, {100 * quality:.0f} % | {size} | {shown} |")


def choice() -> None:
    """A student of labels without faults, which the package chooses or which are drawn at random."""
    print("| set | labels | chosen | at random |\n|---|---|---|---|")
    for name in ("banking77", "clinc150", "snips"):
        truth = load(name)
        texts, labels = [row.text for row in truth.rows], truth.labels
        reached: dict[tuple[int, bool], list[float]] = {}
        for seed in range(3):
            for chooses in (True, False):
                cover, free, taken = Cover(texts, seed), np.ones(len(texts), bool), list[int]()
                order = np.random.default_rng(seed).permutation(len(texts)).tolist()
                for size in (200, 400, 800, 1600):
                    if chooses:
                        taken += cover.choose(
                            size - len(taken), doubts_about(texts, [(texts[n], labels[n]) for n in taken]), among=free
                        )
                        free[taken] = False
                    else:
                        taken = order[:size]
                    model = fit_linear([texts[n] for n in taken], [labels[n] for n in taken], truth.task.answers)
                    reached.setdefault((size, chooses), []).append(tested(truth, model))
        for size in (200, 400, 800, 1600):
            chosen, drawn = (f"{100 * np.mean(reached[size, each]):.1f}" for each in (True, False))
            print(f"| {name} | {size} | {chosen} | {drawn} |", flush=True)


def prior() -> None:
    """Right labels in percent by the rows that the prior counts as, for three teachers that are wrong at random."""
    strengths = (0.0, 4.0, 8.0, 32.0, 128.0)
    print(f"| rows | labels | teachers | {' | '.join(f'{each:g} + labels' for each in strengths)} | the vote |")
    print("|---" * (len(strengths) + 4) + "|")
    for rows, labels in ((300, 2), (1000, 8), (2000, 77)):
        for accuracies in ((0.95, 0.6, 0.6), (0.9, 0.85, 0.8), (0.9, 0.9)):
            random = np.random.default_rng(0)
            truth = random.integers(0, labels, rows)
            wrong = (truth[:, None] + random.integers(1, labels, (rows, len(accuracies)))) % labels
            votes = np.where(random.random((rows, len(accuracies))) < accuracies, truth[:, None], wrong)
            shown = []
            for strength in strengths:
                with patch.object(tables, "_PRIOR_ROWS", strength):
                    found = tables.dawid_skene(votes, labels).posterior.argmax(1)
                shown.append(f"{100 * np.mean(found == truth):.1f}")
            counts = np.stack([(votes == label).sum(1) for label in range(labels)], 1)
            vote = 100 * np.mean(counts.argmax(1) == truth)
            print(f"| {rows} | {labels} | {accuracies} | {' | '.join(shown)} | {vote:.1f} |", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["students", *names]:
            students(names)
        case ["audit"]:
            audit()
        case ["choice"]:
            choice()
        case ["prior"]:
            prior()
        case _:
            sys.exit(__doc__)
