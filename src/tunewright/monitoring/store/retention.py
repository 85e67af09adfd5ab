"""Delete old captures that nobody reviewed, and old request logs that are collected."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, exists, select

from tunewright.config import Spec
from tunewright.monitoring.store import tables
from tunewright.monitoring.store.database import Store
from tunewright.monitoring.store.tables import label_queue_of
from tunewright.serving.captures import request_logs

_AT_ONCE = 5000
"""Captures to delete in one transaction, so that no writer waits long."""
DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Pruned:
    """Counts of what was deleted."""

    captures: int
    second_opinions: int
    request_logs: int


def prune(spec: Spec, store: Store) -> Pruned:
    """Delete a project's captures older than `monitor.keep_days` by their server's clock, the second opinions on them,
    and fully collected request logs of that age. Requests that wait for a label are captures, too. Reviews, reviewed
    captures, tallies and what other projects have in the same store stay.

    Raises:
        UserError: the database does not answer. What was deleted before stays deleted.
    """
    until = datetime.now(UTC) - timedelta(days=spec.monitor.keep_days)
    captures = opinions = 0
    while deleted := _delete_some(store, (spec.name, label_queue_of(spec.name)), until):
        captures += deleted[0]
        opinions += deleted[1]
    return Pruned(captures, opinions, _delete_request_logs(spec, store))


def _delete_some(store: Store, models: Sequence[str], until: datetime) -> tuple[int, int] | None:
    """Delete one batch of some models' captures. Returns the numbers of captures and second opinions; None if nothing
    was left to delete."""
    capture, opinion, review = tables.Capture, tables.SecondOpinion, tables.Review
    reviewed = exists().where(review.capture_id == capture.id, review.undone.is_(None))
    with store.session() as session:
        mine = select(capture.id).where(capture.model.in_(models), capture.time < until, ~reviewed)
        old = list(session.scalars(mine.limit(_AT_ONCE)))
        if not old:
            return None
        # The condition is repeated, because somebody may have reviewed a capture meanwhile.
        gone = list(session.scalars(delete(capture).where(capture.id.in_(old), ~reviewed).returning(capture.id)))
        opinions = list(
            session.scalars(delete(opinion).where(opinion.capture_id.in_(gone)).returning(opinion.capture_id))
        )
    return len(gone), len(opinions)


def _delete_request_logs(spec: Spec, store: Store) -> int:
    """Delete request logs. Their marks stay, so that a log restored from a backup is not collected again."""
    with store.session() as session:
        marks = {mark.file: mark.offset for mark in session.scalars(select(tables.Mark))}
    oldest = time.time() - DAY_SECONDS * spec.monitor.keep_days
    return sum(
        _delete_request_log(file, marks.get(file.name, 0), oldest)
        for file in request_logs(spec.path(spec.monitor.captures))
    )


def _delete_request_log(file: Path, offset: int, oldest: float) -> bool:
    """Delete a request log if it is old, collected to its last whole line, and no server writes to it."""
    try:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mtime >= oldest or _is_held(stream.fileno()):
                return False
            stream.seek(offset)
            if any(line.endswith(b"\n") for line in stream):
                return False
        file.unlink()
    except FileNotFoundError:  # another process prunes, too
        return False
    return True


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a network folder without locks; servers start a new file each day, so an old file is not in use
        return False
    return False
