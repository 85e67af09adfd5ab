"""What has lain long enough is deleted: captures that nobody reviewed, and journals that are collected."""

from __future__ import annotations

import fcntl
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import delete, exists, select

from tunewright.config import Spec
from tunewright.monitoring.store import tables
from tunewright.monitoring.store.database import Store
from tunewright.serving.captures import request_logs

_AT_ONCE = 5000
"""Captures that are deleted in one transaction, so that nobody waits long."""
DAY_SECONDS = 24 * 3600


@dataclass(frozen=True)
class Pruned:
    """What was deleted."""

    captures: int
    second_opinions: int
    request_logs: int


def prune(spec: Spec, store: Store) -> Pruned:
    """Delete what is older than `monitor.keep_days`: captures, by what their server's clock said, with the second
    opinions on them, and journals that are collected to their end. Reviews and what was reviewed stay, and the tallies.

    Raises:
        UserError: the database does not answer. What was deleted before that stays deleted.
    """
    until = datetime.now(UTC) - timedelta(days=spec.monitor.keep_days)
    captures = opinions = 0
    while found := _delete_some(store, until):
        captures += found[0]
        opinions += found[1]
    return Pruned(captures, opinions, _delete_request_logs(spec, store))


def _delete_some(store: Store, until: datetime) -> tuple[int, int] | None:
    """How many captures and second opinions were deleted; None where nothing was left to delete."""
    capture, opinion, review = tables.Capture, tables.SecondOpinion, tables.Review
    reviewed = exists().where(review.capture_id == capture.id, review.undone.is_(None))
    with store.session() as session:
        old = list(session.scalars(select(capture.id).where(capture.time < until, ~reviewed).limit(_AT_ONCE)))
        if not old:
            return None
        # Asked again: somebody may have reviewed one meanwhile.
        gone = list(session.scalars(delete(capture).where(capture.id.in_(old), ~reviewed).returning(capture.id)))
        opinions = list(
            session.scalars(delete(opinion).where(opinion.capture_id.in_(gone)).returning(opinion.capture_id))
        )
    return len(gone), len(opinions)


def _delete_request_logs(spec: Spec, store: Store) -> int:
    """Marks stay, so that a journal that comes back from a backup is not collected again."""
    with store.session() as session:
        marks = {mark.file: mark.offset for mark in session.scalars(select(tables.Mark))}
    oldest = time.time() - DAY_SECONDS * spec.monitor.keep_days
    return sum(
        _delete_request_log(file, marks.get(file.name, 0), oldest)
        for file in request_logs(spec.path(spec.monitor.captures))
    )


def _delete_request_log(file: Path, offset: int, oldest: float) -> bool:
    """Delete a journal if it is older, collected to its last whole line, and no server writes it."""
    try:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mtime >= oldest or _is_held(stream.fileno()):
                return False
            stream.seek(offset)
            if any(line.endswith(b"\n") for line in stream):
                return False
        file.unlink()
    except FileNotFoundError:  # somebody else prunes too
        return False
    return True


def _is_held(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a network folder without locks; a server begins a new file each day, so the age tells
        return False
    return False
