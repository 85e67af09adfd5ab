"""Collecting: what servers wrote in their journals is moved into the store, each line once.

Lines are moved in batches. How far a journal was read is noted in the transaction that stores what was read, so that
whoever is killed has either done both or neither, and of two who collect at once one waits and then goes on from there.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from tunewright.config import Spec
from tunewright.core.errors import UserError
from tunewright.core.progress import say
from tunewright.drift.reference import Reference, load_reference
from tunewright.monitoring.queue import appraise, draw
from tunewright.monitoring.store import tables
from tunewright.monitoring.store.database import Store, open_store
from tunewright.project import Project
from tunewright.serving.captures import CaptureRecord, Feedback, read_entry, request_logs

BATCH_LINES = 1000
BATCH_BYTES = 16 << 20
"""Beyond which a batch takes no further line."""
ANYBODY = "anonymous"
"""Who gives feedback where the server asks nobody for a key."""
_TURN = "*"
"""The mark that whoever collects holds; no file is called so."""
_ASKED = ("id", "request", "answer", "confidence", "escalate", "in_scope")
"""What `appraise` looks at."""
_APPRAISED = ("novelty", "disagreement", "priority", "cluster")
_COUNTED = ("captured", "answered", "escalated", "prompt_tokens", "answer_tokens", "seconds")


@dataclass(frozen=True)
class Collected:
    """What was moved into the store."""

    captures: int = 0
    feedback: int = 0
    repeated: int = 0
    """Captures whose id the store had already; the first one counts."""
    unreadable: int = 0
    """Lines that were passed over."""

    def __add__(self, other: Collected) -> Collected:
        return Collected(
            self.captures + other.captures,
            self.feedback + other.feedback,
            self.repeated + other.repeated,
            self.unreadable + other.unreadable,
        )


def collect(spec: Spec, store: Store) -> Collected:
    """Move what servers have written since the last time into the store. Servers may be writing on, and others may be
    collecting; a line that can't be read is told and passed over. Of days that are over the audit is drawn.

    Raises:
        UserError: the database does not answer. What was moved before that stays moved.
    """
    with store.session() as session:
        marks = {mark.file: mark.offset for mark in session.scalars(select(tables.Mark))}
    reference = cache(partial(_reference, spec))  # read where there is something to collect
    collected = Collected()
    for file in request_logs(spec.path(spec.monitor.captures)):
        at = marks.get(file.name, 0)
        while lines := _whole_lines(file, at):
            with store.session() as session:
                start = _take_turn(session, store, file)
                if start != at:  # somebody else has collected meanwhile
                    at = start
                    continue
                found = _move(session, store, file, at, lines, reference)
                at += sum(map(len, lines))
                session.merge(tables.Mark(file=file.name, offset=at))
            collected += found
    with store.session() as session:
        draw(session, spec.name, datetime.now(UTC))
    return collected


@contextmanager
def collected_store(spec: Spec) -> Iterator[Store]:
    """The store of a spec, what servers have written moved into it; closed at the end.

    Raises:
        UserError: as `open_store` and `collect`.
    """
    store = open_store(spec)
    try:
        collect(spec, store)
        yield store
    finally:
        store.close()


def _whole_lines(file: Path, offset: int) -> list[bytes]:
    """A batch of a journal's lines. One that has no end yet is still being written, or was cut short by a kill."""
    lines: list[bytes] = []
    size = 0
    with suppress(FileNotFoundError), file.open("rb") as stream:  # it was pruned meanwhile
        stream.seek(offset)
        for line in stream:
            if not line.endswith(b"\n"):
                break
            lines.append(line)
            size += len(line)
            if len(lines) == BATCH_LINES or size >= BATCH_BYTES:
                break
    return lines


def _take_turn(session: Session, store: Store, file: Path) -> int:
    """How far a journal was collected. Nobody else collects until the transaction ends."""
    # Writing first, because that is what SQLite waits its turn for; PostgreSQL waits for the row.
    session.execute(store.insert(tables.Mark).on_conflict_do_nothing(), {"file": _TURN, "offset": 0})
    session.execute(select(tables.Mark).where(tables.Mark.file == _TURN).with_for_update())
    return session.scalar(select(tables.Mark.offset).where(tables.Mark.file == file.name)) or 0


def _move(
    session: Session,
    store: Store,
    file: Path,
    offset: int,
    lines: Iterable[bytes],
    reference: Callable[[], Reference | None],
) -> Collected:
    """Store what a batch of lines says.

    Args:
        offset: of the first.
        reference: tells what the captures are compared with.
    """
    captures: dict[str, dict[str, Any]] = {}
    reviews: list[dict[str, Any]] = []
    repeated, broken = 0, list[int]()
    for line in lines:
        try:
            entry = read_entry(line)
            row = _capture(entry) if isinstance(entry, CaptureRecord) else _review(entry)
        except (ValueError, OverflowError):
            broken.append(offset)
        else:
            if isinstance(entry, Feedback):
                reviews.append(row)
            elif captures.setdefault(row["id"], row) is not row:
                repeated += 1
        offset += len(line)
    if reviews:
        session.execute(insert(tables.Review), reviews)
    new = _add_captures(session, store, captures, reference())
    _appraise_again(session, {row["capture_id"] for row in reviews} - {row["id"] for row in new}, reference())
    _count(session, store, new)
    if broken:
        say(f"{file}: {len(broken)} lines can't be read and were passed over, the first at byte {broken[0]:,}.")
    return Collected(len(new), len(reviews), repeated + len(captures) - len(new), len(broken))


def _add_captures(
    session: Session, store: Store, rows: Mapping[str, dict[str, Any]], reference: Reference | None
) -> list[dict[str, Any]]:
    """Returns those that were not there yet."""
    there = set(session.scalars(select(tables.Capture.id).where(tables.Capture.id.in_(rows))))
    new = [row for key, row in rows.items() if key not in there]
    if not new:
        return []
    captures = [tables.Capture(**{name: row[name] for name in _ASKED}) for row in new]
    appraise(session, captures, reference)
    for row, capture in zip(new, captures, strict=True):
        row |= {name: getattr(capture, name) for name in _APPRAISED}
    session.execute(store.insert(tables.Capture), new)
    return new


def _appraise_again(session: Session, ids: Collection[str], reference: Reference | None) -> None:
    """Captures that were there already, and on which somebody has now said something."""
    if ids:
        appraise(session, session.scalars(select(tables.Capture).where(tables.Capture.id.in_(ids))).all(), reference)


def _reference(spec: Spec) -> Reference | None:
    """What the bundle that serves was judged on. One that can't be read keeps nothing from being collected."""
    try:
        return load_reference(Project(spec.folder).champion())
    except UserError as error:
        say(f"What is collected can't be compared with the model's reference. {error.paragraph()}")
        return None


def _count(session: Session, store: Store, captures: Iterable[Mapping[str, Any]]) -> None:
    """Add captures to the tallies of their days."""
    sums: dict[tuple[date, str, str], dict[str, float]] = defaultdict(lambda: dict.fromkeys(_COUNTED, 0))
    for row in captures:
        tally, weight = sums[row["time"].date(), row["model"], row["version"]], row["weight"]
        tally["captured"] += 1
        tally["answered"] += weight
        tally["escalated"] += weight * bool(row["escalate"])
        for name in ("prompt_tokens", "answer_tokens", "seconds"):
            tally[name] += weight * row[name]
    if not sums:
        return
    rows = [
        {"day": day, "model": model, "version": version, **sums[day, model, version]}
        for day, model, version in sorted(sums)
    ]
    new = store.insert(tables.Tally)
    more = {name: getattr(tables.Tally, name) + new.excluded[name] for name in _COUNTED}
    session.execute(new.on_conflict_do_update(index_elements=["day", "model", "version"], set_=more), rows)


def _capture(entry: CaptureRecord) -> dict[str, Any]:
    """An entry as a row of the store."""
    sure = entry.confidence
    return {
        "id": _text(entry.id),
        "time": _time(entry.time),
        "model": _name(entry.model),
        "version": _name(entry.version),
        "by": None if entry.by is None else _name(entry.by),
        "request": _text(entry.request),
        "answer": _text(entry.answer),
        "confidence": sure if sure is not None and math.isfinite(sure) else None,
        "escalate": entry.escalate,
        "in_scope": entry.in_scope,
        "weight": 1 / entry.share,
        "prompt_tokens": entry.prompt_tokens,
        "answer_tokens": entry.answer_tokens,
        "seconds": entry.seconds,
    }


def _review(entry: Feedback) -> dict[str, Any]:
    """Feedback as a row of the store."""
    return {
        "capture_id": _text(entry.id),
        "reviewer": _name(entry.by or ANYBODY),
        "time": _time(entry.time),
        "source": tables.BY_CLIENT,
        "answer": None if entry.answer is None else _text(entry.answer),
        "right": entry.right,
        "comment": _text(entry.comment),
    }


def _time(said: str) -> datetime:
    """As the server's clock said, right or wrong.

    Raises:
        ValueError: it is none.
        OverflowError: it is none in UTC.
    """
    time = datetime.fromisoformat(said)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _text(said: str) -> str:
    """A text as every database takes it: PostgreSQL knows no NUL."""
    return said.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _name(said: str) -> str:
    return _text(said)[: tables.NAME]
