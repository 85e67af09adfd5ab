"""A job whose truth is known: messages that name their team by a word, the captures of it, and its project."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from faker import Faker

from tests.crash.linear import bring_up_to_date
from tests.traffic.test_grouping import chat
from tests.traffic.test_jobs import Traffic
from tunewright.config import load_spec
from tunewright.gateway.answers import AnswerChoice
from tunewright.traffic.jobs import find_jobs
from tunewright.traffic.project import project_of

SYSTEM = "Which team answers this message? Answer with its name: billing, delivery or account."
WORDS: Mapping[str, tuple[str, ...]] = {
    "billing": ("invoice", "charge", "refund", "payment"),
    "delivery": ("parcel", "courier", "late", "tracking"),
    "account": ("password", "login", "email", "profile"),
}


def team_of(text: str) -> str:
    """What the API answers, which is right."""
    counts = {team: sum(text.lower().count(word) for word in words) for team, words in WORDS.items()}
    return max(counts, key=lambda team: counts[team])


class Messages:
    """Messages to the teams, other ones each time."""

    def __init__(self, seed: int):
        self._chance, self._fake = random.Random(seed), Faker()
        self._fake.seed_instance(seed)

    def clear(self) -> str:
        """A message that names its team twice."""
        words = self._chance.choice(list(WORDS.values()))
        return f"{self._fake.sentence()} {self._chance.choice(words)} {self._chance.choice(words)}"

    def unclear(self) -> str:
        """A message that names no team."""
        return str(self._fake.sentence(nb_words=12))


def request(text: str, **more: Any) -> dict[str, Any]:
    """The request of an application."""
    return {"model": "gpt-6-luna", "temperature": 0, **chat(("system", SYSTEM), ("user", text)), **more}


def captured(folder: Path, count: int = 300, seed: int = 0) -> Path:
    """The captures of some requests, answered rightly."""
    traffic, messages = Traffic(folder), Messages(seed)
    for _ in range(count):
        text = messages.clear()
        traffic.add(lambda *_, text=text: request(text), 1, AnswerChoice(team_of(text)))
    traffic.close()
    return folder


def finished_project(folder: Path) -> Path:
    """The project of the job, with the bundle of a linear model and its threshold."""
    captures = captured(folder / "captures")
    (job,) = find_jobs(captures).jobs
    project_of(captures, job.name, folder / "tickets")
    file = folder / "tickets" / "tunewright.yaml"
    candidates = "candidates: [linear, all-minilm, smollm2-135m]"
    text = file.read_text("utf-8")
    assert candidates in text
    file.write_text(text.replace(candidates, "model: linear\nevaluate: {max_examples: 20}"), "utf-8")
    bring_up_to_date(load_spec(folder / "tickets"))
    return folder / "tickets"
