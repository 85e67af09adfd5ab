"""Export captures as chat JSONL for `data.train`."""

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
"""Captures in memory at a time."""
MODEL = "model"
"""The source of an answer without a review."""


def export(spec: Spec, store: Store, target: Path, *, reviewed: bool = False, since: datetime | None = None) -> int:
    """Write the captures of a project's model as OpenAI's messages in order of time, each with the corrected answer if
    there is one.

    An expert's review counts before a client's feedback, and the last one counts. A capture is left out if its review
    has no right answer: the answer is wrong, or nobody can tell.

    Args:
        target: a new file, which only its owner can read.
        reviewed: only reviewed captures.
        since: only captures from then on.

    Returns:
        The number of written captures.

    Raises:
        UserError: the file exists or can't be written, or the database does not answer.
    """
    if target.exists():
        raise UserError("The file exists.", where=target, fix="Name another one with --out.")
    query = select(Capture).where(Capture.model == spec.name).order_by(Capture.time, Capture.id).limit(_PAGE)
    if since:
        query = query.where(Capture.time >= since)
    if reviewed:
        query = query.where(Capture.id.in_(select(Review.capture_id).where(Review.undone.is_(None))))
    partial = target.with_name(f".{target.name}.partial")
    count = 0
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
            for row in _rows(store, query):
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        partial.rename(target)
    except OSError as error:
        raise UserError("The file can't be written.", where=target, why=f"{error.strerror}.") from None
    finally:
        partial.unlink(missing_ok=True)
    return count


def _rows(store: Store, query: Select[Any]) -> Iterator[dict[str, Any]]:
    for captures in _pages(store, query):
        verdicts = _verdicts(store, captures)
        for capture in captures:
            row = _row(capture, verdicts.get(capture.id))
            if row:
                yield row


def _pages(store: Store, query: Select[Any]) -> Iterator[Sequence[Capture]]:
    """The captures in pages, one transaction per page, so that a slow disk does not block writers."""
    captures: Sequence[Capture] = ()
    while True:
        page = query
        if captures:
            last = captures[-1]
            page = query.where(tuple_(Capture.time, Capture.id) > (last.time, last.id))
        with store.session() as session:
            captures = session.scalars(page).all()
        if not captures:
            return
        yield captures


def _verdicts(store: Store, captures: Iterable[Capture]) -> dict[str, Review]:
    """The review that counts, by capture."""
    ids = [capture.id for capture in captures]
    query = select(Review).where(Review.capture_id.in_(ids), Review.undone.is_(None))
    with store.session() as session:
        # Feedback comes first, then the order is by time: the last one stays in the dictionary.
        reviews = sorted(session.scalars(query), key=lambda each: (each.source != BY_CLIENT, each.time, each.number))
    return {review.capture_id: review for review in reviews}


def _row(capture: Capture, review: Review | None) -> dict[str, Any] | None:
    """A line of the export; None if there is no right answer."""
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
