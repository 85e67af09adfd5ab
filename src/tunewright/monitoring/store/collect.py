"""Move the lines of the servers' request logs into the store, each line once.

Lines are moved in batches. The transaction that stores a batch also stores how far the log was read, so a killed
process has done both or neither. If two processes collect at once, one waits and then continues from there.
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
from tunewright.project import NoBundle, Project
from tunewright.serving.captures import CaptureRecord, Feedback, SecondAnswer, read_entry, request_logs

BATCH_LINES = 1000
BATCH_BYTES = 16 << 20
"""The size at which a batch is full."""
ANYBODY = "anonymous"
"""The reviewer of feedback at a server without keys."""
_TURN = "*"
"""The mark that the collecting process locks; no file has this name."""
_INPUTS = ("id", "request", "answer", "confidence", "escalate", "in_scope")
"""The columns that `appraise` reads."""
_APPRAISED = ("novelty", "disagreement", "priority", "cluster")
_COUNTED = ("captured", "answered", "escalated", "prompt_tokens", "answer_tokens", "seconds")


@dataclass(frozen=True)
class Collected:
    """Counts of the lines that were moved into the store."""

    captures: int = 0
    feedback: int = 0
    repeated: int = 0
    """Captures whose id was already in the store; the first one counts."""
    unreadable: int = 0
    """Lines that were skipped."""

    def __add__(self, other: Collected) -> Collected:
        return Collected(
            self.captures + other.captures,
            self.feedback + other.feedback,
            self.repeated + other.repeated,
            self.unreadable + other.unreadable,
        )


def collect(spec: Spec, store: Store) -> Collected:
    """Move new lines of the servers' request logs into the store, and draw the audit sample of past days. Servers may
    keep writing, and other processes may collect at the same time. Unreadable lines are reported and skipped.

    Raises:
        UserError: the database does not answer. Lines that were moved before stay moved.
    """
    with store.session() as session:
        marks = {mark.file: mark.offset for mark in session.scalars(select(tables.Mark))}
    reference = cache(partial(_reference, spec))  # loaded only if there is something to collect
    collected = Collected()
    for file in request_logs(spec.path(spec.monitor.captures)):
        at = marks.get(file.name, 0)
        while lines := _whole_lines(file, at):
            with store.session() as session:
                start = _take_turn(session, store, file)
                if start != at:  # another process has collected meanwhile
                    at = start
                    continue
                moved = _move(session, store, file, at, lines, reference)
                at += sum(map(len, lines))
                session.merge(tables.Mark(file=file.name, offset=at))
            collected += moved
    with store.session() as session:
        draw(session, spec.name, datetime.now(UTC))
    return collected


@contextmanager
def collected_store(spec: Spec) -> Iterator[Store]:
    """The store of a spec after collecting; closed at the end.

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
    """A batch of a request log's whole lines. A line without an end is still being written, or was cut by a kill."""
    lines: list[bytes] = []
    size = 0
    with suppress(FileNotFoundError), file.open("rb") as stream:  # the file may have been pruned meanwhile
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
    """How far a request log was collected. No other process collects until the transaction ends."""
    # The insert comes first, because SQLite waits for its turn at a write; PostgreSQL waits for the row.
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
    """Store a batch of lines.

    Args:
        offset: the offset of the first line.
        reference: returns the reference for the captures' novelty.
    """
    captures: dict[str, dict[str, Any]] = {}
    reviews: list[dict[str, Any]] = []
    opinions: list[dict[str, Any]] = []
    repeated, broken = 0, list[int]()
    for line in lines:
        try:
            entry = read_entry(line)
            row = _row(entry)
        except (ValueError, OverflowError):
            broken.append(offset)
        else:
            if isinstance(entry, Feedback):
                reviews.append(row)
            elif isinstance(entry, SecondAnswer):
                opinions.append(row)
            elif captures.setdefault(row["id"], row) is not row:
                repeated += 1
        offset += len(line)
    if reviews:
        session.execute(insert(tables.Review), reviews)
    if opinions:
        session.execute(store.insert(tables.SecondOpinion).on_conflict_do_nothing(), opinions)
    new = _add_captures(session, store, captures, reference())
    judged = {row["capture_id"] for row in (*reviews, *opinions)}
    _appraise_again(session, judged - {row["id"] for row in new}, reference())
    _count(session, store, new)
    if broken:
        say(f"{file}: {len(broken)} lines can't be read and were skipped, the first at byte {broken[0]:,}.")
    return Collected(len(new), len(reviews), repeated + len(captures) - len(new), len(broken))


def _add_captures(
    session: Session, store: Store, rows: Mapping[str, dict[str, Any]], reference: Reference | None
) -> list[dict[str, Any]]:
    """Add captures and return those that are new."""
    existing = set(session.scalars(select(tables.Capture.id).where(tables.Capture.id.in_(rows))))
    new = [row for key, row in rows.items() if key not in existing]
    if not new:
        return []
    captures = [tables.Capture(**{name: row[name] for name in _INPUTS}) for row in new]
    appraise(session, captures, reference)
    for row, capture in zip(new, captures, strict=True):
        row |= {name: getattr(capture, name) for name in _APPRAISED}
    session.execute(store.insert(tables.Capture), new)
    return new


def _appraise_again(session: Session, ids: Collection[str], reference: Reference | None) -> None:
    """Appraise older captures again that have new feedback or second opinions."""
    if ids:
        appraise(session, session.scalars(select(tables.Capture).where(tables.Capture.id.in_(ids))).all(), reference)


def _reference(spec: Spec) -> Reference | None:
    """The reference of the serving bundle. Collecting goes on without it if it can't be read."""
    try:
        return load_reference(Project(spec.folder).champion())
    except NoBundle:
        return None
    except UserError as error:
        say(f"The captures can't be compared with the model's reference. {error.paragraph()}")
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


def _row(entry: CaptureRecord | Feedback | SecondAnswer) -> dict[str, Any]:
    """An entry as a row of its table."""
    if isinstance(entry, CaptureRecord):
        return _capture(entry)
    return _review(entry) if isinstance(entry, Feedback) else _opinion(entry)


def _capture(entry: CaptureRecord) -> dict[str, Any]:
    """A capture as a row of the store."""
    confidence = entry.confidence
    return {
        "id": _text(entry.id),
        "time": _time(entry.time),
        "model": _name(entry.model),
        "version": _name(entry.version),
        "by": None if entry.by is None else _name(entry.by),
        "request": _text(entry.request),
        "answer": _text(entry.answer),
        "confidence": confidence if confidence is not None and math.isfinite(confidence) else None,
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


def _opinion(entry: SecondAnswer) -> dict[str, Any]:
    """Another model's answer as a row of the store."""
    return {
        "capture_id": _text(entry.id),
        "source": _name(entry.by),
        "time": _time(entry.time),
        "answer": _text(entry.answer),
        "confidence": None,
    }


def _time(text: str) -> datetime:
    """The time by the server's clock, right or wrong.

    Raises:
        ValueError: the text is not a time.
        OverflowError: the time does not exist in UTC.
    """
    time = datetime.fromisoformat(text)
    return time.astimezone(UTC) if time.tzinfo else time.replace(tzinfo=UTC)


def _text(text: str) -> str:
    """A text without NUL characters, which PostgreSQL does not accept."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


def _name(text: str) -> str:
    return _text(text)[: tables.NAME]
