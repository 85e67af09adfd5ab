"""Captures as chat JSONL, which `data.train` reads."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Select, select, tuple_

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.monitoring.store.database import Store
from tunewright.monitoring.store.tables import BY_CLIENT, Capture, Review

_PAGE = 500
"""Captures that are in memory at a time."""
MODEL = "model"
"""The source of an answer that nobody has looked at."""


def export(spec: Spec, store: Store, target: Path, *, reviewed: bool = False, since: datetime | None = None) -> int:
    """Write captures of a project's model as OpenAI's messages, each with the right answer where somebody said one, in
    the order of time.

    What an expert said counts before what who asked said, and of several the last. A capture that was reviewed as
    wrong, or as one that nobody can tell, without a right answer, is left out.

    Args:
        target: a new file, for its owner's eyes only.
        reviewed: only what somebody looked at.
        since: only what was asked from then on.

    Returns:
        How many were written.

    Raises:
        UserError: the file exists or can't be written, or the database does not answer.
    """
    if target.exists():
        raise UserError("The file exists.", where=target, fix="Name another one with --out.")
    wanted = select(Capture).where(Capture.model == spec.name).order_by(Capture.time, Capture.id).limit(_PAGE)
    if since:
        wanted = wanted.where(Capture.time >= since)
    if reviewed:
        wanted = wanted.where(Capture.id.in_(select(Review.capture_id).where(Review.undone.is_(None))))
    partial = target.with_name(f".{target.name}.partial")
    count = 0
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            for row in _rows(store, wanted):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        partial.rename(target)
    except OSError as error:
        raise UserError("The file can't be written.", where=target, why=f"{error.strerror}.") from None
    finally:
        partial.unlink(missing_ok=True)
    return count


def _rows(store: Store, wanted: Select[Any]) -> Iterator[dict[str, Any]]:
    for captures in _pages(store, wanted):
        verdicts = _verdicts(store, captures)
        for capture in captures:
            row = _row(capture, verdicts.get(capture.id))
            if row:
                yield row


def _pages(store: Store, wanted: Select[Any]) -> Iterator[Sequence[Capture]]:
    """Each in a transaction of its own, so that a slow disk holds up no writer."""
    captures: Sequence[Capture] = ()
    while True:
        page = wanted
        if captures:
            last = captures[-1]
            page = wanted.where(tuple_(Capture.time, Capture.id) > (last.time, last.id))
        with store.session() as session:
            captures = session.scalars(page).all()
        if not captures:
            return
        yield captures


def _verdicts(store: Store, captures: Iterable[Capture]) -> dict[str, Review]:
    """By capture the review that counts."""
    ids = [capture.id for capture in captures]
    said = select(Review).where(Review.capture_id.in_(ids), Review.undone.is_(None))
    with store.session() as session:
        # Feedback first, then by time: the last one stays in the dictionary.
        reviews = sorted(session.scalars(said), key=lambda each: (each.source != BY_CLIENT, each.time, each.number))
    return {review.capture_id: review for review in reviews}


def _row(capture: Capture, review: Review | None) -> dict[str, Any] | None:
    """A line; None where there is no right answer."""
    answer = capture.answer if review is None or (review.right and review.answer is None) else review.answer
    if answer is None:
        return None
    meta = {
        "id": capture.id,
        "time": capture.time.isoformat(),
        "model": capture.model,
        "version": capture.version,
        "source": review.source if review else MODEL,
        "reviewer": review.reviewer if review else None,
    }
    turns = (("user", capture.request), ("assistant", answer))
    return {"messages": [{"role": role, "content": content} for role, content in turns], "meta": meta}
