"""A month of operation with and without Tunewright's loop, on what people really typed, with a planted drift.

    python bench/month.py [seed]      # several trainings; draws docs/month.svg
    python bench/month.py --draw      # only the picture, from the figures of the last run

CLINC150's queries about eight of its ten domains are routed to eight teams, a domain each, whose names say nothing, as
in many a company. From the eleventh day on there is a new line of business: half of the queries are about the other two
domains, whose thirty intents are dealt out to the same teams at random, so nobody can guess them. Each evening an
expert, who is CLINC150's own label, reviews fifty of the day's two hundred answers, from the top of the queue; whenever
`tunewright retrain --if-due` is due, it runs. Servers, store, queue, watch, training and gate are the real ones
(tests/month.py); only the calendar is played. The data sets: bench/data_sets.py.
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

from quality import RUNS

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' player
from data_sets import DATA as PUBLIC
from tests.month import Ticket, play

import tunewright as tw
from tunewright.core.progress import quiet_libraries
from tunewright.data.splits.freezing import before_freezing, freeze
from tunewright.monitoring.retraining.run import Course

ROOT = Path(__file__).parents[1]
DATA = PUBLIC / "clinc150_oos" / "train.jsonl"
FIGURES = RUNS / "month" / "days.json"
DAYS, A_DAY, REVIEWS, CHANGE, NEW = 30, 200, 50, 10, 0.5
TEAMS = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron")
TAUGHT_EACH = 12
"""Queries of each intent that the first model learns from, those of its test included."""


def queries(seed: int) -> tuple[list[Ticket], list[Ticket], list[Ticket]]:
    """What the first model is taught, further queries about the same intents, and those of the new business."""
    draw = random.Random(seed)
    domains: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in DATA.read_text("utf-8").splitlines():
        row = json.loads(line)
        if row["label"] != "oos":
            domains[row["domain"]][row["label"]].append(row["text"])
    taught, known, new = [], [], []
    for place, domain in enumerate(draw.sample(sorted(domains), len(domains))):
        for texts in domains[domain].values():
            team = TEAMS[place] if place < len(TEAMS) else draw.choice(TEAMS)
            rows = [Ticket(text, team) for text in draw.sample(texts, len(texts))]
            if place < len(TEAMS):
                taught += rows[:TAUGHT_EACH]
                known += rows[TAUGHT_EACH:]
            else:
                new += rows
    return [draw.sample(rows, len(rows)) for rows in (taught, known, new)]


def made(folder: Path, taught: list[Ticket], seed: int) -> Path:
    """The project with a frozen test and its first model."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(asdict(row)) + "\n" for row in taught), "utf-8")
    spec = {
        "name": "teams",
        "seed": seed,
        "model": "smollm2-135m",
        "task": {
            "kind": "classify",
            "instruction": "Which team answers this?",
            "labels": sorted({row.label for row in taught}),
        },
        "data": {"train": "train.jsonl", "test_fraction": 0.25},
        "train": {"lora": {"r": 16, "alpha": 32}, "lr": 2e-3, "epochs": 2, "batch_size": 16, "loss": "labels"},
        "evaluate": {"few_shot": 0},
        "goal": {"accuracy": 0.8, "margin": 0.05},
        "monitor": {"reviews_to_retrain": 300},
    }
    (folder / "tunewright.yaml").write_text(json.dumps(spec, indent=1), "utf-8")
    loaded = tw.load_spec(folder)
    freeze(loaded, tw.split(before_freezing(loaded)))
    tw.run(tw.load_spec(folder))
    return folder


def main(seed: int) -> None:
    quiet_libraries()
    taught, known, new = queries(seed)
    draw = random.Random(seed)
    days = []
    for day in range(1, DAYS + 1):
        fresh = round(A_DAY * NEW) if day > CHANGE else 0
        asked = [known.pop() for _ in range(A_DAY - fresh)] + [new.pop() for _ in range(fresh)]
        days.append(draw.sample(asked, len(asked)))
    project = made(RUNS / "month" / "project", taught, seed)
    played = []
    for day in play(project, days, reviews=REVIEWS, course=Course(canary=None)):
        played.append(asdict(day))
        print(
            f"{day.number:>3}  with {day.with_loop:.3f}  without {day.without:.3f}  {', '.join(day.alarms)}"
            f"  {day.event or ''}  {day.sentence}",
            flush=True,
        )
        FIGURES.write_text(json.dumps(played, indent=1), "utf-8")
    draw_picture()


def draw_picture() -> None:
    from month_plot import drawn

    days = json.loads(FIGURES.read_text("utf-8"))
    (ROOT / "docs" / "month.svg").write_text(drawn(days, CHANGE), "utf-8")
    for name, chosen in (("before", days[:CHANGE]), ("since", days[CHANGE:])):
        with_loop, without = (sum(day[key] for day in chosen) / len(chosen) for key in ("with_loop", "without"))
        print(f"{name} the change: with the loop {with_loop:.1%}, without {without:.1%}")


if __name__ == "__main__":
    draw_picture() if "--draw" in sys.argv else main(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
