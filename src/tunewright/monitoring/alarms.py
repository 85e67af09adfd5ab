"""Alarms: raised once, open until their cause is gone, and sent to the webhook until it accepts them."""

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
    """A finding that may raise an alarm, or keep one open.

    Args:
        kind: a trait, or accuracy.
        title: the name of the kind, for people.
        days: the length of the window in days.
        said: the change from before to now, for people.
        drifted: whether it raises an alarm.
        gone: whether an alarm of this kind may end.
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
    """End the alarms whose cause is gone or whose version no longer serves, and raise new ones.

    A cause is gone if no compared window shows it. Longer windows count, too, because they still contain the days of
    the drift and would raise the same alarm again.

    Returns:
        The new alarms, one per kind.
    """
    still_open: set[str] = set()
    for alarm in open_alarms(session, model):
        of_kind = [cause for cause in causes if cause.kind == alarm.kind]
        if alarm.version != version or (of_kind and all(cause.gone for cause in of_kind)):
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
    """The alarms of a model that have not ended, oldest first."""
    query = select(Alarm).where(Alarm.model == model, Alarm.ended.is_(None)).order_by(Alarm.number)
    return list(session.scalars(query))


def notify(store: Store, model: str, address: str, now: datetime) -> str:
    """Send the open alarms that were not sent yet as one message to the webhook.

    The message contains ids of captures but no customer's text, because nobody controls what the address does with it.

    Returns:
        Why the message did not arrive; empty if it did, or if there was none to send.
    """
    with store.session() as session:
        unsent = [alarm for alarm in open_alarms(session, model) if alarm.told is None]
        if not unsent:
            return ""
        sentences = "\n".join(f"• {sentence(alarm)}" for alarm in unsent)
        try:
            send(address, f"{model} drifts:\n{sentences}", {"alarms": [as_json(alarm) for alarm in unsent]})
        except NotSent as error:
            return str(error)
        for alarm in unsent:
            alarm.told = now
    return ""


def sentence(alarm: Alarm) -> str:
    """An alarm as a sentence."""
    detail = alarm.detail
    window = "the last day" if detail["days"] == 1 else f"{detail['days']} days"
    return f"{detail['title']}, {window} ({detail['rows']:,} requests): {detail['said']}"


def as_json(alarm: Alarm) -> Mapping[str, Any]:
    """An alarm as JSON values."""
    return {
        "number": alarm.number,
        "time": alarm.time.isoformat(),
        "model": alarm.model,
        "version": alarm.version,
        "kind": alarm.kind,
        **alarm.detail,
    }
