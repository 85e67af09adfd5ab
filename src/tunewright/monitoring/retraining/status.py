"""The serving version, the corrections that wait for retraining, and the rollback to the previous version."""

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
from tunewright.monitoring.retraining.serves import changing_what_serves
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import EXPERT, Alarm, Capture, Deployment, Review
from tunewright.project import ServedBundle, Serving, read_serving, write_serving
from tunewright.serving.presence import Presence, servers_of

_EVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Outlook:
    """The reviews and alarms since the last training."""

    reviews: int
    """Experts' reviews since the start of the last training."""
    wanted: int
    """Reviews from which on retraining is due without an alarm."""
    alarms: list[str]
    """The traits that drifted."""
    under_way: str
    """The stage of an unfinished retraining; empty if there is none."""

    @property
    def enough(self) -> int:
        """Reviews from which on retraining is due now. After an alarm half of them are enough. Fewer teach little, and
        no test could show the gain."""
        return math.ceil(self.wanted / 2) if self.alarms else self.wanted

    @property
    def due(self) -> bool:
        """Whether a scheduled command should start a retraining."""
        return bool(self.under_way) or self.reviews >= self.enough

    @property
    def sentence(self) -> str:
        """Why retraining is due, or why not."""
        if self.under_way:
            return f"Due: the last retraining is unfinished ({self.under_way})."
        counts = f"{'Due' if self.due else 'Not due'}: {self.reviews:,} of {self.enough:,} new reviews"
        if self.alarms:
            return f"{counts}; after an alarm half of monitor.reviews_to_retrain suffice ({', '.join(self.alarms)})."
        return f"{counts} (monitor.reviews_to_retrain), and no alarm since the last training."


def outlook(spec: Spec, store: Store) -> Outlook:
    """Whether a spec's model should be retrained, and why."""
    with store.session() as session:
        now = events.last(session, spec.name)
        trained = events.last(session, spec.name, events.TRAINED, events.REFUSED)
        since = datetime.fromisoformat(trained.detail["begun"]) if trained else _EVER
        kinds = session.scalars(
            select(Alarm.kind).where(Alarm.model == spec.name, Alarm.time > since).order_by(Alarm.time)
        )
        alarms = list(dict.fromkeys(kinds))
        # Reviews count by their time, not by their dataset: some are rejected, and a killed training has already
        # written its corrections. A client's feedback alone becomes no data, so a training would learn nothing from it.
        reviews = session.scalar(
            select(func.count())
            .select_from(Review)
            .join(Capture, Capture.id == Review.capture_id)
            .where(Capture.model == spec.name, Review.source.in_(EXPERT))
            .where(Review.undone.is_(None), Review.time > since)
        )
    under_way = f"{now.event}, version {now.version}" if now and now.event in events.UNFINISHED else ""
    return Outlook(reviews or 0, spec.monitor.reviews_to_retrain, alarms, under_way)


_EVENTS = 10


@dataclass(frozen=True)
class Status:
    """The state of a served project."""

    serving: Serving | None
    """None: there is no `serving.json`, so the latest bundle serves."""
    servers: list[Presence]
    """The live servers."""
    outlook: Outlook
    history: list[Deployment]
    """The last events, newest first."""


def status(spec: Spec, store: Store, runs: Path) -> Status:
    """The serving version, the live servers, and the outlook for retraining."""
    with store.session() as session:
        query = select(Deployment).where(Deployment.model == spec.name).order_by(Deployment.number.desc())
        history: Sequence[Deployment] = session.scalars(query.limit(_EVENTS)).all()
    return Status(read_serving(runs), servers_of(runs), outlook(spec, store), list(history))


def roll_back(spec: Spec, store: Store, runs: Path) -> tuple[str, ServedBundle]:
    """End a canary, or if there is none, let the previous champion serve again. A retraining that runs meanwhile does
    not undo this.

    Returns:
        (the version that no longer serves, the bundle that serves now).

    Raises:
        UserError: there is no previous champion.
    """
    with changing_what_serves(runs):
        return _rolled_back(spec, store, runs)


def _rolled_back(spec: Spec, store: Store, runs: Path) -> tuple[str, ServedBundle]:
    serving = read_serving(runs)
    if serving and serving.challenger:
        gone, bundle, then = serving.challenger.version, serving.challenger.bundle, serving.alone()
    else:
        earlier = serving.rolled_back() if serving else None
        if serving is None or earlier is None:
            raise UserError("There is no previous champion.", where=runs)
        if not (runs / earlier.champion.bundle).is_dir():
            raise UserError("The previous champion's bundle is gone.", where=runs / earlier.champion.bundle)
        gone, bundle, then = serving.champion.version, serving.champion.bundle, earlier
    # The event is noted first. If the process is killed before the file is written, the user repeats the command. In
    # the other order a retraining would restore the version, and a repeated command would go back by two.
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
