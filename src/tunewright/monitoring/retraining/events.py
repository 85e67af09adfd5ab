"""The events of served versions in the store, which also show how far a retraining came."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from tunewright.core.processes import whoami
from tunewright.monitoring.store import Store
from tunewright.monitoring.store.tables import Deployment

TRAINED, REFUSED = "trained", "refused"
SHADOW, CANARY = "shadow", "canary"
PROMOTED, ROLLED_BACK = "promoted", "rolled-back"
UNFINISHED = (TRAINED, SHADOW, CANARY)
"""The events after which a retraining continues."""


def record(store: Store, model: str, version: str, event: str, detail: Mapping[str, Any]) -> Deployment:
    """Store an event of a version."""
    now, by = datetime.now(UTC), whoami()
    row = Deployment(time=now, model=model, version=version, event=event, by=by, detail=dict(detail))
    with store.session() as session:
        session.add(row)
    return row


def last(session: Session, model: str, *events: str) -> Deployment | None:
    """The last event of a model; None if there is none.

    Args:
        events: the kinds that count; by default all.
    """
    query = select(Deployment).where(Deployment.model == model).order_by(Deployment.number.desc()).limit(1)
    if events:
        query = query.where(Deployment.event.in_(events))
    return session.scalars(query).first()
