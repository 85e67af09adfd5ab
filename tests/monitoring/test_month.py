"""Some days of operation with the model that the demo serves: new subjects come, an expert corrects, a better model is
trained."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.conftest import REPOSITORY, tunewright
from tests.month import Day, Ticket, play
from tunewright.monitoring.retraining.run import Course

pytestmark = [pytest.mark.model, pytest.mark.nightly, pytest.mark.usefixtures("forked_steps")]

KNOWN, TESTED = 250, 0.55
"""Tickets that the first model is made of, and the share of them in the test: it is taught so few that the corrections
are shown to make it better."""
DAYS, A_DAY, CHANGE, REVIEWED_DAYS = 7, 72, 1, 5
"""Days, requests on each, the day after which other subjects come, and the day after which is trained anew."""
REVIEWS = 60
"""A day."""


yaml = YAML(typ="safe")


def tickets(known: bool) -> list[dict[str, str]]:
    """The example's tickets about the first half of each route's subjects, or about the others."""
    files = sorted((REPOSITORY / "examples" / "tickets" / "data").glob("*.jsonl"))
    rows = [json.loads(line) for file in files for line in file.read_text("utf-8").splitlines()]
    unique = {row["text"]: row for row in rows if (int(row["phrasing"].split("/")[1][:-1]) < 16) == known}
    chosen = list(unique.values())
    random.Random(0).shuffle(chosen)
    return chosen


def made(folder: Path, rows: list[dict[str, str]]) -> Path:
    """A project with a frozen test and its first model."""
    spec = yaml.load((REPOSITORY / "examples" / "tickets" / "tunewright.yaml").read_text("utf-8"))
    del spec["candidates"]
    spec |= {
        "model": "all-minilm",
        "data": {"train": "train.jsonl", "test_fraction": TESTED},
        "evaluate": {"few_shot": 0},
    }
    spec |= {"goal": {"accuracy": 0.7, "margin": 0.1}, "monitor": {"reviews_to_retrain": REVIEWS * REVIEWED_DAYS}}
    # float32 is nearly the same on any machine; each text is read once, so that the test is short.
    spec["train"] = {"precision": "float32", "encoder": {"batch_size": 16, "epochs": 4, "consistency": 0}}
    spec["export"] = {"max_disagreement": 0.1}  # a model that was taught so few is often unsure
    folder.mkdir()
    (folder / "tunewright.yaml").write_text(json.dumps(spec), "utf-8")
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    for command in (("data", "freeze"), ("run",)):
        done = tunewright(*command, str(folder))
        assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.timeout(1200)  # two whole trainings, each on one core
def test_what_people_correct_makes_the_next_model_better_on_what_is_new(tmp_path: Path) -> None:
    known, new = tickets(known=True), tickets(known=False)
    project = made(tmp_path / "tickets", known[:KNOWN])
    old, later = iter(known[KNOWN:]), iter(new)
    days = [
        [_ticket(next(old)) for _ in range(A_DAY // 6)]
        + [_ticket(next(old if day <= CHANGE else later)) for _ in range(5 * A_DAY // 6)]
        for day in range(1, DAYS + 1)
    ]
    played: list[Day] = list(play(project, days, reviews=REVIEWS, course=Course(shadow=20, canary=None)))
    assert [day.event for day in played if day.event] == ["promoted"]
    promoted = next(day.number for day in played if day.event)
    after = played[promoted:]
    assert after
    assert all(day.version != played[0].version for day in after)
    gained = sum(day.with_loop - day.without for day in after) / len(after)
    assert gained > 0.05, played


def _ticket(row: dict[str, str]) -> Ticket:
    return Ticket(row["text"], row["label"])
