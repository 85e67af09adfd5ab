"""A project of tickets without answers, teachers of known quality, and people who know the truth."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.conftest import LABELS, make_spec, unalike
from tunewright.config import Spec
from tunewright.labelling.requests import id_of
from tunewright.monitoring.store import open_store
from tunewright.monitoring.store.tables import Capture, label_queue_of
from tunewright.review.acts import ReviewChoice, save

KEY = "TEACHER_KEY"


def text(number: int) -> str:
    return f"Ticket about {LABELS[number % len(LABELS)]} {unalike(f'ticket {number}')}"


def truth(asked: str) -> str:
    return next(label for label in LABELS if f"about {label} " in asked)


def teacher(right: float, name: str = "") -> Callable[[str], str]:
    """Is right on a share of the texts, and else says the next label."""

    def reply(asked: str) -> str:
        drawn = int(hashlib.sha256(f"{name}{asked}".encode()).hexdigest()[:8], 16) / 0xFFFFFFFF
        shift = 0 if drawn < right else 1
        return LABELS[(LABELS.index(truth(asked)) + shift) % len(LABELS)]

    return reply


def project(
    folder: Path, apis: Mapping[str, str], count: int = 300, task: Mapping[str, Any] | None = None, **label: Any
) -> Spec:
    """A spec with `count` requests, and with APIs by name and address; the task is to route tickets by default."""
    lines = [json.dumps({"text": text(number)}) for number in range(count)]
    (folder / "requests.jsonl").write_text("\n".join(lines), "utf-8")
    listed = [{"name": name, "model": "gpt-6-luna", "url": url, "key": KEY} for name, url in apis.items()]
    given = {"task": task} if task else {}
    data = {"train": "labels/train.jsonl"}
    return make_spec(folder, apis=listed, label={"requests": "requests.jsonl", **label}, data=data, **given)


def answer(spec: Spec, who: str = "ann", says: Callable[[str], str | None] = truth, most: int = 10_000) -> int:
    """A person answers what waits. Returns how many requests were saved."""
    store, saved, model = open_store(spec), 0, label_queue_of(spec.name)
    with store.session() as session:
        waiting = session.query(Capture).filter_by(model=model, state="open")
        for capture in waiting.order_by(Capture.priority.desc(), Capture.id).limit(most).all():
            choice = ReviewChoice(says(capture.request))
            saved += save(session, [capture.id], model, who, choice, source="review", wanted=1).count
    store.close()
    return saved


def rows_of(spec: Spec, name: str) -> dict[str, dict[str, Any]]:
    """The rows of a file in `labels`, by the request's id."""
    lines = (spec.folder / "labels" / name).read_text("utf-8").splitlines()
    return {id_of(row["text"]): row for row in map(json.loads, lines)}
