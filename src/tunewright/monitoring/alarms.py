"""Alarms: raised once, open until what raised them is gone, and told to the webhook until it takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Alarm
from tunewright.monitoring.webhook import NotSent, send


@dataclass(frozen=True)
class Cause:
    """Something that may raise an alarm, or keep one open.

    Args:
        kind: a trait, or accuracy.
        title: of the kind, for people.
        days: the length of the window it was found in.
        said: what it was and what it is.
        drifted: whether it raises an alarm.
        gone: whether it would not even be worth a look.
        examples: ids of captures.
    """

    kind: str
    title: str
    days: int
    rows: int
    p: float
    effect: float
    said: str
    drifted: bool
    gone: bool
    examples: Sequence[str] = ()

    @property
    def detail(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "days": self.days,
            "rows": self.rows,
            "p": self.p,
            "effect": round(self.effect, 3),
            "said": self.said,
            "examples": list(self.examples),
        }


def settle(session: Session, model: str, version: str, causes: Sequence[Cause], now: datetime) -> list[Alarm]:
    """End the alarms whose cause is gone or whose version serves no more, and raise new ones.

    A cause is gone where the windows that were compared show none of it, longer ones that still hold the days of the
    drift among them: they would raise the same alarm again.

    Returns: the new ones, one for each kind.
    """
    still_open: set[str] = set()
    for alarm in open_alarms(session, model):
        found = [cause for cause in causes if cause.kind == alarm.kind]
        if alarm.version != version or (found and all(cause.gone for cause in found)):
            alarm.ended = now
        else:
            still_open.add(alarm.kind)
    worst: dict[str, Cause] = {}
    for cause in sorted(causes, key=lambda cause: cause.p):
        if cause.drifted and cause.kind not in still_open:
            worst.setdefault(cause.kind, cause)
    new = [
        Alarm(time=now, model=model, version=version, kind=kind, detail=cause.detail) for kind, cause in worst.items()
    ]
    session.add_all(new)
    session.flush()
    return new


def open_alarms(session: Session, model: str) -> list[Alarm]:
    """Alarms of a model that have not ended, the oldest first."""
    query = select(Alarm).where(Alarm.model == model, Alarm.ended.is_(None)).order_by(Alarm.number)
    return list(session.scalars(query))


def tell(store: Store, model: str, address: str, now: datetime) -> str:
    """Send what is open and was not told yet, as one message.

    No text that a customer wrote is in it, only the ids of captures: what an address receives is out of hand.

    Returns: why it did not arrive; empty where it did, or there was nothing to tell.
    """
    with store.session() as session:
        untold = [alarm for alarm in open_alarms(session, model) if alarm.told is None]
        if not untold:
            return ""
        sentences = "\n".join(f"• {sentence(alarm)}" for alarm in untold)
        try:
            send(address, f"{model} drifts:\n{sentences}", {"alarms": [_told(alarm) for alarm in untold]})
        except NotSent as error:
            return str(error)
        for alarm in untold:
            alarm.told = now
    return ""


def sentence(alarm: Alarm) -> str:
    """An alarm in words."""
    detail = alarm.detail
    window = "the last day" if detail["days"] == 1 else f"{detail['days']} days"
    return f"{detail['title']}, {window} ({detail['rows']:,} requests): {detail['said']}"


def _told(alarm: Alarm) -> Mapping[str, Any]:
    return {
        "number": alarm.number,
        "time": alarm.time.isoformat(),
        "model": alarm.model,
        "version": alarm.version,
        "kind": alarm.kind,
        **alarm.detail,
    }
