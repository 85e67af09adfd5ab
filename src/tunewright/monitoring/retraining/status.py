"""What serves, since when, and what waits; and back to what served before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import func, select

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.monitoring.retraining import events
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Alarm, Capture, Deployment, Review
from tunewright.project import ServedBundle, Serving, read_serving, write_serving
from tunewright.serving.presence import Presence, servers_of

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


_TOLD = 10


@dataclass(frozen=True)
class Status:
    serving: Serving | None
    """None: no file says what serves, so the latest bundle does."""
    servers: list[Presence]
    """Those that live."""
    outlook: Outlook
    history: list[Deployment]
    """What happened to what serves, the last first."""


def status(spec: Spec, store: Store, runs: Path) -> Status:
    """What serves, and what waits to be learnt."""
    with store.session() as session:
        asked = select(Deployment).where(Deployment.model == spec.name).order_by(Deployment.number.desc())
        history: Sequence[Deployment] = session.scalars(asked.limit(_TOLD)).all()
    return Status(read_serving(runs), servers_of(runs), outlook(spec, store), list(history))


def roll_back(spec: Spec, store: Store, runs: Path) -> tuple[str, ServedBundle]:
    """End a canary, or where there is none have the champion before this one serve again.

    Returns: the version that was taken away, and what serves now.

    Raises:
        UserError: there is nothing to go back to.
    """
    serving = read_serving(runs)
    if serving and serving.challenger:
        gone, bundle, then = serving.challenger.version, serving.challenger.bundle, serving.alone()
    else:
        earlier = serving.rolled_back() if serving else None
        if serving is None or earlier is None:
            raise UserError("There is no champion before this one.", where=runs)
        if not (runs / earlier.champion.bundle).is_dir():
            raise UserError("The bundle of the champion before this one is gone.", where=runs / earlier.champion.bundle)
        gone, bundle, then = serving.champion.version, serving.champion.bundle, earlier
    # Noted first: a kill between the two then leaves something to do again. The other way round a retraining would
    # bring back what was taken away, and who typed it again would go back by two.
    sentence = f"Rolled back by hand to version {then.champion.version}."
    events.record(
        store,
        spec.name,
        gone,
        events.ROLLED_BACK,
        {"bundle": bundle, "champion": then.champion.version, "sentence": sentence},
    )
    write_serving(runs, then)
    return gone, then.champion
