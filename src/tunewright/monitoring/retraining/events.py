"""What happened to what serves, as the store remembers it: also how far a retraining came."""

from __future__ import annotations

import getpass
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Deployment

TRAINED, REFUSED = "trained", "refused"
SHADOW, CANARY = "shadow", "canary"
PROMOTED, ROLLED_BACK = "promoted", "rolled-back"
UNFINISHED = (TRAINED, SHADOW, CANARY)
"""After which a retraining goes on."""


def record(store: Store, model: str, version: str, event: str, detail: Mapping[str, Any]) -> Deployment:
    """Note that something happened to a version of a model."""
    row = Deployment(time=datetime.now(UTC), model=model, version=version, event=event, by=_who(), detail=dict(detail))
    with store.session() as session:
        session.add(row)
    return row


def last(session: Session, model: str, *events: str) -> Deployment | None:
    """What happened last to a model; None where nothing did.

    Args:
        events: of these; of all by default.
    """
    asked = select(Deployment).where(Deployment.model == model).order_by(Deployment.number.desc()).limit(1)
    if events:
        asked = asked.where(Deployment.event.in_(events))
    return session.scalars(asked).first()


def _who() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return "unknown"
