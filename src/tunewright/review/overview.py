"""Where a model stands, in short."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tunewright.evaluation.statistics.intervals import Interval, wilson
from tunewright.monitoring.store.tables import EXPERT, Alarm, Capture, Deployment, Tally
from tunewright.review.history import by_id, recent

DAYS = 30
SHOWN = 5
"""Alarms and deployments, the latest first."""


@dataclass(frozen=True)
class Day:
    day: date
    answered: float
    escalated: float


@dataclass(frozen=True)
class Overview:
    states: dict[str, int]
    """Captures that are open, done or in conflict."""
    days: list[Day]
    """The last ones with requests, the latest first."""
    right: dict[str, Interval]
    """By bundle version, the share of the lately reviewed answers that reviewers call right."""
    alarms: Sequence[Alarm]
    deployments: Sequence[Deployment]

    @property
    def captured(self) -> int:
        return sum(self.states.values())


def overview(session: Session, model: str) -> Overview:
    states = select(Capture.state, func.count()).where(Capture.model == model).group_by(Capture.state)
    days = (
        select(Tally.day, func.sum(Tally.answered), func.sum(Tally.escalated))
        .where(Tally.model == model)
        .group_by(Tally.day)
        .order_by(Tally.day.desc())
        .limit(DAYS)
    )
    said = recent(EXPERT)
    judged = session.execute(select(said.c.capture_id, said.c.right)).all()
    versions = dict(by_id(session, select(Capture.id, Capture.version), model, {row[0] for row in judged}))
    right: defaultdict[str, list[bool]] = defaultdict(list)
    for capture_id, is_right in judged:
        if capture_id in versions:
            right[versions[capture_id]].append(is_right)
    return Overview(
        states={row[0]: row[1] for row in session.execute(states)},
        days=[Day(*row) for row in session.execute(days)],
        right={version: wilson(sum(each), len(each)) for version, each in sorted(right.items())},
        alarms=session.scalars(
            select(Alarm).where(Alarm.model == model).order_by(Alarm.number.desc()).limit(SHOWN)
        ).all(),
        deployments=session.scalars(
            select(Deployment).where(Deployment.model == model).order_by(Deployment.number.desc()).limit(SHOWN)
        ).all(),
    )
