"""What serves, since when, and what waits; and back to what served before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.monitoring.retraining import events
from tunewright.monitoring.retraining.due import Outlook, outlook
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Deployment
from tunewright.project import ServedBundle, Serving, read_serving, write_serving
from tunewright.serving.presence import Presence, servers_of

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
