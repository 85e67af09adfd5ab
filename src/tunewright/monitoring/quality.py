"""How good the answers of each bundle were, as far as reviews show it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunewright.drift.accuracy import Accuracy, accuracy_now
from tunewright.monitoring.captured import answered, as_numbers, as_reviewed, last_words
from tunewright.monitoring.store.tables import Capture

_READ = 5000
"""Captures whose confidence stands for that of all."""


@dataclass(frozen=True)
class Quality:
    """What reviews say of a bundle's answers."""

    reviewed: int
    right: int
    """Of the reviewed ones. The queue shows doubtful answers first, so their share is below the accuracy."""
    accuracy: Accuracy | None
    """Of all answers; None where too few are reviewed to tell."""


def quality(session: Session, model: str) -> dict[str, Quality]:
    """By bundle version, the first one that was reviewed first. The last word of an expert on a capture counts."""
    by_version: dict[str, list[Any]] = defaultdict(list)
    for row in last_words(session, Capture.model == model):
        by_version[row.version].append(row)
    return {version: _of(session, model, version, rows) for version, rows in by_version.items()}


def _of(session: Session, model: str, version: str, rows: list[Any]) -> Quality:
    reviewed, sure = as_reviewed(rows), as_numbers(_confidences(session, model, version))
    accuracy = accuracy_now(reviewed, sure, answered(session, model, version))
    return Quality(len(rows), int(reviewed.right.sum()), accuracy)


def _confidences(session: Session, model: str, version: str) -> list[float | None]:
    """Of captures drawn at random: ids are random, and those that come first in their order are taken."""
    all_of_it = select(Capture.confidence).where(Capture.model == model, Capture.version == version)
    return list(session.scalars(all_of_it.order_by(Capture.id).limit(_READ)))
