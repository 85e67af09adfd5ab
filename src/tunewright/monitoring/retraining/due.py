"""Whether it is time to train anew, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import func, select

from tunewright.config import Spec
from tunewright.monitoring.retraining import events
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Alarm, Capture, Review

_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Outlook:
    """What has come since the last training."""

    reviews: int
    """Since it began."""
    wanted: int
    """Reviews from which on it is due, alarm or none."""
    alarms: list[str]
    """The traits that drifted."""
    under_way: str
    """What the last retraining still has to do; empty where nothing is left."""

    @property
    def enough(self) -> int:
        """Reviews from which on it is due as things stand. After an alarm half of them are enough; with fewer there is
        little to learn yet, and no test that could show it."""
        return math.ceil(self.wanted / 2) if self.alarms else self.wanted

    @property
    def due(self) -> bool:
        """Whether a command by the clock is to begin."""
        return bool(self.under_way) or self.reviews >= self.enough

    @property
    def sentence(self) -> str:
        """Why it is due, or why not."""
        if self.under_way:
            return f"Due: the last retraining is not at its end ({self.under_way})."
        begun = f"{'Due' if self.due else 'Not due'}: {self.reviews:,} new reviews of the {self.enough:,} that"
        asks = "monitor.reviews_to_retrain asks for"
        if self.alarms:
            return f"{begun} {asks} after an alarm, half of the usual ({', '.join(self.alarms)})."
        return f"{begun} {asks}, and no alarm since the last training."


def outlook(spec: Spec, store: Store) -> Outlook:
    """What speaks for training a spec's model anew."""
    with store.session() as session:
        now = events.last(session, spec.name)
        trained = events.last(session, spec.name, events.TRAINED, events.REFUSED)
        since = datetime.fromisoformat(trained.detail["begun"]) if trained else _EVER
        kinds = session.scalars(
            select(Alarm.kind).where(Alarm.model == spec.name, Alarm.time > since).order_by(Alarm.time)
        )
        alarms = list(dict.fromkeys(kinds))
        # By their time, not by whether they are in a dataset: growth holds some back, and a training that was killed
        # has grown already.
        reviews = session.scalar(
            select(func.count())
            .select_from(Review)
            .join(Capture, Capture.id == Review.capture_id)
            .where(Capture.model == spec.name, Review.undone.is_(None), Review.time > since)
        )
    under_way = f"{now.event}, version {now.version}" if now and now.event in events.UNFINISHED else ""
    return Outlook(reviews or 0, spec.monitor.reviews_to_retrain, alarms, under_way)
