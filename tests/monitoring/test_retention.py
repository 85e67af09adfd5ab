"""What is deleted after how long, and what is not."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from sqlalchemy import select

from tests.conftest import make_spec
from tests.monitoring.request_logs import capture, feedback, write
from tunewright.config import Spec
from tunewright.monitoring.store import Store, tables
from tunewright.monitoring.store.collect import Collected, collect
from tunewright.monitoring.store.retention import Pruned, prune
from tunewright.serving.captures import RequestLog

DAY = 24 * 3600


def days_ago(count: float) -> str:
    return (datetime.now(UTC) - timedelta(days=count)).isoformat()


def ids(store: Store) -> set[str]:
    with store.session() as session:
        return set(session.scalars(select(tables.Capture.id)))


def age(folder: Path, days: float) -> None:
    for file in folder.rglob("*.jsonl"):
        os.utime(file, (time.time(), time.time() - days * DAY))


def test_old_captures_go_with_their_second_opinions_and_reviewed_ones_stay(
    tmp_path: Path, store: Store, folder: Path
) -> None:
    spec = make_spec(tmp_path, monitor={"keep_days": 30})
    write(
        folder,
        *(capture(name, time=days_ago(31)) for name in ("old", "reviewed", "undone")),
        capture("young", time=days_ago(29)),
        feedback("reviewed", time=days_ago(31)),
    )
    collect(spec, store)
    with store.session() as session:
        for name in ("old", "young"):
            session.add(tables.SecondOpinion(capture_id=name, source="api", time=datetime.now(UTC), answer="refund"))
        session.add(
            tables.Review(
                capture_id="undone",
                reviewer="me",
                time=datetime.now(UTC),
                source="review",
                right=True,
                undone=datetime.now(UTC),
                undone_by="me",
            )
        )
    assert prune(spec, store) == Pruned(captures=2, second_opinions=1, request_logs=0)
    assert ids(store) == {"reviewed", "young"}
    with store.session() as session:
        assert session.scalars(select(tables.SecondOpinion.capture_id)).all() == ["young"]
        assert sum(session.scalars(select(tables.Tally.captured))) == 4, "tallies outlive what they count"
        assert len(session.scalars(select(tables.Review)).all()) == 2
    assert prune(spec, store) == Pruned(0, 0, 0)


def test_other_projects_in_the_same_store_keep_what_they_have(tmp_path: Path, store: Store) -> None:
    spec = make_spec(tmp_path, monitor={"keep_days": 30})
    old = datetime.now(UTC) - timedelta(days=31)
    models = (spec.name, tables.label_queue_of(spec.name), "others", tables.label_queue_of("others"))
    with store.session() as session:
        for model in models:
            session.add(
                tables.Capture(id=model, time=old, model=model, version="v1", request="a", answer="", confidence=None)
            )
            session.add(tables.SecondOpinion(capture_id=model, source="api", time=old, answer="refund"))
    assert prune(spec, store) == Pruned(captures=2, second_opinions=2, request_logs=0)
    assert ids(store) == {"others", "others/labels"}
    with store.session() as session:
        assert set(session.scalars(select(tables.SecondOpinion.capture_id))) == {"others", "others/labels"}


def test_a_journal_goes_when_it_is_old_and_collected_and_nobody_writes_it(
    spec: Spec, store: Store, folder: Path
) -> None:
    write(folder / "gone", capture("a"))
    running = RequestLog(folder / "running")
    assert running.keep(capture("b"))
    collect(spec, store)
    write(folder / "behind", capture("c"))
    age(folder, 91)
    write(folder / "young", capture("d"))
    assert prune(spec, store).request_logs == 1
    assert sorted(file.parent.name for file in folder.rglob("*.jsonl")) == ["behind", "running", "young"]
    assert running.keep(capture("e"))
    assert collect(spec, store) == Collected(captures=3)
    assert {"c", "d", "e"} <= ids(store)


def test_what_a_kill_cut_short_keeps_no_journal(spec: Spec, store: Store, folder: Path) -> None:
    write(folder, capture("a"))
    (file,) = folder.iterdir()
    file.write_bytes(file.read_bytes() + b'{"kind": "capt')
    collect(spec, store)
    age(folder, 91)
    assert prune(spec, store).request_logs == 1


def test_a_journal_that_comes_back_from_a_backup_is_not_collected_again(spec: Spec, store: Store, folder: Path) -> None:
    write(folder, capture("a", time=days_ago(100)), feedback("b"))
    (file,) = folder.iterdir()
    backup = file.read_bytes()
    collect(spec, store)
    age(folder, 91)
    assert prune(spec, store) == Pruned(1, 0, 1)
    file.write_bytes(backup)
    assert collect(spec, store) == Collected()
